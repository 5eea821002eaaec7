"""Which designs are valid, and which can be worked with at all.

A design is judged in full when it is made, and a change by the faults that it brings. What was
valid once stays in use: reading it back asks only for what deciding cannot do without, so that a
limit which is lowered later takes nobody's experiment away.
"""

import re
from collections import Counter
from collections.abc import Iterator

from touchstone_assignment.bucketing import require_salt

from services.assignment.domain.experiment import (
    ID,
    ID_RULE,
    MAX_TRAFFIC_SLOTS,
    NOTHING_SCHEDULED,
    TOTAL_WEIGHT,
    UNIT_TYPE,
    UNIT_TYPE_RULE,
    Allocation,
    AssignmentSource,
    Design,
    Variant,
)
from services.assignment.domain.feature_rules import (
    drop_faults,
    external_faults,
    fault,
    new_stage_faults,
    prerequisite_faults,
    schedule_faults,
    switchback_faults,
    unit_type_faults,
    value_faults,
    variant_key_faults,
)
from services.assignment.domain.limits import LIMITS, Limits
from shared import errors
from shared.errors import FieldViolation

_VARIANT_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VARIANT_RULE = "1 to 63 characters: a-z or 0-9, then a-z, 0-9, '.', '_' and '-'"
# The compiled split names a variant in a byte.
_MOST_VARIANTS = 256


def require_valid(design: Design, limits: Limits = LIMITS) -> Design:
    """The design as it stands, or INVALID_ARGUMENT with every fault at once."""
    stages = new_stage_faults(NOTHING_SCHEDULED, design)
    return _without(
        (*_unsound(design), *_beyond(design, limits), *stages, *drop_faults(design)), design
    )


def require_valid_change(old: Design, new: Design, limits: Limits = LIMITS) -> Design:
    """The new design, or INVALID_ARGUMENT with every fault that the old one does not have."""
    had = {*_unsound(old), *_beyond(old, limits)}
    stages = new_stage_faults(old.schedule, new) if old.schedule != new.schedule else ()
    faults = (*_unsound(new), *_beyond(new, limits), *stages)
    return _without(tuple(fault for fault in faults if fault not in had), new)


def require_sound(design: Design) -> Design:
    """A stored design as it stands; ValueError when no decision can follow from it."""
    faults = [f"{fault.field} {fault.description}" for fault in _unsound(design)]
    if faults:
        raise ValueError("; ".join(faults))
    return design


def _without(faults: tuple[FieldViolation, ...], design: Design) -> Design:
    if faults:
        raise errors.invalid_fields(faults)
    return design


def _unsound(design: Design) -> Iterator[FieldViolation]:
    """What would make decisions impossible or wrong."""
    try:
        require_salt(design.salt)
    except ValueError as error:
        yield FieldViolation("salt", str(error))
    yield from _source_faults(design)
    yield from _weight_faults(design)
    keys = [variant.key for variant in design.variants]
    for key, count in Counter(keys).items():
        if count > 1:
            yield FieldViolation("variants", f"hold the key {key!r} {count} times; use it once")
    if len(keys) > _MOST_VARIANTS:
        yield fault("variants", f"{len(keys)} variants", f"at most {_MOST_VARIANTS}")
    if design.control not in keys:
        yield fault("control_variant", design.control, f"the key of a variant, one of {keys[:10]}")


def _source_faults(design: Design) -> Iterator[FieldViolation]:
    if design.source is AssignmentSource.EXTERNAL:
        none = "none, because an EXTERNAL experiment owns no slots"
        if design.layer:
            yield fault("layer", design.layer, none)
        if design.traffic_slots:
            yield fault("traffic_slots", design.traffic_slots, none)
        return
    if not design.layer:
        yield fault("layer", design.layer, ID_RULE)
    if not 1 <= design.traffic_slots <= MAX_TRAFFIC_SLOTS:
        yield fault("traffic_slots", design.traffic_slots, f"1 to {MAX_TRAFFIC_SLOTS}")


def _weight_faults(design: Design) -> Iterator[FieldViolation]:
    weights = [variant.weight for variant in design.variants]
    least = 0 if design.allocation is Allocation.BANDIT else 1
    for index, weight in enumerate(weights):
        if not least <= weight <= TOTAL_WEIGHT:
            yield fault(f"variants[{index}].weight", weight, f"{least} to {TOTAL_WEIGHT}")
    # Whoever assigned an EXTERNAL experiment may have split it in thirds: only ratios count there.
    if design.source is AssignmentSource.SLOTS and sum(weights) != TOTAL_WEIGHT:
        yield FieldViolation(
            "variants",
            f"have the weights {errors.shown(weights)}, which sum to {sum(weights)}; "
            f"allowed: a sum of exactly {TOTAL_WEIGHT} (5000 is a half)",
        )


def _beyond(design: Design, limits: Limits) -> Iterator[FieldViolation]:
    """What is not allowed to anyone who makes or changes a design now."""
    if UNIT_TYPE.fullmatch(design.unit_type) is None:
        yield fault("unit_type", design.unit_type, UNIT_TYPE_RULE)
    if design.layer and ID.fullmatch(design.layer) is None:
        yield fault("layer", design.layer, ID_RULE)
    least, most = limits.min_variants, limits.max_variants
    if not least <= len(design.variants) <= most:
        yield fault("variants", f"{len(design.variants)} variants", f"{least} to {most} variants")
    for index, variant in enumerate(design.variants):
        if _VARIANT_KEY.fullmatch(variant.key) is None:
            yield fault(f"variants[{index}].key", variant.key, _VARIANT_RULE)
        size = _payload_bytes(variant)
        if size > limits.max_payload_bytes:
            allowed = f"{limits.max_payload_bytes} bytes as JSON"
            yield fault(f"variants[{index}].payload", f"{size} bytes", allowed)
    yield from _feature_faults(design, limits)
    in_all = sum(map(_payload_bytes, design.variants))
    if in_all > limits.max_payload_bytes_in_all:
        yield FieldViolation(
            "variants",
            f"have payloads of {in_all} bytes in all; allowed: "
            f"{limits.max_payload_bytes_in_all} bytes as JSON; keep what is larger elsewhere and "
            "send its address",
        )


def _feature_faults(design: Design, limits: Limits) -> Iterator[FieldViolation]:
    yield from value_faults(design)
    yield from variant_key_faults(design)
    yield from prerequisite_faults(design, limits)
    yield from schedule_faults(design.schedule, limits)
    yield from switchback_faults(design)
    yield from unit_type_faults(design)
    yield from external_faults(design)


def _payload_bytes(variant: Variant) -> int:
    return len((variant.payload or "").encode()) + len((variant.value or "").encode())
