"""Rows of a finished experiment as events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf import struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.common.v1.unit_pb2 import UnitId
from touchstone.events.v1.event_pb2 import Conversion, Event, Exposure

from services.cli.importing import cells
from services.cli.importing.cells import RowError
from services.cli.importing.names import event_id
from services.cli.importing.sources import Cells, Source, SourceRow, require_column
from shared.errors import shown

ROW_NUMBER = "row"
_DAY_US = 86_400_000_000
# Metric values follow the exposure at once: any conversion window holds them.
_AFTER_US = 1_000_000
EVALUATOR = "touchstone import"


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """A column that is measured. `proportion`: it says yes or no; otherwise it is a number, in
    `currency` where it is money. The metric and its events are the experiment's own: those of
    another experiment never count here.
    """

    column: str
    metric_id: str
    event_name: str
    proportion: bool
    currency: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentMapping:
    """Which column means what. Covariates are (column, event name). `start_us` is the time of
    every exposure when there is no `time` column; `covariate_us` that of every covariate.
    """

    dataset: str
    experiment: str
    unit: str
    unit_type: str
    variant: str
    variants: Mapping[str, str]
    metrics: tuple[MetricColumn, ...]
    covariates: tuple[tuple[str, str], ...]
    attributes: tuple[str, ...]
    time: str | None
    start_us: int
    source: str

    @property
    def covariate_us(self) -> int:
        """One day before the experiment began."""
        return max(self.start_us - _DAY_US, 0)


class ExperimentRows:
    """Turns rows into events: the exposure, covariates before it, metric values after it.
    `repeated` holds, of each unit that stands in several rows, the number of the first.
    """

    def __init__(
        self, mapping: ExperimentMapping, source: Source, repeated: Mapping[str, int]
    ) -> None:
        self._mapping = mapping
        self._repeated = repeated
        self._by_row = is_row_number(mapping.unit, source)
        self._unit_at = 0 if self._by_row else require_column(source, mapping.unit, "--unit")
        self._variant_at = require_column(source, mapping.variant, "--variant")
        self._time_at = (
            None if mapping.time is None else require_column(source, mapping.time, "--time")
        )
        self._metrics = [
            (metric, require_column(source, metric.column, "--metric"))
            for metric in mapping.metrics
        ]
        self._covariates = [
            (column, name, require_column(source, column, "--covariate"))
            for column, name in mapping.covariates
        ]
        self._attributes = [
            (column, require_column(source, column, "--attribute")) for column in mapping.attributes
        ]
        self._exposure_role = f"exposure:{mapping.experiment}"
        self._event_columns = {name: column for column, name in mapping.covariates}
        self._event_columns |= {metric.event_name: metric.column for metric in mapping.metrics}

    def events(self, row: SourceRow) -> list[Event]:
        """The events of a row: all of them, or RowError."""
        mapping = self._mapping
        unit = self._unit(row)
        at_us = mapping.start_us
        if self._time_at is not None:
            at_us = cells.time_us(row.cells[self._time_at], mapping.time or "")
        exposure = Event(
            event_id=event_id(mapping.dataset, row.number, self._exposure_role),
            event_time=cells.stamp(at_us),
            unit=unit,
            source=mapping.source,
            properties=self._properties(row.cells),
            exposure=Exposure(
                experiment=mapping.experiment,
                variant=self._variant(row.cells),
                reason="imported",
                evaluator=EVALUATOR,
            ),
        )
        found = [exposure]
        before = cells.stamp(mapping.covariate_us)
        for column, name, place in self._covariates:
            cell = row.cells[place]
            if not cells.is_missing(cell):
                value = cells.number(cell, column)
                found.append(self._conversion(row, unit, name, value, before))
        after = cells.stamp(at_us + _AFTER_US)
        for metric, place in self._metrics:
            value = _measured(metric, row.cells[place])
            if value != 0:
                found.append(self._outcome(row, unit, metric, value, after))
        return found

    def column_of(self, event: Event, field: str) -> str:
        """The column that a field of an event comes from; empty when it comes from none."""
        mapping = self._mapping
        if event.HasField("conversion") and not field.startswith(("unit", "event_time")):
            return self._event_columns.get(event.conversion.event_name, "")
        columns = {
            "unit.id": "" if self._by_row else mapping.unit,
            "unit": "" if self._by_row else mapping.unit,
            "event_time": mapping.time or "",
            "exposure.variant": mapping.variant,
        }
        return columns.get(field, "")

    def _unit(self, row: SourceRow) -> UnitId:
        if self._by_row:
            # The rows of another file are other units.
            text = f"{self._mapping.dataset}:{row.number}"
        else:
            text = cells.unit_id(row.cells[self._unit_at], self._mapping.unit)
            if self._repeated.get(text, row.number) != row.number:
                raise RowError(
                    self._mapping.unit,
                    text,
                    f"unit {shown(text)} stands in row {self._repeated[text]} already; allowed: "
                    "one row a unit",
                )
        return UnitId(type=self._mapping.unit_type, id=text)

    def _variant(self, row: Cells) -> str:
        name = cells.text(row[self._variant_at], self._mapping.variant)
        key = self._mapping.variants.get(name)
        if key is None:
            raise RowError(self._mapping.variant, name, "is no arm; the file changed meanwhile")
        return key

    def _properties(self, row: Cells) -> struct_pb2.Struct | None:
        fields = {
            column: _property(row[place])
            for column, place in self._attributes
            if not cells.is_missing(row[place])
        }
        return struct_pb2.Struct(fields=fields) if fields else None

    def _outcome(
        self, row: SourceRow, unit: UnitId, metric: MetricColumn, value: float, time: Timestamp
    ) -> Event:
        given = None if metric.proportion else value
        event = self._conversion(row, unit, metric.event_name, given, time)
        # A metric with a currency counts no value that does not say to be in it.
        event.conversion.currency = metric.currency
        return event

    def _conversion(
        self, row: SourceRow, unit: UnitId, name: str, value: float | None, time: Timestamp
    ) -> Event:
        return Event(
            event_id=event_id(self._mapping.dataset, row.number, name),
            event_time=time,
            unit=unit,
            source=self._mapping.source,
            conversion=Conversion(event_name=name, value=value),
        )


def is_row_number(unit: str, source: Source) -> bool:
    """Whether `--unit` means the number of the row, and not a column."""
    return unit == ROW_NUMBER and ROW_NUMBER not in source.columns


def _measured(metric: MetricColumn, cell: object) -> float:
    if metric.proportion:
        return float(cells.flag(cell, metric.column))
    return cells.number(cell, metric.column)


def _property(cell: object) -> struct_pb2.Value:
    if isinstance(cell, bool):
        return struct_pb2.Value(bool_value=cell)
    if isinstance(cell, int | float) and abs(cell) < 2**53:
        return struct_pb2.Value(number_value=cell)
    return struct_pb2.Value(string_value=str(cell))
