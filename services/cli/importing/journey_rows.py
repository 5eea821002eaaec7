"""Rows of journeys as touchpoints and conversions."""

from __future__ import annotations

from dataclasses import dataclass

from touchstone.common.v1.unit_pb2 import UnitId
from touchstone.events.v1.event_pb2 import Conversion, Event, Touchpoint

from services.cli.importing import cells
from services.cli.importing.cells import RowError
from services.cli.importing.names import event_id
from services.cli.importing.sources import Source, SourceRow, require_column


@dataclass(frozen=True, slots=True)
class JourneyMapping:
    """Which column means what. A row is a touch; it is a conversion too when the interaction
    column holds `conversion_when`, or the conversion column says yes.
    """

    dataset: str
    unit: str
    unit_type: str
    time: str
    channel: str
    interaction: str | None
    conversion_when: str
    conversion: str | None
    value: str | None
    cost: str | None
    event_name: str
    currency: str
    source: str


class JourneyRows:
    """Turns rows into events: the touch, and the conversion that it led to at once."""

    def __init__(self, mapping: JourneyMapping, source: Source) -> None:
        self._mapping = mapping
        self._unit = require_column(source, mapping.unit, "--unit")
        self._time = require_column(source, mapping.time, "--time")
        self._channel = require_column(source, mapping.channel, "--channel")
        self._interaction = _optional(source, mapping.interaction, "--interaction")
        self._conversion = _optional(source, mapping.conversion, "--conversion")
        self._value = _optional(source, mapping.value, "--value")
        self._cost = _optional(source, mapping.cost, "--cost")

    def events(self, row: SourceRow) -> list[Event]:
        """The events of a row: all of them, or RowError."""
        mapping = self._mapping
        unit = UnitId(type=mapping.unit_type, id=cells.unit_id(row.cells[self._unit], mapping.unit))
        time = cells.stamp(cells.time_us(row.cells[self._time], mapping.time))
        cost = self._amount(row, self._cost, mapping.cost)
        if cost is not None and cost < 0:
            raise RowError(mapping.cost or "", cost, f"is {cost}; allowed: 0 and above")
        interaction = _text(row, self._interaction)
        touch = Event(
            event_id=event_id(mapping.dataset, row.number, "touch"),
            event_time=time,
            unit=unit,
            source=mapping.source,
            touchpoint=Touchpoint(
                channel=cells.text(row.cells[self._channel], mapping.channel),
                interaction=interaction,
                cost=cost,
                currency="" if cost is None else mapping.currency,
            ),
        )
        if not self._converts(row, interaction):
            return [touch]
        value = self._amount(row, self._value, mapping.value)
        conversion = Event(
            event_id=event_id(mapping.dataset, row.number, mapping.event_name),
            event_time=time,
            unit=unit,
            source=mapping.source,
            conversion=Conversion(
                event_name=mapping.event_name,
                value=value,
                currency="" if value is None else mapping.currency,
            ),
        )
        return [touch, conversion]

    def column_of(self, event: Event, field: str) -> str:
        """The column that a field of an event comes from; empty when it comes from none."""
        mapping = self._mapping
        if field == "event_id" and event.HasField("conversion"):
            return mapping.value or ""
        columns = {
            "unit.id": mapping.unit,
            "unit": mapping.unit,
            "event_time": mapping.time,
            "touchpoint.channel": mapping.channel,
            "touchpoint.interaction": mapping.interaction or "",
            "touchpoint.cost": mapping.cost or "",
            "conversion.value": mapping.value or "",
        }
        return columns.get(field, "")

    def _converts(self, row: SourceRow, interaction: str) -> bool:
        if self._conversion is not None:
            return cells.flag(row.cells[self._conversion], self._mapping.conversion or "")
        return self._interaction is not None and interaction == self._mapping.conversion_when

    def _amount(self, row: SourceRow, place: int | None, column: str | None) -> float | None:
        if place is None or cells.is_missing(row.cells[place]):
            return None
        return cells.number(row.cells[place], column or "")


def _optional(source: Source, column: str | None, option: str) -> int | None:
    return None if column is None else require_column(source, column, option)


def _text(row: SourceRow, place: int | None) -> str:
    if place is None or cells.is_missing(row.cells[place]):
        return ""
    return str(row.cells[place]).strip()
