"""What calibration needs from outside."""

import datetime as dt
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from services.attribution.application.calibration_links import CalibrationLink, SwitchedGroup
from services.attribution.domain.arrays import Flags, Integers
from services.attribution.domain.conflicts import Conflict
from services.attribution.domain.lift import Estimate
from services.attribution.ports import Names
from shared.filters.filter import Filter
from shared.identity.belonging import Stitching


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A link as it is kept: its message, encoded."""

    project: str
    link_id: str
    create_time: dt.datetime
    document: bytes


class LinkStore(Protocol):
    """The links of all projects, inside one transaction. Ids are compared exactly."""

    def get(self, project: str, link_id: str) -> StoredLink | None:
        """The link, or None."""
        ...

    def insert(self, link: StoredLink) -> None:
        """Keep a new link; ALREADY_EXISTS when the id is taken."""
        ...

    def delete(self, project: str, link_id: str) -> bool:
        """Forget the link; False when there was none."""
        ...

    def count(self, project: str) -> int:
        """How many links the project has."""
        ...

    def page(self, project: str, after: str, limit: int) -> Sequence[StoredLink]:
        """At most `limit` links whose id is above `after`, by id."""
        ...


class Links(Protocol):
    """Opens transactions on the links."""

    def read(self) -> AbstractContextManager[LinkStore]:
        """A transaction that sees one moment; UNAVAILABLE when the store is away."""
        ...

    def within(self, connection: Any) -> LinkStore:
        """The links inside the transaction of a mutation."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredEvents:
    """Which conversions a metric counts, and how.

    Those from `delay_us` to `window_us` (None: without an end) after a unit's first exposure, both
    included. With `complete_only`, of units whose window is over. `by_value` is a sum of values;
    otherwise conversions are counted, at most one a unit with `once`. `additive` says that it is
    one of these at all. `capped` says that a unit counts no more than so much. Of values, only
    those in `currency` count, or all where it is empty.
    """

    event_name: str
    condition: Filter | None = None
    delay_us: int = 0
    window_us: int | None = None
    complete_only: bool = False
    by_value: bool = False
    once: bool = False
    additive: bool = True
    capped: bool = False
    currency: str = ""


@dataclass(frozen=True, slots=True)
class LiftProvenance:
    """What a lift is a function of; the config versions are those of the link's experiments."""

    watermark: str
    config_versions: tuple[int, ...]
    plan_version: int
    metric_version: int
    engine_version: str
    identity_version: str
    question_digest: str = ""
    inputs_digest: str = ""


@dataclass(frozen=True, slots=True)
class Lift:
    """What a unit with the channel on did more than one with it off, and of how many of each.

    `alert` says that the sizes of the arms contradict their weights. `caution` is how many times as
    wide as that of one look the interval is that holds whenever one looks; 1 where it is the same.
    """

    events: MeasuredEvents
    difference: Estimate
    units_on: int
    units_off: int
    provenance: LiftProvenance
    alert: bool = False
    caution: float = 1.0


@dataclass(frozen=True, slots=True)
class NoLift:
    """Why there is no lift, in words and as a kind of finding."""

    why: str
    conflict: Conflict = Conflict.NO_RESULTS


class LiftSource(Protocol):
    """Where lifts of experiments are read, on behalf of the caller."""

    def lift(self, link: CalibrationLink, as_of: str, stitching: Stitching) -> Lift | NoLift:
        """The lift of the link's channel at a cut of the event log, without taking a look.

        NoLift where the experiment, the metric or a number of it is not there. UNAVAILABLE when
        the results cannot be asked, PERMISSION_DENIED when the caller may not.
        """
        ...


@dataclass(frozen=True, slots=True)
class Placed:
    """Which units of some journeys are in some variants, and when each was first exposed.

    Times are in microseconds since 1970-01-01 UTC, and 0 for units that are in none.
    """

    inside: Flags
    first_us: Integers


@dataclass(frozen=True, slots=True)
class ExposedSpan:
    """How many units of a variant there are, and the first and the last time that one was first
    exposed, in microseconds since 1970-01-01 UTC; both 0 without any.
    """

    units: int
    first_us: int
    last_us: int


class ExposedUnits(Protocol):
    """The units of some variants at one cut.

    A unit that saw several variants of one experiment is in none of them, nor is one that was
    forced to see its variant.
    """

    def spans(self, until_us: int | None) -> Sequence[ExposedSpan]:
        """The units of each variant that were first exposed no later than `until_us`."""
        ...

    def placed(self, units: Names, count: int, places: Sequence[int]) -> Placed:
        """The first `count` of these units by the variants at `places` in the query."""
        ...

    @property
    def start_us(self) -> int | None:
        """The first exposure of all, None without any."""
        ...

    @property
    def data_us(self) -> int:
        """When the last event of the cut was received."""
        ...


@dataclass(frozen=True, slots=True)
class ExposureQuery:
    """Which units to find: those of journeys of the type, in these variants, at the cut."""

    project: str
    unit_type: str
    stitching: Stitching
    as_of: str
    variants: tuple[SwitchedGroup, ...]


class Exposures(Protocol):
    """Where exposures are read."""

    def read(self, query: ExposureQuery) -> ExposedUnits:
        """The units that were exposed to the variants, by the unit that counts for journeys.

        INVALID_ARGUMENT for a cut of another log, UNAVAILABLE for one that is not there yet.
        """
        ...
