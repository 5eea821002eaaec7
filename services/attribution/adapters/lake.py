"""JourneyLog over the event tables: one Ibis expression a table, for any engine."""

import datetime as dt
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.attribution.adapters.lake_columns import (
    CREDITED,
    MATCH,
    TOUCH_COLUMNS,
    conversion_columns,
    milestone_rows,
    touch_columns,
    wanted,
)
from services.attribution.domain.arrays import Codes, Floats, Integers
from services.attribution.domain.events import (
    NO_MATCH,
    NO_MILESTONES,
    Conversions,
    Facets,
    MilestoneEvents,
    Touches,
)
from services.attribution.ports import EventQuery, JourneyEvents
from shared.identity.events import owned_events
from shared.identity.ownership import Ownership
from shared.identity.reader import IdentityReader
from shared.lake.cut import cut_of
from shared.lake.snapshot import EventTables

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_US = (dt.datetime.min.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ArrowNames:
    """Names in an Arrow column."""

    column: pa.ChunkedArray

    def at(self, rows: Integers) -> list[str]:
        """See Names."""
        names: list[str] = self.column.take(pa.array(rows)).to_pylist()
        return names


class LakeJourneyLog:
    """See JourneyLog."""

    def __init__(self, tables: EventTables, identities: IdentityReader) -> None:
        self._tables = tables
        self._identities = identities

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See JourneyLog."""
        await self._tables.wait_until(at_least, timeout_s)

    def read(self, query: EventQuery) -> JourneyEvents:
        """See JourneyLog."""
        snapshot = self._tables.snapshot(query.project)
        cut = cut_of(snapshot.watermark, query.as_of)
        with snapshot.read() as now:
            tables = cut.tables(now)
            identity = self._identities.of(query.project, snapshot.watermark, tables, past=cut.past)
            owners = Ownership(query.unit_type, identity, query.stitching, merged=True)
            touched = touch_columns(tables["touchpoints"], query)
            bought = conversion_columns(tables["conversions"], query)
            touches = _sorted_rows(touched, query, owners, (*TOUCH_COLUMNS, *wanted(query)))
            more = (MATCH,) if query.associations else ()
            conversions = _sorted_rows(bought, query, owners, ("value", "currency", *more))
            passed = milestone_rows(tables["conversions"], query)
            milestones = None
            if passed is not None:
                milestones = _sorted_rows(passed, query, owners, ("event_name",))
        units = _sorted_distinct(touches["unit_id"], conversions["unit_id"])
        channels = _sorted_distinct(touches[CREDITED])
        matches = _matches(touches, conversions, query)
        return JourneyEvents(
            touches=Touches(
                channels=tuple(channels.to_pylist()),
                units=_positions(touches["unit_id"], units),
                times=_microseconds(touches),
                codes=_positions(touches[CREDITED], channels).astype(np.int32),
                costs=_numbers(touches["cost"], np.nan),
                facets=_facets(touches) if query.faceted else None,
                matches=matches and matches[0],
            ),
            conversions=Conversions(
                units=_positions(conversions["unit_id"], units),
                times=_microseconds(conversions),
                values=_numbers(conversions["value"], 0.0),
                matches=matches and matches[1],
            ),
            currencies=_currencies((touches, "cost"), (conversions, "value")),
            touch_ids=_names(touches, "event_id", query),
            conversion_ids=_names(conversions, "event_id", query),
            unit_ids=_names(conversions, "unit_id", query),
            units=ArrowNames(pa.chunked_array([units])),
            watermark=cut.token,
            watermark_time=snapshot.watermark.commit_time if cut.token and not cut.past else None,
            identity_version=identity.version,
            milestones=_milestones(milestones, units, query),
        )


def _selected(table: ibis.Table, query: EventQuery) -> ibis.Table:
    """The rows of the query's time, its days stated too: whole files are then left unread."""
    rows = table
    if query.from_us is not None and query.from_us > _FIRST_US:
        start = _instant(query.from_us)
        rows = rows.filter(rows["day"] >= start.date(), rows["event_time"] >= start)
    if query.until_us is not None:
        end = _instant(query.until_us)
        rows = rows.filter(rows["day"] <= end.date(), rows["event_time"] < end)
    return rows


def _sorted_rows(
    table: ibis.Table, query: EventQuery, owners: Ownership, columns: tuple[str, ...]
) -> pa.Table:
    wanted = ("event_time", "event_id", *columns)
    rows = owned_events(_selected(table, query), wanted, owners).rows
    keys = ["unit_id", "event_time", "event_id"]
    kept = [*keys, *columns] if query.identified else [*keys[:2], *columns]
    return rows.order_by(keys).select(*kept).to_pyarrow()


def _instant(time_us: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=time_us)


def _sorted_distinct(*columns: pa.ChunkedArray) -> pa.Array:
    distinct = pc.unique(pa.chunked_array([pc.unique(column) for column in columns]))
    return distinct.take(pc.sort_indices(distinct))


def _positions(column: pa.ChunkedArray, names: pa.Array) -> Integers:
    positions: Integers = pc.index_in(column, value_set=names).to_numpy().astype(np.int64)
    return positions


def _milestones(rows: pa.Table | None, units: pa.Array, query: EventQuery) -> MilestoneEvents:
    if rows is None:
        return NO_MILESTONES
    known = rows.filter(pc.is_in(rows["unit_id"], value_set=units))
    codes = _positions(known["event_name"], pa.array(query.milestones))
    return MilestoneEvents(
        query.milestones,
        _positions(known["unit_id"], units),
        _microseconds(known),
        codes.astype(np.int32),
    )


def _facets(touches: pa.Table) -> Facets:
    channels, channel_codes = _coded(touches["channel"])
    interactions, interaction_codes = _coded(touches["interaction"].fill_null(""))
    return Facets(channels, channel_codes, interactions, interaction_codes)


def _coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Codes]:
    names = _sorted_distinct(column)
    return tuple(names.to_pylist()), _positions(column, names).astype(np.int32)


def _matches(
    touches: pa.Table, conversions: pa.Table, query: EventQuery
) -> tuple[Integers, Integers] | None:
    if not query.associations:
        return None
    names = pc.drop_null(_sorted_distinct(touches[MATCH], conversions[MATCH]))
    one, other = (
        pc.index_in(rows[MATCH], value_set=names, skip_nulls=True).fill_null(NO_MATCH).to_numpy()
        for rows in (touches, conversions)
    )
    return one.astype(np.int64), other.astype(np.int64)


def _microseconds(rows: pa.Table) -> Integers:
    times = rows["event_time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    microseconds: Integers = times.to_numpy()
    return microseconds


def _numbers(column: pa.ChunkedArray, missing: float) -> Floats:
    numbers: Floats = column.cast(pa.float64()).fill_null(missing).to_numpy()
    return numbers


def _currencies(*amounts: tuple[pa.Table, str]) -> tuple[str, ...]:
    found: set[str] = set()
    for rows, amount in amounts:
        of_amounts = rows["currency"].filter(rows[amount].is_valid())
        found.update(currency for currency in pc.unique(of_amounts).to_pylist() if currency)
    return tuple(sorted(found))


def _names(rows: pa.Table, column: str, query: EventQuery) -> ArrowNames:
    return ArrowNames(rows[column] if query.identified else pa.chunked_array([[]], pa.string()))
