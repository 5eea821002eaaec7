"""What a plan says and in which order it goes, without a service."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.assignment.v1 import experiment_pb2 as pb
from touchstone.assignment.v1 import layer_pb2

from services.cli.ascode.compare import without_learned_weights
from services.cli.ascode.faults import Place
from services.cli.ascode.kinds import KINDS
from services.cli.ascode.movement import TOTAL, movement
from services.cli.ascode.plan import in_phases, make_plan
from services.cli.ascode.present import Key, Present
from services.cli.ascode.resources import Declared

HERE = Place("it.yaml", 1, 1)
RUNNING, DRAFT = pb.Experiment.STATE_RUNNING, pb.Experiment.STATE_DRAFT
STOPPED = pb.Experiment.STATE_STOPPED


def experiment(
    weights: tuple[int, ...] = (5000, 5000),
    slots: int = TOTAL,
    state: pb.Experiment.State.ValueType = RUNNING,
    **more: Any,
) -> pb.Experiment:
    variants = [pb.Variant(key=f"v{n}", weight=weight) for n, weight in enumerate(weights)]
    return pb.Experiment(variants=variants, traffic_slots=slots, state=state, **more)


@st.composite
def experiments(draw: st.DrawFn) -> pb.Experiment:
    count = draw(st.integers(2, 5))
    cuts = sorted(draw(st.sets(st.integers(1, TOTAL - 1), min_size=count - 1, max_size=count - 1)))
    edges = [0, *cuts, TOTAL]
    weights = tuple(end - first for first, end in pairwise(edges))
    made = experiment(
        weights, draw(st.integers(1, TOTAL)), draw(st.sampled_from((RUNNING, DRAFT, STOPPED)))
    )
    for variant in made.variants:
        variant.dropped = draw(st.booleans())
    return made


def bucket_by_bucket(one: pb.Experiment) -> list[str]:
    """What each bucket of the split gets; empty for none."""
    return [
        "" if variant.dropped else variant.key
        for variant in one.variants
        for _ in range(variant.weight)
    ]


@settings(deadline=None, max_examples=40)
@given(before=experiments(), after=experiments())
def test_shares_are_those_of_counting_every_slot_and_bucket(
    before: pb.Experiment, after: pb.Experiment
) -> None:
    slots = [one.traffic_slots if one.state == RUNNING else 0 for one in (before, after)]
    pairs = list(zip(bucket_by_bucket(before), bucket_by_bucket(after), strict=True))
    both, only_old = min(slots), max(0, slots[0] - slots[1])
    only_new = max(0, slots[1] - slots[0])
    had = sum(1 for old, _ in pairs if old)
    gets = sum(1 for _, new in pairs if new)
    whole = TOTAL * TOTAL
    found = movement(before, after)
    assert found.enrolled == pytest.approx(slots[0] * had / whole)
    leaving = both * sum(1 for old, new in pairs if old and not new) + only_old * had
    joining = both * sum(1 for old, new in pairs if new and not old) + only_new * gets
    switching = both * sum(1 for old, new in pairs if old and new and old != new)
    assert found.leaving == pytest.approx(leaving / whole)
    assert found.joining == pytest.approx(joining / whole)
    assert found.switching == pytest.approx(switching / whole)


@settings(deadline=None)
@given(one=experiments(), more=st.integers(1, TOTAL))
def test_no_ramp_up_moves_anybody(one: pb.Experiment, more: int) -> None:
    after = pb.Experiment()
    after.CopyFrom(one)
    after.traffic_slots = max(one.traffic_slots, more)
    assert movement(one, after).moved == 0


def test_a_killed_experiment_has_nobody() -> None:
    assert movement(experiment(killed=True), experiment(killed=True)).enrolled == 0


def declared(kind: str, name: str, message: Any) -> Declared:
    return Declared(KINDS[kind], name, message, HERE)


def there(*resources: Declared) -> dict[Key, Present]:
    found = {}
    for each in resources:
        message = type(each.message)()
        message.CopyFrom(each.message)
        message.name = f"projects/p/{each.kind.collection}/{each.resource_id}"
        found[each.key] = Present(each.kind, each.resource_id, message)
    return found


def test_what_stops_goes_first_and_what_starts_goes_last_behind_what_it_needs() -> None:
    old = declared("Experiment", "old", experiment())
    over = declared("Experiment", "old", experiment(state=STOPPED))
    needed = declared("Experiment", "needed", experiment(layer="projects/p/layers/one"))
    needs = [pb.Prerequisite(experiment="projects/p/experiments/needed")]
    first = declared("Experiment", "a-first", experiment(prerequisites=needs))
    layer = declared("Layer", "one", layer_pb2.Layer())
    plan = make_plan([first, over, needed, layer], there(old))
    done = [(verb, step.resource_id) for step, verb in in_phases(plan)]
    assert done == [
        ("Stop", "old"),
        ("Create", "one"),
        ("Create", "needed"),
        ("Create", "a-first"),
        ("Start", "needed"),
        ("Start", "a-first"),
    ]


def test_a_salt_of_a_new_experiment_is_refused() -> None:
    plan = make_plan([declared("Experiment", "new", experiment(salt="mine"))], {})
    ((_, refusal),) = plan.refused
    assert (refusal.field, "chosen by the service" in refusal.reason) == ("salt", True)


def test_a_salt_that_is_the_one_it_has_is_no_difference() -> None:
    one = declared("Experiment", "one", experiment(salt="mine"))
    assert not make_plan([one], there(one)).differs
    without = declared("Experiment", "one", experiment())
    assert not make_plan([without], there(one)).differs


def test_a_state_that_is_not_stated_is_left_alone() -> None:
    silent = declared("Experiment", "one", experiment(state=pb.Experiment.STATE_UNSPECIFIED))
    assert not make_plan([silent], there(declared("Experiment", "one", experiment()))).differs


def test_weights_that_a_bandit_learned_are_its_own() -> None:
    learned = experiment((2000, 8000), allocation=pb.ALLOCATION_BANDIT)
    written = experiment((5000, 5000), allocation=pb.ALLOCATION_BANDIT)
    assert without_learned_weights(learned, written) == learned
    fixed = experiment((5000, 5000))
    assert without_learned_weights(experiment((2000, 8000)), fixed) == fixed
    of_draft = experiment((2000, 8000), state=DRAFT, allocation=pb.ALLOCATION_BANDIT)
    assert without_learned_weights(of_draft, written) == written
