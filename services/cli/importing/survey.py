"""A first look at an experiment's file: its arms, what its metrics are, when it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.cli.importing.cells import RowError, is_missing, number_or_none, time_us
from services.cli.importing.sources import Source, SourceRow, require_column
from shared.errors import DomainError, invalid

MAX_VARIANTS = 100


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns to look at. `unit` is None when each row is a unit."""

    variant: str
    metrics: Sequence[str]
    time: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What the whole file shows.

    `variants`: the names of its arms, in the order of the file. `means`: of each metric column
    with another number than 0 and 1, the line of the first one and that number. `earliest_us` and
    `latest_us`: the times, in microseconds, None without a readable one. `repeated`: of each unit
    that stands in several rows, the number of the first.
    """

    rows: int
    variants: tuple[str, ...]
    means: Mapping[str, tuple[int, str]]
    earliest_us: int | None
    latest_us: int | None
    repeated: Mapping[str, int]


def survey(source: Source, columns: Columns) -> Survey:
    """Reads the file once. Raises INVALID_ARGUMENT when the variant column cannot be one."""
    look = _Look(source, columns)
    rows = 0
    for row in source.rows():
        rows += 1
        if not row.problem:
            look.see(row)
    if len(look.variants) < 2:
        raise _no_variants(columns.variant, f"{len(look.variants)} different values in {rows} rows")
    times = look.times
    return Survey(
        rows,
        tuple(look.variants),
        look.means,
        min(times, default=None),
        max(times, default=None),
        look.repeated,
    )


@dataclass(slots=True)
class _Look:
    source: Source
    columns: Columns
    # In the order in which they were seen.
    variants: dict[str, None] = field(default_factory=dict)
    means: dict[str, tuple[int, str]] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    # The earliest and the latest.
    times: tuple[int, ...] = ()
    _first_rows: dict[int, int] = field(default_factory=dict)
    _variant_at: int = 0
    _metrics_at: Sequence[tuple[str, int]] = ()
    _time_at: int | None = None
    _unit_at: int | None = None

    def __post_init__(self) -> None:
        source, columns = self.source, self.columns
        self._variant_at = require_column(source, columns.variant, "--variant")
        self._metrics_at = [
            (name, require_column(source, name, "--metric")) for name in columns.metrics
        ]
        if columns.time is not None:
            self._time_at = require_column(source, columns.time, "--time")
        if columns.unit is not None:
            self._unit_at = require_column(source, columns.unit, "--unit")

    def see(self, row: SourceRow) -> None:
        """Takes a row in."""
        name = row.cells[self._variant_at]
        if not is_missing(name):
            self.variants[str(name).strip()] = None
        if len(self.variants) > MAX_VARIANTS:
            raise _no_variants(self.columns.variant, f"more than {MAX_VARIANTS} different values")
        for metric, place in self._metrics_at:
            if metric not in self.means:
                self._see_metric(metric, row, row.cells[place])
        if self._time_at is not None:
            self._see_time(row.cells[self._time_at])
        if self._unit_at is not None and not is_missing(row.cells[self._unit_at]):
            self._see_unit(row, str(row.cells[self._unit_at]).strip())

    def _see_metric(self, metric: str, row: SourceRow, cell: object) -> None:
        # What is no number says nothing of the column: its row is rejected either way.
        value = number_or_none(cell)
        if value is not None and value not in (0.0, 1.0):
            self.means[metric] = (row.line, str(cell).strip())

    def _see_time(self, cell: object) -> None:
        try:
            found = time_us(cell, "")
        except RowError:
            return  # the row is rejected with its reason when it is imported
        both = (*self.times, found)
        self.times = (min(both), max(both))

    def _see_unit(self, row: SourceRow, unit: str) -> None:
        # A hash instead of the text: a file may name very many units.
        first = self._first_rows.setdefault(hash(unit), row.number)
        if first != row.number:
            self.repeated.setdefault(unit, first)


def _no_variants(column: str, found: str) -> DomainError:
    return invalid(
        "--variant", column, f"a column of 2 to {MAX_VARIANTS} names of arms; this one has {found}"
    )
