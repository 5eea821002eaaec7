"""Journeys out of aggregated paths: a row a path, with its conversions, their value, and nulls.

This is the input that ChannelAttribution and others take. It has no times and no units: each
journey stands for a unit of its own, and touch i of a journey is at i microseconds, so models that
read times see the order of touches alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Flags, Floats, Integers
from services.attribution.domain.events import Facets, Touches
from services.attribution.domain.journeys import MAX_TOUCHES_LIMIT, Journeys
from services.attribution.domain.paths.split import split_paths
from services.attribution.domain.windows import expand
from shared.errors import invalid

MAX_TOUCHES = 200_000_000


@dataclass(frozen=True, slots=True)
class PathColumns:
    """Columns of one length, as they were read.

    `paths` are channel names between separators; `conversions` and `nulls` are whole numbers of
    journeys, `values` the value of all conversions of the row together. None is a column that was
    not sent: no value, no journey without conversion.
    """

    paths: Sequence[str]
    conversions: Sequence[object]
    values: Sequence[object] | None = None
    nulls: Sequence[object] | None = None


@dataclass(frozen=True, slots=True)
class PathJourneys:
    """The journeys, and how many rows held none."""

    journeys: Journeys
    empty_rows: int

    @property
    def touches(self) -> Touches:
        """The touches that the journeys were made of, none of them with a known cost."""
        made = self.journeys
        return Touches(
            channels=made.channels,
            units=np.repeat(made.units, np.diff(made.offsets)),
            times=made.times,
            codes=made.codes,
            costs=np.full(len(made.codes), np.nan),
        )


def read_paths(
    columns: PathColumns, separator: str = ">", max_touches: int = MAX_TOUCHES
) -> PathJourneys:
    """Expand aggregated paths; rows are numbered from 1 in errors.

    The value of a row is divided equally among its conversions. INVALID_ARGUMENT names the row
    and column of a cell that cannot be read, and what more touches than `max_touches` would take.
    """
    channels, offsets, codes = _split(columns.paths, separator)
    conversions = _counts("conversions", columns.conversions, len(columns.paths))
    nulls = _counts("nulls", columns.nulls, len(columns.paths))
    values = _numbers("value", columns.values, len(columns.paths))
    _require("value", (values == 0) | (conversions > 0), values, "0 in a row without conversion")
    rows = np.arange(len(conversions), dtype=np.int64)
    # In floats, as the product of two large columns would overflow.
    total = float(np.diff(offsets).astype(np.float64) @ (conversions + nulls))
    if total > max_touches:
        raise invalid("paths", f"{total:.0f} touches", f"at most {max_touches} touches in all")
    of_journey = np.concatenate([np.repeat(rows, conversions), np.repeat(rows, nulls)])
    taken, journey_offsets = expand(offsets[of_journey], offsets[of_journey + 1])
    converting = int(conversions.sum())
    each = values / np.maximum(conversions, 1)
    made = _journeys(channels, journey_offsets, codes[taken], each[of_journey[:converting]])
    return PathJourneys(
        journeys=made,
        empty_rows=int(((conversions == 0) & (nulls == 0)).sum()),
    )


def _journeys(
    channels: tuple[str, ...], offsets: Integers, codes: Codes, values: Floats
) -> Journeys:
    lengths = np.diff(offsets)
    everything = np.arange(len(codes), dtype=np.int64)
    times = np.repeat(-offsets[:-1], lengths)
    times += everything
    return Journeys(
        channels=channels,
        offsets=offsets,
        codes=codes,
        times=times,
        touch_rows=everything,
        units=np.arange(len(lengths), dtype=np.int64),
        converting=len(values),
        conversion_rows=np.arange(len(values), dtype=np.int64),
        conversion_times=lengths[: len(values)],
        values=values,
        direct_rows=np.zeros(0, dtype=np.int64),
        direct_values=np.zeros(0),
        # Which channel a touch came through, also where a transform gives it another name.
        facets=Facets(channels, codes, ("",), np.zeros(len(codes), dtype=np.int32)),
    )


def _split(paths: Sequence[str], separator: str) -> tuple[tuple[str, ...], Integers, Codes]:
    if not separator.strip():
        raise invalid("separator", separator, "a text that is not blank, such as >")
    found = split_paths(paths, separator)
    lengths = found.lengths
    _require("path", lengths <= MAX_TOUCHES_LIMIT, lengths, f"at most {MAX_TOUCHES_LIMIT} touches")
    names = [name.strip() for name in found.names]
    channels = tuple(sorted(set(names)))
    place = {channel: code for code, channel in enumerate(channels)}
    code_of = np.fromiter((place[name] for name in names), dtype=np.int32, count=len(names))
    codes = code_of[found.codes]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if "" in place:
        touch = int(np.argmax(codes == place[""]))
        row = int(np.searchsorted(offsets, touch, side="right"))
        raise invalid(f"row {row}, column path", paths[row - 1], "a name at each touch")
    return channels, offsets, codes


def _counts(column: str, cells: Sequence[object] | None, rows: int) -> Integers:
    numbers = _numbers(column, cells, rows)
    whole = (numbers >= 0) & (numbers == np.floor(numbers)) & (numbers < 2**53)
    _require(column, whole, numbers, "a whole number of at least 0")
    counts: Integers = numbers.astype(np.int64)
    return counts


def _numbers(column: str, cells: Sequence[object] | None, rows: int) -> Floats:
    if cells is None:
        return np.zeros(rows)
    if len(cells) != rows:
        raise invalid(f"column {column}", f"{len(cells)} rows", f"{rows} rows, as there are paths")
    numbers = _as_numbers(cells)
    if numbers is None:
        numbers = np.fromiter(
            (_number(column, row, cell) for row, cell in enumerate(cells, 1)),
            dtype=np.float64,
            count=rows,
        )
    _require(column, np.isfinite(numbers), numbers, "a finite number")
    return numbers


def _as_numbers(cells: Sequence[object]) -> Floats | None:
    """All cells at once, where every one is a number; else None."""
    try:
        found = np.asarray(cells)
    except (ValueError, OverflowError):
        return None
    if found.ndim != 1 or found.dtype.kind not in "biuf":
        return None
    return found.astype(np.float64)


def _number(column: str, row: int, cell: object) -> float:
    if isinstance(cell, int | float | np.integer | np.floating):
        return float(cell)
    try:
        return float(str(cell).strip() or "0")
    except ValueError as error:
        raise invalid(f"row {row}, column {column}", cell, "a number") from error


def _require(column: str, held: Flags, values: Integers | Floats, allowed: str) -> None:
    if not held.all():
        row = int(np.argmin(held))
        raise invalid(f"row {row + 1}, column {column}", f"{values[row]:g}", allowed)
