"""Aggregated paths out of a file: a row a path, with conversions, their value, and nulls."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from touchstone.attribution.v1 import attribution_service_pb2 as pb

from services.cli.importing.sources import Source, SourceRow, require_column
from shared.errors import DomainError, invalid

MOST_PATHS = 100_000
"""As many as one request holds."""
NAMES = {
    "path": ("path", "channel_path", "journey"),
    "conversions": ("conversions", "total_conversions", "conversion"),
    "value": ("value", "total_conversion_value", "conversion_value"),
    "nulls": ("nulls", "total_null", "null"),
}
"""How columns are named by ChannelAttribution and others; the first that the file has is taken."""


@dataclass(frozen=True, slots=True)
class PathColumns:
    """The columns that the user named; empty is one of NAMES, if there is one."""

    path: str = ""
    conversions: str = ""
    value: str = ""
    nulls: str = ""


@dataclass(slots=True)
class _Sums:
    """What the rows of one path hold together; values are added exactly."""

    conversions: int = 0
    nulls: int = 0
    values: list[float] = field(default_factory=list)


def read_paths(source: Source, columns: PathColumns) -> list[pb.PathCounts]:
    """Read the paths in the order of their first rows, each once.

    INVALID_ARGUMENT names the line and column of a cell that cannot be read.
    """
    place = {
        name: _column(source, name, getattr(columns, name))
        for name in ("path", "conversions", "value", "nulls")
    }
    found: dict[str, _Sums] = {}
    for row in source.rows():
        if row.problem:
            raise _wrong(row, row.problem, "", "a row of as many cells as the header")
        path = _text(row, place["path"])
        if not path:
            raise _wrong(row, "path", path, "channels, with the separator between them")
        sums = found.setdefault(path, _Sums())
        sums.conversions += _count(row, "conversions", place["conversions"])
        sums.nulls += _count(row, "nulls", place["nulls"])
        sums.values.append(_number(row, "value", place["value"]))
        if len(found) > MOST_PATHS:
            raise invalid("FILE", f"more than {MOST_PATHS} paths", f"at most {MOST_PATHS} paths")
    if not found:
        raise invalid("FILE", "no row", "at least one path")
    return [
        pb.PathCounts(
            path=path,
            conversions=sums.conversions,
            value=_sum(path, sums.values),
            nulls=sums.nulls,
        )
        for path, sums in found.items()
    ]


def _sum(path: str, values: list[float]) -> float:
    try:
        return math.fsum(values)
    except OverflowError as error:
        raise invalid("value", f"more than any number holds, over path {path}", "less") from error


def _column(source: Source, name: str, named: str) -> int | None:
    if named:
        return require_column(source, named, f"--{name}")
    known = [each for each in NAMES[name] if each in source.columns]
    if not known and name in ("path", "conversions"):
        raise invalid(f"--{name}", "no column", "one of " + ", ".join(source.columns))
    return source.columns.index(known[0]) if known else None


def _text(row: SourceRow, column: int | None) -> str:
    cell = None if column is None else row.cells[column]
    return "" if cell is None else str(cell).strip()


def _number(row: SourceRow, name: str, column: int | None) -> float:
    text = _text(row, column)
    try:
        number = float(text or "0")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(row, name, text, "a number, or nothing")
    return number


def _count(row: SourceRow, name: str, column: int | None) -> int:
    number = _number(row, name, column)
    if number < 0 or number != int(number):
        raise _wrong(row, name, _text(row, column), "a whole number of at least 0")
    return int(number)


def _wrong(row: SourceRow, name: str, text: str, allowed: str) -> DomainError:
    return invalid(f"line {row.line}, {name}", text, allowed)
