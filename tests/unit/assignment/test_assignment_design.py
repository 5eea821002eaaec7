"""What may not be in a design is refused by its field, its value and what is allowed."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assignment.domain.design_rules import require_valid, require_valid_change
from services.assignment.domain.experiment import (
    TOTAL_WEIGHT,
    Allocation,
    Prerequisite,
    RampStage,
    Schedule,
    Switchback,
    ValueType,
    Variant,
)
from services.assignment.domain.feature_rules import LARGEST_INTEGER
from shared.errors import Code, DomainError
from tests.unit.assignment.making import START, Make

HOUR = timedelta(hours=1)


def refused(call: Callable[[], object], field: str, *parts: str) -> DomainError:
    with pytest.raises(DomainError) as caught:
        call()
    error = caught.value
    assert error.code is Code.INVALID_ARGUMENT
    described = [v.description for v in error.violations if v.field == field]
    assert described, error.message
    for part in parts:
        assert any(part in text for text in described), described
    return error


def valued(*values: Any) -> tuple[Variant, ...]:
    return tuple(
        Variant(key, 5000, value=json.dumps(value))
        for key, value in zip(("control", "green"), values, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "good", "bad", "part"),
    [
        (ValueType.BOOLEAN, [False, True], 1, "true or false"),
        (ValueType.BOOLEAN, [False, False], "true", "true or false"),
        (ValueType.STRING, ["", "x"], True, "text"),
        (ValueType.INTEGER, [0, -LARGEST_INTEGER], LARGEST_INTEGER + 1, "9007199254740991"),
        (ValueType.INTEGER, [1.0, 2], 1.5, "whole number"),
        (ValueType.INTEGER, [1, 2], True, "whole number"),
        (ValueType.INTEGER, [1, 2], None, "whole number"),
        (ValueType.FLOAT, [1, 2.5], "2", "finite number"),
        (ValueType.FLOAT, [1, 2.5], False, "finite number"),
        (ValueType.FLOAT, [1, 2.5], {"a": 1}, "finite number"),
    ],
)
def test_values_are_of_the_type_of_the_experiment(
    make: Make, kind: ValueType, good: list[Any], bad: Any, part: str
) -> None:
    require_valid(make.design(value_type=kind, variants=valued(*good)))
    wrong = make.design(value_type=kind, variants=valued(good[0], bad))
    refused(lambda: require_valid(wrong), "variants[1].value", part, f"value_type is {kind}")


def test_every_variant_has_a_value_where_the_type_asks_for_one(make: Make) -> None:
    for kind in (ValueType.BOOLEAN, ValueType.STRING, ValueType.INTEGER, ValueType.FLOAT):
        error = refused(lambda: require_valid(make.design(value_type=kind)), "variants[0].value")  # noqa: B023  called at once
        assert len(error.violations) == 2


def test_keys_and_payloads_take_no_value_beside_them(make: Make) -> None:
    refused(lambda: require_valid(make.design(variants=valued("a", "b"))), "variants[0].value")
    objects = make.design(value_type=ValueType.OBJECT, variants=valued("a", "b"))
    refused(lambda: require_valid(objects), "variants[0].value", "payload")
    refused(lambda: require_valid(objects), "variants[1].payload", "a JSON object")
    payloads = tuple(replace(v, payload="{}", value=None) for v in objects.variants)
    require_valid(replace(objects, variants=payloads))


def test_a_value_counts_as_payload(make: Make) -> None:
    long = make.design(value_type=ValueType.STRING, variants=valued("x" * 65_535, "y"))
    refused(lambda: require_valid(long), "variants[0].payload", "65537 bytes")


def test_the_key_that_stands_for_no_variant_is_refused(make: Make) -> None:
    variants = (Variant("default", 5000), Variant("green", 5000))
    wrong = make.design(variants=variants, control="green")
    refused(lambda: require_valid(wrong), "variants[0].key", "no variant")


def test_nothing_is_dropped_before_the_start(make: Make) -> None:
    variants = (Variant("control", 5000), Variant("green", 5000, dropped=True))
    refused(lambda: require_valid(make.design(variants=variants)), "variants[1].dropped")


def test_the_control_is_never_dropped(make: Make) -> None:
    variants = (Variant("control", 5000, dropped=True), Variant("green", 5000))
    old, new = make.design(), make.design(variants=variants)
    refused(lambda: require_valid_change(old, new), "variants[0].dropped", "the control")


@pytest.mark.parametrize(
    ("weights", "part"),
    [
        ((10_001, -1), "0 to 10000"),
        ((0, 0), "sum to 0"),
        ((9999, 0), "sum to 9999"),
    ],
)
def test_weights_of_a_bandit_are_bounded_too(
    make: Make, weights: tuple[int, int], part: str
) -> None:
    variants = tuple(Variant(k, w) for k, w in zip(("control", "green"), weights, strict=True))
    design = make.design(allocation=Allocation.BANDIT, variants=variants)
    with pytest.raises(DomainError, match=part):
        require_valid(design)


def test_a_bandit_may_give_a_variant_nothing_and_a_fixed_split_may_not(make: Make) -> None:
    variants = (Variant("control", TOTAL_WEIGHT), Variant("green", 0))
    require_valid(make.design(allocation=Allocation.BANDIT, variants=variants))
    refused(
        lambda: require_valid(make.design(variants=variants)), "variants[1].weight", "1 to 10000"
    )


@pytest.mark.parametrize(
    ("schedule", "field", "part"),
    [
        (Schedule(START, START), "schedule.stop_time", "after 2026-03-01T12"),
        (Schedule(START, START - HOUR), "schedule.stop_time", "after 2026-03-01T12"),
        (
            Schedule(START, ramp=(RampStage(START, 200),)),
            "schedule.ramp[0].time",
            "after the start",
        ),
        (
            Schedule(None, START, (RampStage(START, 200),)),
            "schedule.ramp[0].time",
            "before the stop",
        ),
        (
            Schedule(ramp=(RampStage(START, 200), RampStage(START, 300))),
            "schedule.ramp[1].time",
            "stage before",
        ),
        (
            Schedule(ramp=(RampStage(START, 200), RampStage(START + HOUR, 200))),
            "schedule.ramp[1].traffic_slots",
            "more than 200",
        ),
        (Schedule(ramp=(RampStage(START, 100),)), "schedule.ramp[0].traffic_slots", "which is 100"),
        (
            Schedule(ramp=tuple(RampStage(START + n * HOUR, 101 + n) for n in range(51))),
            "schedule.ramp",
            "at most 50",
        ),
    ],
)
def test_a_schedule_is_in_order(make: Make, schedule: Schedule, field: str, part: str) -> None:
    refused(lambda: require_valid(make.design(schedule=schedule, traffic_slots=100)), field, part)


def test_a_schedule_in_order_is_taken(make: Make) -> None:
    ramp = (RampStage(START + HOUR, 200), RampStage(START + 2 * HOUR, 10_000))
    full = Schedule(START, START + 3 * HOUR, ramp)
    require_valid(make.design(schedule=full, traffic_slots=100))


def test_a_stage_that_has_happened_may_stay_when_the_rest_changes(make: Make) -> None:
    done, ahead = RampStage(START, 200), RampStage(START + HOUR, 400)
    old = make.design(traffic_slots=200, schedule=Schedule(ramp=(done, ahead)))
    later = replace(old, schedule=Schedule(ramp=(done, RampStage(START + HOUR, 500))))
    assert require_valid_change(old, later) is later
    fewer = replace(old, schedule=Schedule(ramp=(RampStage(START + HOUR, 150),)))
    refused(lambda: require_valid_change(old, fewer), "schedule.ramp[0].traffic_slots")
    more_now = replace(old, traffic_slots=1000)
    assert require_valid_change(old, more_now) is more_now


@pytest.mark.parametrize("washout", [-1, 3600, 3601])
def test_a_washout_leaves_time_in_the_window(make: Make, washout: int) -> None:
    require_valid(make.design(switchback=Switchback(3600, 3599)))
    wrong = make.design(switchback=Switchback(3600, washout))
    refused(lambda: require_valid(wrong), "switchback.washout_s", "0 to 3599")


def test_a_switchback_keeps_no_unit_at_its_variant(make: Make) -> None:
    wrong = make.design(switchback=Switchback(3600), sticky=True, anonymous_unit_type="device")
    error = refused(lambda: require_valid(wrong), "sticky", "switchback")
    assert {v.field for v in error.violations} == {"sticky", "anonymous_unit_type"}


@pytest.mark.parametrize("field", ["anonymous_unit_type", "observed_unit_type"])
def test_other_unit_types_are_named_by_the_rule(make: Make, field: str) -> None:
    require_valid(make.design(**{field: "device"}))
    refused(lambda: require_valid(make.design(**{field: "Device"})), field, "lower-case")


def test_the_anonymous_id_is_of_another_type(make: Make) -> None:
    wrong = make.design(anonymous_unit_type="user")
    refused(lambda: require_valid(wrong), "anonymous_unit_type", "other than unit_type")


def test_prerequisites_are_at_most_8_and_named_once(make: Make) -> None:
    eight = tuple(Prerequisite(f"e{n}") for n in range(8))
    require_valid(make.design(prerequisites=eight))
    nine = make.design(prerequisites=(*eight, Prerequisite("e8")))
    refused(lambda: require_valid(nine), "prerequisites", "at most 8")
    twice = make.design(prerequisites=(Prerequisite("a"), Prerequisite("a", ("b",))))
    refused(lambda: require_valid(twice), "prerequisites", "'a' 2 times")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("targeting", "{}", "targeting"),
        ("prerequisites", (Prerequisite("a"),), "prerequisites"),
        ("sticky", True, "sticky"),
        ("anonymous_unit_type", "device", "anonymous_unit_type"),
        ("schedule", Schedule(ramp=(RampStage(START, 1),)), "schedule.ramp"),
        ("allocation", Allocation.BANDIT, "allocation"),
    ],
)
def test_what_others_assign_is_not_decided_here(
    make: Make, field: str, value: Any, named: str
) -> None:
    refused(lambda: require_valid(make.external(**{field: value})), named, "EXTERNAL")


weights = st.lists(st.integers(-5, 20_000), min_size=0, max_size=120)


@given(weights)
def test_weights_are_taken_exactly_when_they_give_every_bucket_to_one_variant(
    found: list[int],
) -> None:
    variants = tuple(Variant(f"v{index}", weight) for index, weight in enumerate(found))
    design = Make().design(variants=variants, control="v0")
    sound = 2 <= len(found) <= 100 and all(1 <= w <= 10_000 for w in found) and sum(found) == 10_000
    if sound:
        assert require_valid(design) is design
    else:
        with pytest.raises(DomainError) as caught:
            require_valid(design)
        assert caught.value.violations


@given(st.integers(2, 100), st.randoms(use_true_random=False))
def test_any_cut_of_the_buckets_is_taken(count: int, random: Any) -> None:
    cuts = sorted(random.sample(range(1, TOTAL_WEIGHT), count - 1))
    bounds = [0, *cuts, TOTAL_WEIGHT]
    variants = tuple(Variant(f"v{n}", bounds[n + 1] - bounds[n]) for n in range(count))
    require_valid(Make().design(variants=variants, control="v0"))
