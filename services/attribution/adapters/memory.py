"""JourneyLog over rows in memory: for tests, and for embedding."""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from services.attribution.domain.arrays import Integers
from services.attribution.domain.events import Conversions, Touches
from services.attribution.ports import EventQuery, JourneyEvents
from shared.errors import Code, DomainError, shown, unavailable
from shared.identity.belonging import Stitching
from shared.identity.identity import Identity, no_identity
from shared.identity.log import UnitId

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
        selected = _selector(query)
        touches = self._owned([row for row in self._touches if selected(row)], query)
        bought = [
            row for row in self._conversions if selected(row) and row.event_name == query.event_name
        ]
        conversions = self._owned(bought, query)
        ids = {row.unit_id for row in touches} | {row.unit_id for row in conversions}
        units = {unit: position for position, unit in enumerate(sorted(ids, key=str.encode))}
        return JourneyEvents(
            touches=_touch_columns(touches, units),
            conversions=Conversions(
                units=np.array([units[row.unit_id] for row in conversions], dtype=np.int64),
                times=np.array([row.time_us for row in conversions], dtype=np.int64),
                values=np.array([row.value or 0.0 for row in conversions], dtype=np.float64),
            ),
            currencies=_currencies(touches, conversions),
            touch_ids=ListedNames([row.event_id for row in touches]),
            conversion_ids=ListedNames([row.event_id for row in conversions]),
            unit_ids=ListedNames([row.unit_id for row in conversions]),
            watermark=f"{_LOG}:{size}" if size else "",
            watermark_time=self._commit_time if size else None,
            identity_version=self._identity.version,
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


def _touch_columns(rows: Sequence[TouchRow], units: dict[str, int]) -> Touches:
    channels = sorted({row.channel for row in rows})
    return Touches(
        channels=tuple(channels),
        units=np.array([units[row.unit_id] for row in rows], dtype=np.int64),
        times=np.array([row.time_us for row in rows], dtype=np.int64),
        codes=np.array([channels.index(row.channel) for row in rows], dtype=np.int32),
        costs=np.array(
            [np.nan if row.cost is None else row.cost for row in rows], dtype=np.float64
        ),
    )


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
