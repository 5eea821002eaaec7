"""What may not be in a design: values, targeting apart, and everything that is more than a split.

Each function names every fault: the field, the value and what is allowed.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from services.assignment.domain.experiment import (
    UNIT_TYPE,
    UNIT_TYPE_RULE,
    Allocation,
    AssignmentSource,
    Design,
    RampStage,
    Schedule,
    ValueType,
)
from services.assignment.domain.limits import Limits
from shared import errors
from shared.errors import FieldViolation

LARGEST_INTEGER = 2**53 - 1
"""The largest whole number that every client reads back as it was written."""


def fault(field: str, value: object, allowed: str) -> FieldViolation:
    """One fault: what was given, and what is allowed."""
    return FieldViolation(field, f"is {errors.shown(value)}; allowed: {allowed}")


def value_faults(design: Design) -> Iterator[FieldViolation]:
    """Values that are missing, superfluous or of another type."""
    kind = design.value_type
    for index, variant in enumerate(design.variants):
        field = f"variants[{index}].value"
        if kind in (ValueType.KEY, ValueType.OBJECT):
            if variant.value is not None:
                source = "key" if kind is ValueType.KEY else "payload"
                yield fault(
                    field,
                    variant.value,
                    f"none, because value_type is {kind}, whose values are the variants' {source}",
                )
            if kind is ValueType.OBJECT and variant.payload is None:
                allowed = "a JSON object, because value_type is OBJECT"
                yield fault(f"variants[{index}].payload", None, allowed)
            continue
        check, allowed = _OF_TYPE[kind]
        found = None if variant.value is None else json.loads(variant.value)
        if not check(found):
            yield fault(field, found, f"{allowed}, because value_type is {kind}")


def variant_key_faults(design: Design) -> Iterator[FieldViolation]:
    """Keys that mean something else already."""
    for index, variant in enumerate(design.variants):
        if variant.key == "default":
            allowed = "another key: clients see 'default' where a unit has no variant"
            yield fault(f"variants[{index}].key", variant.key, allowed)
        if variant.dropped and variant.key == design.control:
            allowed = f"false: {variant.key!r} is the control, against which the others are judged"
            yield fault(f"variants[{index}].dropped", True, allowed)


def drop_faults(design: Design) -> Iterator[FieldViolation]:
    """Variants that are given up before they were ever given."""
    for index, variant in enumerate(design.variants):
        if variant.dropped:
            allowed = "false before the start; leave the variant out instead"
            yield fault(f"variants[{index}].dropped", True, allowed)


def prerequisite_faults(design: Design, limits: Limits) -> Iterator[FieldViolation]:
    """Prerequisites that are too many or named twice."""
    many = len(design.prerequisites)
    if many > limits.max_prerequisites:
        yield fault("prerequisites", f"{many} of them", f"at most {limits.max_prerequisites}")
    for key, count in Counter(needed.experiment_id for needed in design.prerequisites).items():
        if count > 1:
            yield FieldViolation(
                "prerequisites", f"name the experiment {key!r} {count} times; name it once"
            )


def schedule_faults(schedule: Schedule, limits: Limits) -> Iterator[FieldViolation]:
    """Times out of order."""
    start, stop, ramp = schedule.start_time, schedule.stop_time, schedule.ramp
    if start and stop and stop <= start:
        yield fault("schedule.stop_time", stop.isoformat(), f"a time after {start.isoformat()}")
    if len(ramp) > limits.max_ramp_stages:
        yield fault("schedule.ramp", f"{len(ramp)} stages", f"at most {limits.max_ramp_stages}")
    for index, stage in enumerate(ramp):
        field = f"schedule.ramp[{index}].time"
        if start and stage.time <= start:
            yield fault(field, stage.time.isoformat(), f"after the start, {start.isoformat()}")
        if stop and stage.time >= stop:
            yield fault(field, stage.time.isoformat(), f"before the stop, {stop.isoformat()}")
    for index, (before, after) in enumerate(pairwise(ramp), start=1):
        yield from _stage_faults(index, before, after)


def _stage_faults(index: int, before: RampStage, after: RampStage) -> Iterator[FieldViolation]:
    field = f"schedule.ramp[{index}]"
    if after.time <= before.time:
        allowed = f"a time after {before.time.isoformat()}, of the stage before"
        yield fault(f"{field}.time", after.time.isoformat(), allowed)
    if after.traffic_slots <= before.traffic_slots:
        allowed = f"more than {before.traffic_slots}, of the stage before"
        yield fault(f"{field}.traffic_slots", after.traffic_slots, allowed)


def new_stage_faults(old: Schedule, design: Design) -> Iterator[FieldViolation]:
    """Stages that are new and give no more than the experiment has.

    A stage that has happened, or that more traffic has overtaken, may stay where it was.
    """
    for index, stage in enumerate(design.schedule.ramp):
        if stage in old.ramp or stage.traffic_slots > design.traffic_slots:
            continue
        allowed = f"more than traffic_slots, which is {design.traffic_slots}"
        yield fault(f"schedule.ramp[{index}].traffic_slots", stage.traffic_slots, allowed)


def switchback_faults(design: Design) -> Iterator[FieldViolation]:
    """Windows without time left, and what cannot be had together with them."""
    windows = design.switchback
    if windows is None:
        return
    if not 0 <= windows.washout_s < windows.window_s:
        allowed = f"0 to {windows.window_s - 1}, less than window_s"
        yield fault("switchback.washout_s", windows.washout_s, allowed)
    kept = "because a switchback gives a window its variant, which no unit can keep"
    if design.sticky:
        yield fault("sticky", True, f"false, {kept}")
    if design.anonymous_unit_type:
        yield fault("anonymous_unit_type", design.anonymous_unit_type, f"none, {kept}")


def unit_type_faults(design: Design) -> Iterator[FieldViolation]:
    """Other types of units that are none, or the same."""
    for field in ("anonymous_unit_type", "observed_unit_type"):
        other = getattr(design, field)
        if other and UNIT_TYPE.fullmatch(other) is None:
            yield fault(field, other, UNIT_TYPE_RULE)
    if design.anonymous_unit_type == design.unit_type:
        allowed = f"none, or a type other than unit_type, which is {design.unit_type!r}"
        yield fault("anonymous_unit_type", design.anonymous_unit_type, allowed)


def external_faults(design: Design) -> Iterator[FieldViolation]:
    """What an experiment that others assign cannot have."""
    if design.source is not AssignmentSource.EXTERNAL:
        return
    used = {
        "targeting": design.targeting is not None,
        "prerequisites": bool(design.prerequisites),
        "sticky": design.sticky,
        "anonymous_unit_type": bool(design.anonymous_unit_type),
        "schedule.ramp": bool(design.schedule.ramp),
        "allocation": design.allocation is Allocation.BANDIT,
    }
    for field, is_used in used.items():
        if is_used:
            yield FieldViolation(
                field, "is given; allowed: none, because others assign an EXTERNAL experiment"
            )


def _is_number(found: object) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)


def _is_whole(found: object) -> bool:
    return _is_number(found) and found == int(found) and abs(found) <= LARGEST_INTEGER  # type: ignore[call-overload,arg-type]  # a finite number


_OF_TYPE: dict[ValueType, tuple[Callable[[object], bool], str]] = {
    ValueType.BOOLEAN: (lambda found: isinstance(found, bool), "true or false"),
    ValueType.STRING: (lambda found: isinstance(found, str), "text"),
    ValueType.INTEGER: (
        _is_whole,
        f"a whole number from -{LARGEST_INTEGER} to {LARGEST_INTEGER}",
    ),
    ValueType.FLOAT: (_is_number, "a finite number"),
}
