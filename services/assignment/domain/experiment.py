"""An experiment: what its owner designed, and where it stands in its life."""

import enum
import re
from dataclasses import dataclass
from datetime import datetime

from touchstone_assignment.bucketing import HashVersion

from shared import errors

TOTAL_WEIGHT = 10_000
"""Variant weights are basis points of the enrolled units and sum to exactly this."""
MAX_TRAFFIC_SLOTS = 10_000
"""The slots of a whole layer."""

ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
ID_RULE = "1 to 63 characters: a lower-case letter, then a-z, 0-9 and '-'"
UNIT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,31}")
UNIT_TYPE_RULE = "1 to 32 characters: a lower-case letter, then a-z, 0-9 and '_'"


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


class ValueType(enum.StrEnum):
    """What the variants of an experiment stand for."""

    KEY = "KEY"
    """Their key."""
    BOOLEAN = "BOOLEAN"
    STRING = "STRING"
    INTEGER = "INTEGER"
    FLOAT = "FLOAT"
    OBJECT = "OBJECT"
    """Their payload."""


class Allocation(enum.StrEnum):
    """How the weights of the variants come about."""

    FIXED = "FIXED"
    """By the design, for good."""
    BANDIT = "BANDIT"
    """Set anew while it runs: a unit may change its variant."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm; `weight` in basis points of the enrolled units, `payload` a JSON object or None.

    `value` is a JSON text of the experiment's value type, None where that is KEY or OBJECT. The
    units of a `dropped` variant get none, and those of the others stay where they are.
    """

    key: str
    weight: int
    display_name: str = ""
    payload: str | None = None
    value: str | None = None
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """A unit must get one of these variants (none named: any) of another experiment, by its id."""

    experiment_id: str
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RampStage:
    """The slots that the experiment has from a time on."""

    time: datetime
    traffic_slots: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to happen by itself; None: when a verb says so."""

    start_time: datetime | None = None
    stop_time: datetime | None = None
    ramp: tuple[RampStage, ...] = ()


NOTHING_SCHEDULED = Schedule()


@dataclass(frozen=True, slots=True)
class Switchback:
    """Windows of time, counted from 1970, that get a variant as a whole, each region by itself."""

    window_s: int
    washout_s: int = 0
    region_attribute: str = ""


@dataclass(frozen=True, slots=True)
class Design:
    """What the owner decides. `design_rules` says which designs are valid."""

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
    metrics: tuple[str, ...] = ()
    """Ids of the metrics that it is judged by; none: every metric of the project."""
    value_type: ValueType = ValueType.KEY
    targeting: str | None = None
    """The condition as canonical JSON with audiences by their ids (see `condition_text`)."""
    prerequisites: tuple[Prerequisite, ...] = ()
    sticky: bool = False
    anonymous_unit_type: str = ""
    """The type of the id that stands for a unit until it has one of its own; empty: none does."""
    schedule: Schedule = NOTHING_SCHEDULED
    switchback: Switchback | None = None
    allocation: Allocation = Allocation.FIXED
    observed_unit_type: str = ""
    """The type of the unit that is observed where that is finer than the one randomised."""


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
    killed: bool = False
    """The kill switch is on: nobody gets a variant, whatever the state."""
    kill_reason: str = ""

    @property
    def etag(self) -> str:
        """Changes with every change of the experiment."""
        return f"v{self.config_version}"


def require_id(field: str, value: str) -> str:
    """A user-chosen id as it stands, or INVALID_ARGUMENT."""
    if ID.fullmatch(value) is None:
        raise errors.invalid(field, value, ID_RULE)
    return value


def require_unit_type(value: str) -> str:
    """A unit type as it stands, or INVALID_ARGUMENT."""
    if UNIT_TYPE.fullmatch(value) is None:
        raise errors.invalid("unit_type", value, UNIT_TYPE_RULE)
    return value
