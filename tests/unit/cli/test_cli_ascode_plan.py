"""What a plan says and in which order it goes, without a service."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.assignment.v1 import audience_pb2, condition_pb2, domain_pb2, layer_pb2
from touchstone.assignment.v1 import experiment_pb2 as pb

from services.cli.ascode.compare import without_learned_weights
from services.cli.ascode.export import exported
from services.cli.ascode.faults import Place
from services.cli.ascode.kinds import KINDS
from services.cli.ascode.movement import TOTAL, having, lost, movement
from services.cli.ascode.plan import in_phases, make_plan
from services.cli.ascode.present import Key, Present
from services.cli.ascode.resources import Declared
from services.cli.ascode.showing import remarks

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


def needing(name: str, *variants: str) -> list[pb.Prerequisite]:
    return [pb.Prerequisite(experiment=f"projects/p/experiments/{name}", variants=variants)]


def test_units_of_those_that_need_what_pauses_are_counted_and_of_those_that_need_them() -> None:
    paused = experiment(slots=4000, state=pb.Experiment.STATE_PAUSED)
    before = there(
        declared("Experiment", "first", experiment(slots=4000)),
        declared("Experiment", "second", experiment(slots=5000, prerequisites=needing("first"))),
        declared("Experiment", "third", experiment(prerequisites=needing("second", "v1"))),
        declared("Experiment", "idle", experiment(state=DRAFT, prerequisites=needing("first"))),
        declared("Experiment", "other", experiment()),
    )
    found = make_plan([declared("Experiment", "first", paused)], before).consequences
    assert {each.experiment: each.leaving for each in found} == {
        "second": pytest.approx(0.4 * 0.5),
        "third": pytest.approx(0.4 * 0.5 * 0.5),
    }
    assert {each.cause for each in found} == {"Experiment first"}


def test_a_dropped_variant_counts_only_for_those_that_ask_for_it() -> None:
    dropped = experiment((2500, 7500))
    dropped.variants[0].dropped = True
    before = there(
        declared("Experiment", "first", experiment((2500, 7500))),
        declared("Experiment", "any", experiment(prerequisites=needing("first"))),
        declared("Experiment", "gone", experiment(prerequisites=needing("first", "v0"))),
        declared("Experiment", "kept", experiment(prerequisites=needing("first", "v1"))),
    )
    found = make_plan([declared("Experiment", "first", dropped)], before).consequences
    assert {each.experiment: each.leaving for each in found} == {"any": 0.25, "gone": 0.25}


def test_more_traffic_takes_nothing_from_those_that_need_it() -> None:
    before = there(
        declared("Experiment", "first", experiment(slots=4000)),
        declared("Experiment", "second", experiment(prerequisites=needing("first"))),
    )
    plan = make_plan([declared("Experiment", "first", experiment(slots=6000))], before)
    assert plan.differs
    assert not plan.consequences


@settings(deadline=None, max_examples=40)
@given(
    before=experiments(),
    after=experiments(),
    wanted=st.sets(st.sampled_from(["v0", "v1", "v4"])),
)
def test_what_is_lost_is_that_of_counting_every_slot_and_bucket(
    before: pb.Experiment, after: pb.Experiment, wanted: set[str]
) -> None:
    old, new = (one.traffic_slots if one.state == RUNNING else 0 for one in (before, after))
    pairs = list(zip(bucket_by_bucket(before), bucket_by_bucket(after), strict=True))
    one_of = wanted or {variant.key for variant in (*before.variants, *after.variants)}
    gone = sum(1 for had, gets in pairs if had in one_of and gets not in one_of)
    had = sum(1 for had, _ in pairs if had in one_of)
    expected = (min(old, new) * gone + max(0, old - new) * had) / (TOTAL * TOTAL)
    assert lost(before, after, sorted(wanted)) == pytest.approx(expected)
    assert having(before, sorted(wanted)) == pytest.approx(old * had / (TOTAL * TOTAL))


def audience(country: str) -> audience_pb2.Audience:
    made = audience_pb2.Audience()
    made.condition.compare.attribute = "country"
    made.condition.compare.operator = condition_pb2.OPERATOR_EQUAL
    made.condition.compare.values.add(string_value=country)
    return made


def test_a_changed_audience_names_the_running_experiments_that_read_it() -> None:
    nordic = condition_pb2.Condition(audience="projects/p/audiences/nordic")
    around = audience_pb2.Audience(condition=nordic)
    by = [nordic, condition_pb2.Condition(audience="projects/p/audiences/around")]
    before = there(
        declared("Audience", "nordic", audience("SE")),
        declared("Audience", "around", around),
        declared("Experiment", "direct", experiment(slots=3000, targeting=by[0])),
        declared("Experiment", "behind", experiment(targeting=by[1])),
        declared("Experiment", "needing", experiment(prerequisites=needing("behind"))),
        declared("Experiment", "idle", experiment(state=DRAFT, targeting=by[0])),
        declared("Experiment", "other", experiment()),
    )
    plan = make_plan([declared("Audience", "nordic", audience("NO"))], before)
    assert [(each.experiment, each.enrolled, each.leaving) for each in plan.consequences] == [
        ("behind", 1.0, None),
        ("direct", 0.3, None),
        ("needing", 1.0, None),
    ]
    assert any("Experiment direct, which runs on up to 30.00%" in line for line in remarks(plan))


def test_what_is_over_and_what_names_it_is_exported_to_no_file() -> None:
    running = experiment(layer="projects/p/layers/shared")
    project = there(
        declared("Layer", "shared", layer_pb2.Layer()),
        declared("Layer", "old", layer_pb2.Layer()),
        declared("Layer", "lost", layer_pb2.Layer(domain="projects/p/domains/released")),
        declared("Experiment", "old", experiment(state=STOPPED, layer="projects/p/layers/old")),
        declared("Experiment", "runs", running),
        declared("Experiment", "waits", experiment(state=DRAFT, prerequisites=needing("old"))),
        declared("Holdout", "year", domain_pb2.Holdout(experiments=["projects/p/experiments/old"])),
        declared("Holdout", "all", domain_pb2.Holdout(slots=100)),
    )
    found = exported(project)
    names = [(one.kind.name, one.resource_id) for one, _ in found.documents]
    assert names == [("Layer", "shared"), ("Experiment", "runs"), ("Holdout", "all")]
    assert {(one.kind.name, one.resource_id): why for one, why in found.left_out} == {
        ("Layer", "lost"): "it names Domain released, which is over",
        ("Experiment", "old"): "it is STOPPED, which nothing new can be",
        ("Experiment", "waits"): "it names Experiment old, which is over",
        ("Holdout", "year"): "it names Experiment old, which is over",
    }


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
