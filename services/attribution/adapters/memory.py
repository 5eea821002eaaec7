"""JourneyLog over rows in memory: for tests, and for embedding."""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import numpy as np

from services.attribution.domain.arrays import Codes, Integers
from services.attribution.domain.events import (
    NO_MATCH,
    Conversions,
    Facets,
    MilestoneEvents,
    Touches,
)
from services.attribution.domain.grouping import channel_of
from services.attribution.ports import NOT_SET, EventQuery, JourneyEvents, TouchField
from shared.errors import Code, DomainError, shown, unavailable
from shared.filters.filter import Filter
from shared.filters.judge import Event, fulfils
from shared.identity.belonging import Stitching
from shared.identity.identity import Identity, no_identity
from shared.identity.log import UnitId

Json = str | float | bool | None
_LOG = "memory"


@dataclass(frozen=True, slots=True)
class TouchRow:
    """A touchpoint as it was sent; `time_us` in microseconds since 1970-01-01 UTC."""

    event_id: str
    project: str
    unit_id: str
    time_us: int
    channel: str
    cost: float | None = None
    currency: str | None = None
    unit_type: str = "user"
    linked: tuple[UnitId, ...] = ()
    campaign_source: str | None = None
    medium: str | None = None
    campaign: str | None = None
    content: str | None = None
    term: str | None = None
    interaction: str | None = None
    source: str | None = None
    properties: Mapping[str, Json] = field(default_factory=dict)
    credited: str = ""
    """What the query credits, once it is known."""


@dataclass(frozen=True, slots=True)
class ConversionRow:
    """A conversion as it was sent; `time_us` in microseconds since 1970-01-01 UTC."""

    event_id: str
    project: str
    unit_id: str
    time_us: int
    event_name: str
    value: float | None = None
    currency: str | None = None
    unit_type: str = "user"
    linked: tuple[UnitId, ...] = ()
    source: str | None = None
    properties: Mapping[str, Json] = field(default_factory=dict)


R = TypeVar("R", TouchRow, ConversionRow)


@dataclass(frozen=True, slots=True)
class ListedNames:
    """Names in a list."""

    names: Sequence[str]

    def at(self, rows: Integers) -> list[str]:
        """See Names."""
        return [self.names[row] for row in rows.tolist()]


class MemoryJourneyLog:
    """See JourneyLog. Its watermark is the number of rows, and nothing ever arrives later."""

    def __init__(
        self,
        touches: Iterable[TouchRow],
        conversions: Iterable[ConversionRow],
        commit_time: dt.datetime,
        identity: Identity | None = None,
    ) -> None:
        self._touches = list(touches)
        self._conversions = list(conversions)
        self._commit_time = commit_time
        self._identity = identity or no_identity()

    async def wait_until(self, at_least: str, timeout_s: float) -> None:  # noqa: ARG002
        """See JourneyLog. What is not here never comes."""
        _require_covered(at_least, len(self._touches) + len(self._conversions))

    def read(self, query: EventQuery) -> JourneyEvents:
        """See JourneyLog."""
        size = len(self._touches) + len(self._conversions)
        _require_covered(query.as_of, size)
        selected = _selector(query)
        named = [_named(row, query) for row in self._touches if selected(row)]
        touches = self._owned([row for row in named if _fulfils(row, query.touch_filter)], query)
        bought = [
            row
            for row in self._conversions
            if selected(row)
            and row.event_name == query.event_name
            and _fulfils(row, query.conversion_filter)
        ]
        conversions = self._owned(bought, query)
        if query.converting:
            converted = {row.unit_id for row in conversions}
            touches = [row for row in touches if row.unit_id in converted]
        ids = {row.unit_id for row in touches} | {row.unit_id for row in conversions}
        units = {unit: position for position, unit in enumerate(sorted(ids, key=str.encode))}
        matches = _matches(touches, conversions, query)
        return JourneyEvents(
            touches=_touch_columns(touches, units, query, matches and matches[0]),
            conversions=Conversions(
                units=np.array([units[row.unit_id] for row in conversions], dtype=np.int64),
                times=np.array([row.time_us for row in conversions], dtype=np.int64),
                values=np.array([row.value or 0.0 for row in conversions], dtype=np.float64),
                matches=matches and matches[1],
            ),
            currencies=_currencies(touches, conversions),
            touch_ids=ListedNames([row.event_id for row in touches]),
            conversion_ids=ListedNames([row.event_id for row in conversions]),
            unit_ids=ListedNames([row.unit_id for row in conversions]),
            units=ListedNames(list(units)),
            watermark=f"{_LOG}:{size}" if size else "",
            watermark_time=self._commit_time if size else None,
            identity_version=self._identity.version,
            milestones=self._milestones(query, units),
        )

    def _milestones(self, query: EventQuery, units: dict[str, int]) -> MilestoneEvents:
        selected = _selector(query)
        asked = [row for row in self._conversions if row.event_name in query.milestones]
        owned = self._owned([row for row in asked if selected(row)], query)
        rows = [row for row in owned if row.unit_id in units]
        return MilestoneEvents(
            query.milestones,
            np.array([units[row.unit_id] for row in rows], dtype=np.int64),
            np.array([row.time_us for row in rows], dtype=np.int64),
            np.array([query.milestones.index(row.event_name) for row in rows], dtype=np.int32),
        )

    def _owned(self, rows: Iterable[R], query: EventQuery) -> list[R]:
        """The rows under the unit that they belong to, sorted."""
        owned = ((row, self._owner(row, query)) for row in rows)
        kept = [replace(row, unit_id=owner) for row, owner in owned if owner is not None]
        return sorted(kept, key=_order)

    def _owner(self, row: TouchRow | ConversionRow, query: EventQuery) -> str | None:
        units = [(row.unit_type, row.unit_id), *row.linked]
        named = [unit for unit in units if unit[0] == query.unit_type][:1]
        as_of_us = row.time_us if query.stitching is Stitching.POINT_IN_TIME else None
        for identity in self._identity.resolve(named or units, as_of_us):
            for member in identity.members:
                if member.unit[0] == query.unit_type:
                    return member.unit[1]
        return None


def _order(row: TouchRow | ConversionRow) -> tuple[bytes, int, str]:
    return row.unit_id.encode(), row.time_us, row.event_id


def _selector(query: EventQuery) -> Callable[[TouchRow | ConversionRow], bool]:
    def selected(row: TouchRow | ConversionRow) -> bool:
        return (
            row.project == query.project
            and (query.from_us is None or row.time_us >= query.from_us)
            and (query.until_us is None or row.time_us < query.until_us)
        )

    return selected


def _touch_columns(
    rows: Sequence[TouchRow], units: dict[str, int], query: EventQuery, matches: Integers | None
) -> Touches:
    channels, codes = _coded([row.credited for row in rows])
    facets = None
    if query.faceted:
        through, did = [row.channel for row in rows], [row.interaction or "" for row in rows]
        facets = Facets(*_coded(through), *_coded(did))
    return Touches(
        channels=channels,
        units=np.array([units[row.unit_id] for row in rows], dtype=np.int64),
        times=np.array([row.time_us for row in rows], dtype=np.int64),
        codes=codes,
        costs=np.array(
            [np.nan if row.cost is None else row.cost for row in rows], dtype=np.float64
        ),
        facets=facets,
        matches=matches,
    )


def _coded(names: Sequence[str]) -> tuple[tuple[str, ...], Codes]:
    distinct = sorted(set(names))
    return tuple(distinct), np.array([distinct.index(name) for name in names], dtype=np.int32)


def _event(row: TouchRow | ConversionRow) -> Event:
    """The row as filters see it."""
    return {each.name: getattr(row, each.name) for each in fields(row)}


def _fulfils(row: TouchRow | ConversionRow, condition: Filter | None) -> bool:
    return condition is None or fulfils(_event(row), condition)


def _named(row: TouchRow, query: EventQuery) -> TouchRow:
    """The touch with the channel that the grouping gives, and what is credited."""
    row = replace(row, channel=channel_of(_event(row), query.grouping)[0])
    match query.credited:
        case TouchField.SOURCE_MEDIUM:
            found: Json = f"{row.campaign_source or NOT_SET} / {row.medium or NOT_SET}"
        case TouchField():
            found = getattr(row, query.credited.value)
        case _:
            found = row.properties.get(query.credited.key)
    return replace(row, credited=found if isinstance(found, str) and found else NOT_SET)


def _matches(
    touches: Sequence[TouchRow], conversions: Sequence[ConversionRow], query: EventQuery
) -> tuple[Integers, Integers] | None:
    if not query.associations:
        return None
    pairs = query.associations
    of_touches = [_said(row, [pair.touch_property for pair in pairs]) for row in touches]
    of_bought = [_said(row, [pair.conversion_property for pair in pairs]) for row in conversions]
    known = sorted({said for said in (*of_touches, *of_bought) if said is not None})
    one, other = (
        np.array([NO_MATCH if said is None else known.index(said) for said in every], np.int64)
        for every in (of_touches, of_bought)
    )
    return one, other


def _said(row: TouchRow | ConversionRow, keys: Sequence[str]) -> str | None:
    """The properties as one text; None when one is missing."""
    values = [row.properties.get(key) for key in keys]
    return None if None in values else json.dumps(values)


def _currencies(
    touches: Sequence[TouchRow], conversions: Sequence[ConversionRow]
) -> tuple[str, ...]:
    found = {row.currency for row in touches if row.cost is not None}
    found |= {row.currency for row in conversions if row.value is not None}
    return tuple(sorted(currency for currency in found if currency))


def _require_covered(at_least: str, size: int) -> None:
    if not at_least:
        return
    log, _, position = at_least.partition(":")
    if log != _LOG or not position.isdecimal():
        raise DomainError(
            Code.INVALID_ARGUMENT,
            "INVALID_CONSISTENCY_TOKEN",
            f"consistency token {shown(at_least)} was not issued by this log; pass the "
            "watermark of a reply unchanged, or leave it empty",
        )
    if int(position) > size:
        raise unavailable(
            "NOT_YET_FRESH", f"{size} events are readable, not {position}; retry later"
        )
