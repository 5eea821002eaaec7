"""An experiment: what its owner designed, and where it stands in its life."""

import enum
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from services.assignment.domain.limits import LIMITS
from shared import errors
from shared.bucketing import HashVersion, require_salt
from shared.errors import FieldViolation

TOTAL_WEIGHT = 10_000
"""Variant weights are basis points of the enrolled units and sum to exactly this."""
MAX_TRAFFIC_SLOTS = 10_000
"""The slots of a whole layer."""

_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
_ID_RULE = "1 to 63 characters: a lower-case letter, then a-z, 0-9 and '-'"
_VARIANT_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VARIANT_RULE = "1 to 63 characters: a-z or 0-9, then a-z, 0-9, '.', '_' and '-'"
_UNIT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_UNIT_TYPE_RULE = "1 to 32 characters: a lower-case letter, then a-z, 0-9 and '_'"


class State(enum.StrEnum):
    """Where an experiment stands; it changes through the verbs of `lifecycle`."""

    DRAFT = "DRAFT"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    ARCHIVED = "ARCHIVED"


class AssignmentSource(enum.StrEnum):
    """Who decides which variant a unit gets."""

    SLOTS = "SLOTS"
    """This service, from the slots that the experiment owns in its layer."""
    EXTERNAL = "EXTERNAL"
    """Another system, or a file of a finished experiment: no slots, no decision here."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm; `weight` in basis points of the enrolled units, `payload` a JSON object or None."""

    key: str
    weight: int
    display_name: str = ""
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """What the owner decides. Building one checks it as a whole and names every fault at once."""

    display_name: str
    hypothesis: str
    owner: str
    unit_type: str
    layer: str
    source: AssignmentSource
    hash_version: HashVersion
    salt: str
    traffic_slots: int
    variants: tuple[Variant, ...]
    control: str

    def __post_init__(self) -> None:
        faults = tuple(_faults(self))
        if faults:
            raise errors.invalid_fields(faults)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A design in its life; `config_version` is the one that its last change made."""

    project: str
    experiment_id: str
    design: Design
    state: State
    config_version: int
    create_time: datetime
    update_time: datetime
    start_time: datetime | None = None
    stop_time: datetime | None = None

    @property
    def etag(self) -> str:
        """Changes with every change of the experiment."""
        return f"v{self.config_version}"


def require_id(field: str, value: str) -> str:
    """A user-chosen id as it stands, or INVALID_ARGUMENT."""
    if _ID.fullmatch(value) is None:
        raise errors.invalid(field, value, _ID_RULE)
    return value


def require_unit_type(value: str) -> str:
    """A unit type as it stands, or INVALID_ARGUMENT."""
    if _UNIT_TYPE.fullmatch(value) is None:
        raise errors.invalid("unit_type", value, _UNIT_TYPE_RULE)
    return value


def _fault(field: str, value: object, allowed: str) -> FieldViolation:
    return FieldViolation(field, f"is {errors.shown(value)}; allowed: {allowed}")


def _faults(design: Design) -> Iterator[FieldViolation]:
    if _UNIT_TYPE.fullmatch(design.unit_type) is None:
        yield _fault("unit_type", design.unit_type, _UNIT_TYPE_RULE)
    try:
        require_salt(design.salt)
    except ValueError as error:
        yield FieldViolation("salt", str(error))
    yield from _source_faults(design)
    yield from _variant_faults(design.variants)
    yield from _weight_faults(design)
    keys = [variant.key for variant in design.variants]
    if design.control not in keys:
        yield _fault("control_variant", design.control, f"the key of a variant, one of {keys[:10]}")


def _source_faults(design: Design) -> Iterator[FieldViolation]:
    if design.source is AssignmentSource.EXTERNAL:
        none = "none, because an EXTERNAL experiment owns no slots"
        if design.layer:
            yield _fault("layer", design.layer, none)
        if design.traffic_slots:
            yield _fault("traffic_slots", design.traffic_slots, none)
        return
    if _ID.fullmatch(design.layer) is None:
        yield _fault("layer", design.layer, _ID_RULE)
    if not 1 <= design.traffic_slots <= MAX_TRAFFIC_SLOTS:
        yield _fault("traffic_slots", design.traffic_slots, f"1 to {MAX_TRAFFIC_SLOTS}")


def _variant_faults(variants: tuple[Variant, ...]) -> Iterator[FieldViolation]:
    least, most = LIMITS.min_variants, LIMITS.max_variants
    if not least <= len(variants) <= most:
        yield _fault("variants", f"{len(variants)} variants", f"{least} to {most} variants")
    for index, variant in enumerate(variants):
        if _VARIANT_KEY.fullmatch(variant.key) is None:
            yield _fault(f"variants[{index}].key", variant.key, _VARIANT_RULE)
        size = len((variant.payload or "").encode())
        if size > LIMITS.max_payload_bytes:
            allowed = f"{LIMITS.max_payload_bytes} bytes as JSON"
            yield _fault(f"variants[{index}].payload", f"{size} bytes", allowed)
    for key, count in Counter(variant.key for variant in variants).items():
        if count > 1:
            yield FieldViolation("variants", f"hold the key {key!r} {count} times; use it once")


def _weight_faults(design: Design) -> Iterator[FieldViolation]:
    weights = [variant.weight for variant in design.variants]
    for index, weight in enumerate(weights):
        if not 1 <= weight <= TOTAL_WEIGHT:
            yield _fault(f"variants[{index}].weight", weight, f"1 to {TOTAL_WEIGHT}")
    # Whoever assigned an EXTERNAL experiment may have split it in thirds: only ratios count there.
    if design.source is AssignmentSource.SLOTS and sum(weights) != TOTAL_WEIGHT:
        yield FieldViolation(
            "variants",
            f"have the weights {errors.shown(weights)}, which sum to {sum(weights)}; "
            f"allowed: a sum of exactly {TOTAL_WEIGHT} (5000 is a half)",
        )
