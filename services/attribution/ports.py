"""What the attribution service needs from outside."""

import datetime as dt
import enum
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from services.attribution.domain.arrays import Integers
from services.attribution.domain.events import NO_MILESTONES, Conversions, MilestoneEvents, Touches
from services.attribution.domain.grouping import AS_SENT, ChannelGrouping
from shared.filters.filter import Filter
from shared.identity.belonging import Stitching

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NOT_SET = "(not set)"
"""What is credited for a touch that does not have it."""


class TouchField(enum.Enum):
    """A field of a touchpoint that can be credited."""

    CHANNEL = "channel"
    CAMPAIGN = "campaign"
    SOURCE_MEDIUM = "source_medium"
    INTERACTION = "interaction"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class TouchProperty:
    """A property of a touchpoint that can be credited, where it is text."""

    key: str


CreditKey = TouchField | TouchProperty


@dataclass(frozen=True, slots=True)
class Association:
    """A property of a touch and one of a conversion that agree."""

    touch_property: str
    conversion_property: str


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events to read.

    `from_us` (inclusive) and `until_us` (exclusive) bound the event time, in microseconds since
    1970-01-01 UTC; None is unbounded. `identified` asks for the ids of events and units too.
    `stitching` says from when on a link between two ids counts.

    `grouping` names the channels of touches. Only conversions and touches that fulfil their filter
    are read; that of touches sees the channel that the grouping gave. `credited` says what the
    `channels` of the touches are; `faceted` asks for their facets. With `associations`, touches
    and conversions have the same code where every property of one equals that of the other as
    JSON, and NO_MATCH where one is missing or null. `milestones` are conversion events to read
    beside, whatever the filter. `as_of` is the watermark of the cut to read; empty is the newest.
    `converting` leaves out the touches of units without any conversion that is read.
    """

    project: str
    event_name: str
    unit_type: str
    from_us: int | None = None
    until_us: int | None = None
    identified: bool = False
    stitching: Stitching = Stitching.RETROACTIVE
    grouping: ChannelGrouping = AS_SENT
    conversion_filter: Filter | None = None
    touch_filter: Filter | None = None
    credited: CreditKey = TouchField.CHANNEL
    faceted: bool = False
    associations: tuple[Association, ...] = ()
    milestones: tuple[str, ...] = ()
    as_of: str = ""
    converting: bool = False


class Names(Protocol):
    """A column of text that is not copied until it is needed."""

    def at(self, rows: Integers) -> list[str]:
        """The texts of these rows, in their order. The rows are within the column."""
        ...


class WhyAll(enum.Enum):
    """Why events were read that had been read before."""

    PAST_CUT = "past_cut"
    NOTHING_KEPT = "nothing_kept"
    EARLIER_START = "earlier_start"
    IDENTITIES_CHANGED = "identities_changed"
    EVENTS_REMOVED = "events_removed"


@dataclass(frozen=True, slots=True)
class HowRead:
    """How events were read: all of them, and why, or those that an earlier reading lacked.

    `since` is the watermark of the earlier one. `kept` rows were there already, `new` ones were
    read.
    """

    why_all: WhyAll | None
    since: str
    kept: int
    new: int


@dataclass(frozen=True, slots=True)
class JourneyEvents:
    """Touches and conversions of one cut of the event log.

    `currencies` are the distinct ones of known costs and values, in order. The ids belong to the
    rows of touches and conversions and may be read only when the query asked for them; `unit_ids`
    are those of conversions. `units` are always there: the id of each unit, by its number in
    both. `watermark` is the consistency token of the cut, and
    `watermark_time` is None when nothing was logged yet. `identity_version` names the policy and
    the links that were used; it is empty where there are no links. `how` is None for a log that
    keeps nothing.
    """

    touches: Touches
    conversions: Conversions
    currencies: tuple[str, ...]
    touch_ids: Names
    conversion_ids: Names
    unit_ids: Names
    units: Names
    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str = ""
    milestones: MilestoneEvents = NO_MILESTONES
    how: HowRead | None = None


class JourneyLog(Protocol):
    """Where touches and conversions are read."""

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """Return when every later cut covers the consistency token (empty: at once).

        UNAVAILABLE after `timeout_s`, INVALID_ARGUMENT for a token that is malformed or of another
        log, RESOURCE_EXHAUSTED when too many wait already. Waiting holds no thread.
        """
        ...

    def read(self, query: EventQuery) -> JourneyEvents:
        """The touches and conversions of one cut that the query selects.

        Only rows of the query's project are read, and conversions of its event name alone. A row
        belongs to its own unit when that is of the query's unit type; otherwise to its first
        linked unit of the type; otherwise to the first seen unit of the type in the identity of
        its own unit, then of its linked units in their order. Without any it is left out. Units
        of the type that are one identity count as the first seen of them.

        Rows are sorted by unit id (by bytes), then time, then event id; the channel names are
        sorted and each is used. A value that was not sent is 0, a cost that was not sent is NaN.
        A project without events gives empty columns. INVALID_ARGUMENT for a cut of another log,
        UNAVAILABLE for one that is not there yet; what was erased or removed since is in no cut.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report as it is kept: its message, and the message of its paths, encoded."""

    project: str
    report_id: str
    create_time: dt.datetime
    document: bytes
    paths: bytes


class ReportStore(Protocol):
    """The reports of all projects, inside one transaction. Ids are compared exactly."""

    def get(self, project: str, report_id: str) -> StoredReport | None:
        """The report, or None."""
        ...

    def insert(self, report: StoredReport) -> None:
        """Keep a new report; ALREADY_EXISTS when the id is taken."""
        ...

    def delete(self, project: str, report_id: str) -> bool:
        """Forget the report; False when there was none."""
        ...

    def count(self, project: str) -> int:
        """How many reports the project has."""
        ...

    def page(
        self, project: str, before: tuple[dt.datetime, str] | None, limit: int
    ) -> Sequence[StoredReport]:
        """At most `limit` reports older than (time, id), newest first, ties by id descending."""
        ...


class Reports(Protocol):
    """Opens transactions on the reports."""

    def read(self) -> AbstractContextManager[ReportStore]:
        """A transaction that sees one moment; UNAVAILABLE when the store is away."""
        ...

    def begin(self) -> AbstractContextManager[ReportStore]:
        """A transaction that is kept, all of it or nothing, when its block ends well."""
        ...

    def within(self, connection: Any) -> ReportStore:
        """The reports inside the transaction of a mutation."""
        ...


@dataclass(frozen=True, slots=True)
class StoredGrouping:
    """A channel grouping at one version: what its owner decides is the message, encoded."""

    project: str
    grouping_id: str
    version: int
    create_time: dt.datetime
    update_time: dt.datetime
    document: bytes

    @property
    def etag(self) -> str:
        """Differs between any two states of the grouping, also of one that was made anew."""
        return str(self.version)


class GroupingStore(Protocol):
    """The channel groupings of all projects, inside one transaction. Ids are compared exactly."""

    def get(self, project: str, grouping_id: str, version: int = 0) -> StoredGrouping | None:
        """The grouping as it was at the version (0: as it is), or None. Deleted ones are none."""
        ...

    def insert(
        self, project: str, grouping_id: str, document: bytes, now: dt.datetime
    ) -> StoredGrouping:
        """Keep a new grouping; ALREADY_EXISTS when the id is taken.

        Its version is 1, or follows the last one of a deleted grouping of this id: no version of
        an id ever means two things.
        """
        ...

    def replace(self, old: StoredGrouping, document: bytes, now: dt.datetime) -> StoredGrouping:
        """Keep the next version; ABORTED when another one than `old` is the newest."""
        ...

    def delete(self, old: StoredGrouping, now: dt.datetime) -> None:
        """Delete it with its versions; ABORTED when another one than `old` is the newest."""
        ...

    def count(self, project: str) -> int:
        """How many groupings the project has."""
        ...

    def page(self, project: str, after: str, limit: int) -> Sequence[StoredGrouping]:
        """At most `limit` groupings whose id is above `after`, by id, as they are."""
        ...

    def versions(
        self, project: str, grouping_id: str, before: int | None, limit: int
    ) -> Sequence[StoredGrouping]:
        """At most `limit` versions below `before` (None: from the newest), newest first.

        Only those since the grouping was last made anew; none of a deleted one.
        """
        ...


class Groupings(Protocol):
    """Opens transactions on the channel groupings."""

    def read(self) -> AbstractContextManager[GroupingStore]:
        """A transaction that sees one moment; UNAVAILABLE when the store is away."""
        ...

    def within(self, connection: Any) -> GroupingStore:
        """The groupings inside the transaction of a mutation."""
        ...


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule of reports. `document` is what its owner decides and `state` what became of its
    runs, both as the encoded message.

    `version` counts the changes of its owner, and `turn` those and what runs do to it: two states
    of one schedule differ in it. `operation_id` is that of the run that has not ended, or empty.
    """

    project: str
    schedule_id: str
    version: int
    turn: int
    create_time: dt.datetime
    update_time: dt.datetime
    next_time: dt.datetime
    paused: bool
    operation_id: str
    document: bytes
    state: bytes

    @property
    def etag(self) -> str:
        """Differs between any two versions of what the owner decides."""
        return f"{(self.create_time - _EPOCH) // dt.timedelta(microseconds=1)}-{self.version}"


class ScheduleStore(Protocol):
    """The schedules of all projects, inside one transaction. Ids are compared exactly."""

    def get(self, project: str, schedule_id: str) -> StoredSchedule | None:
        """The schedule, or None."""
        ...

    def insert(self, schedule: StoredSchedule) -> None:
        """Keep a new schedule; ALREADY_EXISTS when the id is taken."""
        ...

    def replace(self, old: StoredSchedule, new: StoredSchedule) -> None:
        """Keep `new`, one turn later; ABORTED when the schedule is not as `old` any more."""
        ...

    def delete(self, old: StoredSchedule) -> None:
        """Forget it and which reports it made; ABORTED as for `replace`."""
        ...

    def count(self, project: str) -> int:
        """How many schedules the project has."""
        ...

    def page(self, project: str, after: str, limit: int) -> Sequence[StoredSchedule]:
        """At most `limit` schedules whose id is above `after`, by id."""
        ...

    def due(self, now: dt.datetime, limit: int) -> Sequence[StoredSchedule]:
        """Of every project, those with a run that has not ended, and those that are due and not
        paused; the longest due first.
        """
        ...

    def note_report(self, project: str, schedule_id: str, report_id: str, now: dt.datetime) -> None:
        """Remember a report that the schedule made."""
        ...

    def surplus(self, project: str, schedule_id: str, keep: int) -> Sequence[str]:
        """The ids of the reports that the schedule made, without its newest `keep`."""
        ...

    def forget_report(self, project: str, report_id: str) -> None:
        """Remember the report no longer."""
        ...


class Schedules(Protocol):
    """Opens transactions on the schedules."""

    def read(self) -> AbstractContextManager[ScheduleStore]:
        """A transaction that sees one moment; UNAVAILABLE when the store is away."""
        ...

    def within(self, connection: Any) -> ScheduleStore:
        """The schedules inside the transaction of a mutation."""
        ...
