"""A design is valid as a whole, and its life takes only the allowed steps."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.assignment.domain.design_rules import (
    require_sound,
    require_valid,
    require_valid_change,
)
from services.assignment.domain.experiment import State, Variant, require_id
from services.assignment.domain.lifecycle import move, revise
from services.assignment.domain.limits import LIMITS, Limits
from shared.errors import Code, DomainError
from tests.unit.assignment.making import Make


def halves(*keys: str) -> tuple[Variant, ...]:
    return tuple(Variant(key, 10_000 // len(keys)) for key in keys)


def refused(call: Callable[[], object], *parts: str) -> DomainError:
    with pytest.raises(DomainError) as caught:
        call()
    for part in parts:
        assert part in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"variants": (Variant("control", 5000), Variant("b", 4000))}, "variants", "sum to 9000"),
        ({"variants": (Variant("control", 5001), Variant("b", 5000))}, "variants", "sum to 10001"),
        ({"variants": (Variant("control", 10_000),)}, "variants", "2 to 100 variants"),
        ({"variants": (Variant("control", 10_000), Variant("b", 0))}, "variants[1].weight", "0"),
        (
            {"variants": (Variant("control", 10_001), Variant("b", -1))},
            "variants[1].weight",
            "-1",
        ),
        ({"variants": halves("control", "control")}, "variants", "2 times"),
        ({"variants": halves("control", "B b")}, "variants[1].key", "a-z"),
        ({"variants": halves("control", "")}, "variants[1].key", "1 to 63"),
        ({"control": "blue"}, "control_variant", "one of ['control', 'green']"),
        ({"unit_type": "User"}, "unit_type", "lower-case"),
        ({"layer": ""}, "layer", "1 to 63"),
        ({"traffic_slots": 0}, "traffic_slots", "1 to 10000"),
        ({"traffic_slots": 10_001}, "traffic_slots", "1 to 10000"),
        ({"salt": "a:b"}, "salt", "not allowed"),
        (
            {"variants": (Variant("control", 5000), Variant("b", 5000, payload="x" * 65_537))},
            "variants[1].payload",
            "65536 bytes",
        ),
    ],
)
def test_a_wrong_design_names_the_field_and_what_is_allowed(
    make: Make, changes: dict[str, Any], field: str, part: str
) -> None:
    error = refused(lambda: require_valid(make.design(**changes)), part)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.reason == "INVALID_FIELD"
    assert field in {violation.field for violation in error.violations}


def test_101_variants_are_too_many_and_100_are_not(make: Make) -> None:
    keys = [f"v{number}" for number in range(100)]
    require_valid(make.design(variants=halves(*keys), control="v0"))
    many = tuple(Variant(f"v{n}", 100 if n < 99 else 50) for n in range(101))
    refused(lambda: require_valid(make.design(variants=many, control="v0")), "101 variants")


def test_payloads_are_bounded_in_all_too(make: Make) -> None:
    full = [Variant(f"v{n}", 2000, payload="x" * LIMITS.max_payload_bytes) for n in range(4)]
    require_valid(make.design(variants=(*full, Variant("v4", 2000)), control="v0"))
    beyond = make.design(variants=(*full, Variant("v4", 2000, payload="{}")), control="v0")
    error = refused(lambda: require_valid(beyond), "262146 bytes in all", "262144 bytes as JSON")
    assert [violation.field for violation in error.violations] == ["variants"]


def test_every_fault_is_named_at_once(make: Make) -> None:
    wrong = make.design(unit_type="?", traffic_slots=-1, variants=(), control="c")
    error = refused(lambda: require_valid(wrong))
    assert {v.field for v in error.violations} == {
        "unit_type",
        "traffic_slots",
        "variants",
        "control_variant",
    }


def test_a_limit_that_is_lowered_later_takes_no_design_away(make: Make) -> None:
    design = make.design(variants=(Variant("control", 5000), Variant("b", 5000, payload="x" * 99)))
    lowered = Limits(max_variants=1, max_payload_bytes=50)
    refused(lambda: require_valid(design, lowered), "1 variants", "50 bytes")
    assert require_sound(design) is design
    renamed = replace(design, display_name="New")
    assert require_valid_change(design, renamed, lowered) is renamed
    longer = replace(design, variants=(Variant("control", 5000), Variant("b", 5000, "", "x" * 100)))
    error = refused(lambda: require_valid_change(design, longer, lowered), "100 bytes")
    assert [violation.field for violation in error.violations] == ["variants[1].payload"]


@pytest.mark.parametrize(
    "changes",
    [
        {"variants": (Variant("control", 5000), Variant("b", 4999))},
        {"variants": halves("control", "control")},
        {"variants": tuple(Variant(f"v{n}", 1) for n in range(257)), "control": "v0"},
        {"control": "blue"},
        {"layer": ""},
        {"traffic_slots": 0},
        {"salt": "a:b"},
    ],
)
def test_what_nothing_can_follow_from_is_not_read_back(make: Make, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        require_sound(make.design(**changes))


def test_an_external_design_owns_no_slots(make: Make) -> None:
    assert require_valid(make.external()).layer == ""
    refused(lambda: require_valid(make.external(layer="checkout")), "layer", "owns no slots")
    refused(lambda: require_valid(make.external(traffic_slots=5)), "traffic_slots", "owns no slots")


@pytest.mark.parametrize("bad", ["", "A", "1a", "a_b", "a" * 64, "a b", "ä"])
def test_ids_are_bounded(bad: str) -> None:
    refused(lambda: require_id("experiment_id", bad), "experiment_id", "1 to 63")


ALLOWED = {
    (State.DRAFT, State.RUNNING),
    (State.DRAFT, State.ARCHIVED),
    (State.RUNNING, State.PAUSED),
    (State.RUNNING, State.STOPPED),
    (State.PAUSED, State.RUNNING),
    (State.PAUSED, State.STOPPED),
    (State.STOPPED, State.ARCHIVED),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("to", [s for s in State if s is not State.DRAFT])
def test_each_step_of_life_is_allowed_or_refused(make: Make, state: State, to: State) -> None:
    before = make.experiment(state)
    if (state, to) in ALLOWED:
        after = move(before, to, make.at(7, timedelta(hours=1)))
        assert (after.state, after.config_version, after.etag) == (to, 7, "v7")
        assert after.update_time == make.start + timedelta(hours=1)
    else:
        error = refused(lambda: move(before, to, make.at(7)), str(state))
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


def test_start_and_stop_times_are_those_of_the_first_start_and_the_stop(make: Make) -> None:
    life = make.experiment()
    for hour, to in enumerate(
        [State.RUNNING, State.PAUSED, State.RUNNING, State.STOPPED, State.ARCHIVED]
    ):
        life = move(life, to, make.at(hour + 2, timedelta(hours=hour)))
    assert life.start_time == make.start
    assert life.stop_time == make.start + timedelta(hours=3)


def test_a_draft_changes_in_everything_but_what_is_fixed_at_creation(make: Make) -> None:
    draft = make.experiment()
    design = make.design(variants=halves("a", "b"), control="a", traffic_slots=3)
    assert revise(draft, design, make.at(2)).design == design
    refused(lambda: revise(draft, make.design(unit_type="device"), make.at(2)), "unit_type")
    refused(lambda: revise(draft, make.design(salt="other"), make.at(2)), "salt")


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED])
def test_once_started_traffic_grows_and_nothing_else_that_decides_changes(
    make: Make, state: State
) -> None:
    started = make.experiment(state, traffic_slots=2000)
    assert revise(started, make.design(traffic_slots=2001), make.at(2)).design.traffic_slots == 2001
    refused(lambda: revise(started, make.design(traffic_slots=1999), make.at(2)), "2000 to 1999")
    weights = (Variant("control", 4000), Variant("green", 6000))
    refused(
        lambda: revise(started, make.design(traffic_slots=2000, variants=weights), make.at(2)),
        "variants",
        "a new experiment",
    )


def test_texts_change_until_the_experiment_is_archived(make: Make) -> None:
    renamed = make.design(display_name="New")
    for state in (State.DRAFT, State.RUNNING, State.PAUSED, State.STOPPED):
        assert revise(make.experiment(state), renamed, make.at(2)).design.display_name == "New"
    refused(lambda: revise(make.experiment(State.ARCHIVED), renamed, make.at(2)), "nothing")


def test_experiments_are_values(make: Make) -> None:
    assert replace(make.experiment(), config_version=2) != make.experiment()
    with pytest.raises(AttributeError):
        make.experiment().state = State.RUNNING  # type: ignore[misc]  # that it fails is the point
