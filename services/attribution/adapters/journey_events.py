"""From rows of the event tables to the events of journeys."""

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.attribution.adapters.journey_rows import (
    NULL,
    EventRows,
    Rows,
    Texts,
    joined_names,
    joined_texts,
    recoded,
    sorted_distinct,
)
from services.attribution.adapters.lake_columns import CREDITED, MATCH
from services.attribution.domain.arrays import Codes, Flags, Integers
from services.attribution.domain.events import (
    NO_MATCH,
    NO_MILESTONES,
    Conversions,
    Facets,
    MilestoneEvents,
    Touches,
)
from services.attribution.ports import EventQuery, HowRead, JourneyEvents


@dataclass(frozen=True, slots=True)
class ArrowNames:
    """Names in an Arrow column."""

    column: pa.ChunkedArray

    def at(self, rows: Integers) -> list[str]:
        """See Names."""
        names: list[str] = self.column.take(pa.array(rows)).to_pylist()
        return names


@dataclass(frozen=True, slots=True)
class CodedNames:
    """Names by their codes."""

    texts: Texts

    def at(self, rows: Integers) -> list[str]:
        """See Names."""
        names: list[str] = self.texts.names.take(pa.array(self.texts.codes[rows])).to_pylist()
        return names


@dataclass(frozen=True, slots=True)
class ReadCut:
    """The cut that rows are of, and how they were read."""

    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str
    how: HowRead | None = None


def events_of(rows: EventRows, query: EventQuery, cut: ReadCut) -> JourneyEvents:
    """The events of the rows that a query selects."""
    touches, bought = rows.touches, rows.conversions
    names, touched_units, bought_units = _numbered(touches.units, bought.units)
    channels = touches.texts[CREDITED]
    matches = _matches(touches, bought, query)
    return JourneyEvents(
        touches=Touches(
            channels=tuple(channels.names.to_pylist()),
            units=touched_units.astype(np.int64),
            times=touches.times,
            codes=channels.codes,
            costs=touches.numbers["cost"],
            facets=_facets(touches) if query.faceted else None,
            matches=matches and matches[0],
        ),
        conversions=Conversions(
            units=bought_units.astype(np.int64),
            times=bought.times,
            values=np.nan_to_num(bought.numbers["value"], nan=0.0, posinf=np.inf, neginf=-np.inf),
            matches=matches and matches[1],
        ),
        currencies=_currencies((touches, "cost"), (bought, "value")),
        touch_ids=_names(touches),
        conversion_ids=_names(bought),
        unit_ids=CodedNames(bought.units),
        units=ArrowNames(pa.chunked_array([names])),
        watermark=cut.watermark,
        watermark_time=cut.watermark_time,
        identity_version=cut.identity_version,
        milestones=_milestones(rows.milestones, names, query),
        how=cut.how,
    )


def _numbered(one: Texts, other: Texts) -> tuple[pa.Array, Codes, Codes]:
    """The units of both, and the numbers of those of each."""
    if len(one.names) < len(other.names):
        names, second, first = _numbered(other, one)
        return names, first, second
    both = joined_names(one.names, other.names)
    return both.names, both.first(one.codes), both.second(other.codes)


def _milestones(rows: Rows | None, units: pa.Array, query: EventQuery) -> MilestoneEvents:
    if rows is None:
        return NO_MILESTONES
    known = rows.where(_known(rows.units, units))
    named = known.texts["event_name"]
    place = [query.milestones.index(name) for name in named.names.to_pylist()]
    codes = np.array([*place, NULL], dtype=np.int32)[named.codes]
    own = recoded(known.units, units).astype(np.int64)
    return MilestoneEvents(query.milestones, own, known.times, codes)


def _known(texts: Texts, names: pa.Array) -> Flags:
    found = pc.is_in(texts.names, value_set=names).to_numpy(zero_copy_only=False)
    known: Flags = found.astype(np.bool_)[texts.codes]
    return known


def _facets(touches: Rows) -> Facets:
    channels, did = touches.texts["channel"], touches.texts["interaction"]
    if (did.codes == NULL).any():
        # What was not sent is the empty name, which stands before all others.
        names = sorted_distinct(pa.chunked_array([pa.array([""]), did.names]))
        did = Texts(names, np.maximum(recoded(did, names), 0))
    return Facets(
        tuple(channels.names.to_pylist()),
        channels.codes,
        tuple(did.names.to_pylist()),
        did.codes,
    )


def _matches(
    touches: Rows, conversions: Rows, query: EventQuery
) -> tuple[Integers, Integers] | None:
    if not query.associations:
        return None
    both = joined_texts(touches.texts[MATCH], conversions.texts[MATCH])
    codes = np.where(both.codes == NULL, NO_MATCH, both.codes).astype(np.int64)
    return codes[: len(touches)], codes[len(touches) :]


def _currencies(*amounts: tuple[Rows, str]) -> tuple[str, ...]:
    found: set[str] = set()
    for rows, amount in amounts:
        currency = rows.texts["currency"]
        own = Texts(currency.names, currency.codes[~np.isnan(rows.numbers[amount])])
        found.update(name for name in own.used().names.to_pylist() if name)
    return tuple(sorted(found))


def _names(rows: Rows) -> ArrowNames:
    ids = pa.array([], pa.string()) if rows.event_ids is None else rows.event_ids
    return ArrowNames(pa.chunked_array([ids]))
