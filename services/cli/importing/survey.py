"""A first look at an experiment's file: its arms, what its metrics are, when it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.cli.importing.cells import RowError, is_missing, looks_like_flag, number, time_us
from services.cli.importing.sources import Source, require_column
from shared.errors import DomainError, invalid

MAX_VARIANTS = 100


@dataclass(frozen=True, slots=True)
class Survey:
    """What the whole file shows: the names of its arms, sorted; the metric columns that hold
    no other number than 0 and 1; the earliest time, in microseconds, None without a readable one.
    """

    rows: int
    variants: tuple[str, ...]
    flags: frozenset[str]
    earliest_us: int | None


def survey(source: Source, variant: str, metrics: Sequence[str], time: str | None) -> Survey:
    """Reads the file once. Raises INVALID_ARGUMENT when the variant column cannot be one."""
    variant_at = require_column(source, variant, "--variant")
    metrics_at = [(name, require_column(source, name, "--metric")) for name in metrics]
    time_at = None if time is None else require_column(source, time, "--time")
    names: set[str] = set()
    flags = set(metrics)
    rows, earliest = 0, None
    for row in source.rows():
        rows += 1
        if row.problem:
            continue
        cell = row.cells[variant_at]
        if not is_missing(cell):
            names.add(str(cell).strip())
        if len(names) > MAX_VARIANTS:
            raise _no_variants(variant, f"more than {MAX_VARIANTS} different values")
        for name, place in metrics_at:
            if name in flags and not _fits_flag(row.cells[place]):
                flags.discard(name)
        if time_at is not None:
            earliest = _earlier(earliest, row.cells[time_at])
    if len(names) < 2:
        raise _no_variants(variant, f"{len(names)} different values in {rows} rows")
    return Survey(rows, tuple(sorted(names)), frozenset(flags), earliest)


def _fits_flag(cell: object) -> bool:
    if is_missing(cell) or looks_like_flag(cell):
        return True
    try:
        number(cell, "")
    except RowError:
        return True  # no number of any kind: the row will be rejected either way
    return False


def _earlier(earliest: int | None, cell: object) -> int | None:
    try:
        found = time_us(cell, "")
    except RowError:
        return earliest  # the row is rejected with its reason when it is imported
    return found if earliest is None else min(earliest, found)


def _no_variants(column: str, found: str) -> DomainError:
    return invalid(
        "--variant", column, f"a column of 2 to {MAX_VARIANTS} names of arms; this one has {found}"
    )
