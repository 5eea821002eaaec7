"""JourneyLog over the event tables: one Ibis expression a table, for any engine."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import pyarrow as pa

from services.attribution.adapters.journey_events import ReadCut, events_of
from services.attribution.adapters.journey_rows import UNIT, EventRows, Rows
from services.attribution.adapters.lake_columns import (
    MATCH,
    TOUCH_COLUMNS,
    conversion_columns,
    milestone_rows,
    touch_columns,
    wanted,
)
from services.attribution.adapters.row_order import KEYS, rows_in_order
from services.attribution.ports import EventQuery, JourneyEvents
from shared.identity.events import owned_events
from shared.identity.identity import Identity
from shared.identity.ownership import Ownership
from shared.identity.reader import IdentityReader
from shared.lake.cut import cut_of
from shared.lake.snapshot import EventTables

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
FIRST_US = (dt.datetime.min.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class LakeJourneyLog:
    """See JourneyLog."""

    tables: EventTables
    identities: IdentityReader

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See JourneyLog."""
        await self.tables.wait_until(at_least, timeout_s)

    def read(self, query: EventQuery) -> JourneyEvents:
        """See JourneyLog."""
        snapshot = self.tables.snapshot(query.project)
        cut = cut_of(snapshot.watermark, query.as_of)
        with snapshot.read() as now:
            tables = cut.tables(now)
            identity = self.identities.of(query.project, snapshot.watermark, tables, past=cut.past)
            rows = read_rows(tables, query, identity)
        newest = cut.token and not cut.past
        committed = snapshot.watermark.commit_time if newest else None
        return events_of(rows, query, ReadCut(cut.token, committed, identity.version))


def read_rows(tables: Mapping[str, ibis.Table], query: EventQuery, identity: Identity) -> EventRows:
    """The rows of these tables that a query selects; with event ids where it is identified."""
    owners = Ownership(query.unit_type, identity, query.stitching, merged=True)
    touched = touch_columns(tables["touchpoints"], query)
    bought = conversion_columns(tables["conversions"], query)
    passed = milestone_rows(tables["conversions"], query)
    more = (MATCH,) if query.associations else ()
    conversions = _sorted_rows(bought, query, owners, ("value", "currency", *more))
    of = conversions.units.names if query.converting else None
    return EventRows(
        _sorted_rows(touched, query, owners, (*TOUCH_COLUMNS, *wanted(query)), of),
        conversions,
        None if passed is None else _sorted_rows(passed, query, owners, ("event_name",)),
    )


def _selected(table: ibis.Table, query: EventQuery) -> ibis.Table:
    """The rows of the query's time, its days stated too: whole files are then left unread."""
    rows = table
    if query.from_us is not None and query.from_us > FIRST_US:
        start = instant(query.from_us)
        rows = rows.filter(rows["day"] >= start.date(), rows["event_time"] >= start)
    if query.until_us is not None:
        end = instant(query.until_us)
        rows = rows.filter(rows["day"] <= end.date(), rows["event_time"] < end)
    return rows


def _sorted_rows(
    table: ibis.Table,
    query: EventQuery,
    owners: Ownership,
    columns: tuple[str, ...],
    of: pa.Array | None = None,
) -> Rows:
    """The rows of a table in order; where units are given, theirs alone."""
    wanted = ("event_time", "event_id", *columns)
    rows = owned_events(_selected(table, query), wanted, owners).rows
    if of is not None:
        rows = rows.semi_join(ibis.memtable(pa.table({UNIT: of})), UNIT)
    kept = [*KEYS, *columns] if query.identified else [*KEYS[:2], *columns]

    def of_instants(instants: pa.Table) -> pa.Table:
        chosen = rows.semi_join(ibis.memtable(instants), [*KEYS[:2]])
        return chosen.order_by([*KEYS]).select(*kept).to_pyarrow()

    return rows_in_order(rows.select(*kept).to_pyarrow(), of_instants)


def instant(time_us: int) -> dt.datetime:
    """A time in microseconds since 1970-01-01 UTC."""
    return _EPOCH + dt.timedelta(microseconds=time_us)
