"""Decisions: who is enrolled, which variant, and that a ramp never reshuffles."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from touchstone_assignment.bucketing import HashVersion, bucketer, unit_bytes
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.decision import (
    EXTERNAL,
    MISSING_UNIT,
    NOT_IN_SLOTS,
    NOT_RUNNING,
    UNKNOWN_EXPERIMENT,
    Decision,
    Reason,
)
from touchstone_assignment.subject import Subject

from services.assignment.domain.experiment import Experiment, State, Variant
from services.assignment.domain.layer import Layer
from services.assignment.ports import ProjectConfig
from services.assignment.wire.ruleset import to_ruleset
from tests.unit.assignment.making import Make

UNITS = [f"user-{number}" for number in range(20_000)]
THREE = (Variant("a", 3334), Variant("b", 3333), Variant("c", 3333))


def decide_all(
    experiment: Experiment, layer: Layer, units: Sequence[str] = UNITS
) -> list[Decision]:
    decide = evaluator_of(experiment, layer).experiments[experiment.experiment_id].decide
    return [decide(Subject({"user": unit})) for unit in units]


def evaluator_of(experiment: Experiment, *layers: Layer) -> Evaluator:
    experiments = {experiment.experiment_id: experiment}
    config = ProjectConfig(9, experiments, {layer.layer_id: layer for layer in layers})
    return compile_ruleset(to_ruleset(config, "acme"), no_lists)


def no_lists(digest: str) -> IdSet:
    raise LookupError(digest)


def in_split(variant: str) -> Decision:
    return Decision(variant, Reason.SPLIT, variant)


def test_a_whole_layer_enrols_everyone_at_the_weights(make: Make) -> None:
    layer = make.layer().allocate("button", 10_000, make.at(2))
    running = make.experiment(State.RUNNING, variants=THREE, control="a")
    counts = Counter(decision.variant for decision in decide_all(running, layer))
    expected = [len(UNITS) * variant.weight / 10_000 for variant in THREE]
    observed = [counts[variant.key] for variant in THREE]
    assert sum(observed) == len(UNITS)
    assert stats.chisquare(observed, expected).pvalue > 1e-4


@pytest.mark.parametrize("version", HashVersion)
def test_slot_and_split_follow_their_own_salts(make: Make, version: HashVersion) -> None:
    layer = make.layer(hash_version=version).allocate("button", 2500, make.at(2))
    running = make.experiment(State.RUNNING, hash_version=version, traffic_slots=2500)
    slot = bucketer(version, "layer/checkout", 10_000)
    split = bucketer(version, "split/button", 10_000)
    for unit, decision in zip(UNITS, decide_all(running, layer), strict=True):
        key = unit_bytes(unit)
        if slot(key) >= 2500:
            assert decision == NOT_IN_SLOTS
        else:
            variant = "control" if split(key) < 5000 else "green"
            assert decision == in_split(variant)


def test_enrolment_says_nothing_about_the_variant(make: Make) -> None:
    one = make.layer().allocate("button", 5000, make.at(2))
    first = make.experiment(State.RUNNING, traffic_slots=5000)
    other_layer = make.layer(layer_id="other", salt="layer/other")
    other_layer = other_layer.allocate("other", 10_000, make.at(2))
    second = make.experiment(State.RUNNING, "other", layer="other", salt="split/other")
    table = np.zeros((3, 2))
    keys = {None: 0, "control": 1, "green": 2}
    pairs = zip(decide_all(first, one), decide_all(second, other_layer), strict=True)
    for mine, yours in pairs:
        table[keys[mine.variant], keys[yours.variant] - 1] += 1
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_experiments_of_one_layer_never_meet(make: Make) -> None:
    layer = make.layer().allocate("one", 4000, make.at(2)).allocate("two", 6000, make.at(3))
    one = decide_all(make.experiment(State.RUNNING, "one", traffic_slots=4000), layer)
    two = decide_all(make.experiment(State.RUNNING, "two", traffic_slots=6000), layer)
    enrolled = [
        (a.variant is not None) + (b.variant is not None) for a, b in zip(one, two, strict=True)
    ]
    assert set(enrolled) == {1}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ramp=st.lists(st.integers(1, 10_000), min_size=2, max_size=5).map(sorted),
    neighbour=st.integers(0, 3000),
    cuts=st.lists(st.integers(1, 9_999), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_no_enrolled_unit_changes_variant_under_any_ramp_up(
    make: Make, ramp: list[int], neighbour: int, cuts: list[int]
) -> None:
    edges = [0, *cuts, 10_000]
    variants = tuple(
        Variant(f"v{index}", end - first) for index, (first, end) in enumerate(pairwise(edges))
    )
    running = make.experiment(State.RUNNING, variants=variants, control="v0")
    layer, units = make.layer(), UNITS[:2000]
    before: dict[str, Decision] = {}
    for step, slots in enumerate(ramp, start=2):
        free = 10_000 - (neighbour if step > 2 else 0)
        layer = layer.allocate("button", min(slots, free), make.at(step))
        if step == 2:
            # A neighbour between two steps leaves the ramp with scattered ranges.
            room = min(neighbour, layer.free_slots(make.start))
            layer = layer.allocate("neighbour", room, make.at(step))
            neighbour = room
        for unit, decision in zip(units, decide_all(running, layer, units), strict=True):
            if unit in before:
                assert decision == before[unit]
            elif decision.variant is not None:
                before[unit] = decision


def test_scaling_weights_instead_of_slots_would_reshuffle(make: Make) -> None:
    """The broken twin: the same ramp by weights moves enrolled units."""

    def arm(bucket: int, share: int) -> str | None:
        return "c" if bucket < share else "t" if bucket < 2 * share else None

    split = bucketer(HashVersion.FLAGD_V2, "split/button", 10_000)
    moved = [
        unit
        for unit in UNITS
        if (low := arm(split(unit_bytes(unit)), 1000)) and low != arm(split(unit_bytes(unit)), 2000)
    ]
    assert len(moved) > 1000


@pytest.mark.parametrize("state", [State.DRAFT, State.PAUSED, State.STOPPED])
def test_an_experiment_that_does_not_run_serves_nobody(make: Make, state: State) -> None:
    layer = make.layer().allocate("button", 10_000, make.at(2))
    assert set(decide_all(make.experiment(state), layer, UNITS[:10])) == {NOT_RUNNING}


def test_a_resumed_experiment_gives_everyone_their_variant_back(make: Make) -> None:
    layer = make.layer().allocate("button", 3000, make.at(2))
    running = make.experiment(State.RUNNING, traffic_slots=3000)
    paused = replace(running, state=State.PAUSED)
    before = decide_all(running, layer)
    assert decide_all(paused, layer) != before
    assert decide_all(replace(paused, state=State.RUNNING), layer) == before


def test_an_archived_experiment_is_not_in_the_ruleset(make: Make) -> None:
    evaluator = evaluator_of(make.experiment(State.ARCHIVED), make.layer())
    assert evaluator.decide("button", Subject({"user": "u"})) == UNKNOWN_EXPERIMENT


def test_an_evaluator_answers_for_what_it_has_and_what_it_has_not(make: Make) -> None:
    layer = make.layer().allocate("button", 10_000, make.at(2))
    external = replace(
        make.experiment(State.RUNNING, "mail"), design=make.external(unit_type="device")
    )
    config = ProjectConfig(
        9, {"button": make.experiment(State.RUNNING), "mail": external}, {"checkout": layer}
    )
    evaluator = compile_ruleset(to_ruleset(config, "acme"), no_lists)
    assert (evaluator.project, evaluator.config_version) == ("acme", 9)
    assert evaluator.decide("button", Subject({"user": "u"})).reason is Reason.SPLIT
    assert evaluator.decide("button", Subject({"device": "u"})) == MISSING_UNIT
    assert evaluator.decide("mail", Subject({"device": "u"})) == EXTERNAL
    assert evaluator.decide("none", Subject({"user": "u"})) == UNKNOWN_EXPERIMENT


def test_ids_outside_printable_ascii_are_encoded(make: Make) -> None:
    layer = make.layer().allocate("button", 10_000, make.at(2))
    evaluator = evaluator_of(make.experiment(State.RUNNING), layer)
    split = bucketer(HashVersion.FLAGD_V2, "split/button", 10_000)
    for unit in ("café", "用户", "50%"):
        encoded = {"café": b"caf%C3%A9", "用户": b"%E7%94%A8%E6%88%B7", "50%": b"50%25"}[unit]
        expected = "control" if split(encoded) < 5000 else "green"
        assert evaluator.decide("button", Subject({"user": unit})).variant == expected
        assert evaluator.explain("button", Subject({"user": unit})).split_bucket == split(encoded)


def test_a_trace_shows_slot_bucket_and_words(make: Make) -> None:
    layer = make.layer().allocate("button", 5000, make.at(2)).allocate("x", 2000, make.at(3))
    button = make.experiment(State.RUNNING, traffic_slots=5000)
    other = make.experiment(State.RUNNING, "x", traffic_slots=2000)
    config = ProjectConfig(9, {"button": button, "x": other}, {"checkout": layer})
    evaluator = compile_ruleset(to_ruleset(config, "acme"), no_lists)
    slot = bucketer(HashVersion.FLAGD_V2, "layer/checkout", 10_000)
    seen = set()
    for number in range(200):
        unit = f"user-{number}"
        found = evaluator.explain("button", Subject({"user": unit}))
        assert found.decision == evaluator.decide("button", Subject({"user": unit}))
        assert (found.unit, found.slot) == (unit, slot(unit_bytes(unit)))
        assert (found.split_bucket is None) is (found.decision == NOT_IN_SLOTS)
        seen.add(found.detail.partition("belongs to ")[2].partition(",")[0])
    assert seen == {"the experiment", "experiment 'x'", "nobody"}
    assert "none was given" in evaluator.explain("button", Subject({})).detail
    paused = evaluator_of(make.experiment(State.PAUSED), layer)
    assert paused.explain("button", Subject({"user": "u"})).detail == "the experiment does not run"
    assert "no experiment 'zzz'" in evaluator.explain("zzz", Subject({"user": "u"})).detail


def test_a_running_experiment_without_its_layer_cannot_be_compiled(make: Make) -> None:
    with pytest.raises(ValueError, match=r"'button': runs without layer 'checkout'"):
        evaluator_of(make.experiment(State.RUNNING))
