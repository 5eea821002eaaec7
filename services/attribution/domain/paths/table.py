"""Journeys by their path: how many took it, converted on it, and what that was worth."""

from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise

import numpy as np

from services.attribution.domain.arrays import Codes, Flags, Floats, Integers
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.suppression import count_units
from shared.errors import invalid

MAX_TOP_PATHS = 100_000
# Big-endian, so that bytes sort as the codes do.
CODE = np.dtype(">i4")


@dataclass(frozen=True, slots=True)
class PathTable:
    """The distinct paths of some journeys, in the order of their channel codes.

    `paths` are the codes of each path as big-endian bytes; the counts have one entry a path, and
    `of_journey` names the path of each journey.
    """

    channels: tuple[str, ...]
    paths: tuple[bytes, ...]
    journeys: Integers
    conversions: Integers
    values: Floats
    of_journey: Integers

    def codes(self, path: int) -> Codes:
        """The channel codes of a path, first touch first."""
        return np.frombuffer(self.paths[path], dtype=CODE).astype(np.int32)

    def names(self, path: int) -> tuple[str, ...]:
        """The channel names of a path, first touch first."""
        return tuple(self.channels[code] for code in self.codes(path).tolist())

    def holding(self, chosen: Flags) -> Flags:
        """Whether each path holds one of the chosen channels (C,)."""
        if not self.paths:
            return np.zeros(0, dtype=np.bool_)
        codes = np.frombuffer(b"".join(self.paths), dtype=CODE)
        lengths = np.array([len(path) for path in self.paths], dtype=np.int64) // CODE.itemsize
        begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        held: Flags = np.logical_or.reduceat(chosen[codes], begins)
        return held


class PathOrder(Enum):
    """By what the top paths are the top."""

    CONVERSIONS = "conversions"
    VALUE = "value"
    JOURNEYS = "journeys"


@dataclass(frozen=True, slots=True)
class PathTotals:
    """How many paths, units and journeys; how many converted, at what value, and how many not."""

    paths: int
    units: int
    journeys: int
    conversions: int
    value: float
    nulls: int


@dataclass(frozen=True, slots=True)
class TopPath:
    """One path and its totals; `units` are distinct."""

    path: tuple[str, ...]
    totals: PathTotals


@dataclass(frozen=True, slots=True)
class TopPaths:
    """The top paths, the sum of the other reported ones, and of those with too few units.

    `others` and `suppressed` are None where there are none. `withheld_paths` counts the paths of
    which nothing is said, as even their sum holds fewer units than the minimum.
    """

    top: tuple[TopPath, ...]
    others: PathTotals | None
    suppressed: PathTotals | None
    withheld_paths: int


def tabulate_paths(journeys: Journeys) -> PathTable:
    """Group journeys by their sequence of channels."""
    text = journeys.codes.astype(CODE).tobytes()
    bounds = (journeys.offsets * CODE.itemsize).tolist()
    sequences = [text[begin:end] for begin, end in pairwise(bounds)]
    paths = tuple(sorted(set(sequences)))
    place = {path: row for row, path in enumerate(paths)}
    of_journey = np.fromiter(
        map(place.__getitem__, sequences), dtype=np.int64, count=len(sequences)
    )
    converting = of_journey[: journeys.converting]
    values = np.bincount(converting, weights=journeys.values, minlength=len(paths))
    return PathTable(
        channels=journeys.channels,
        paths=paths,
        journeys=np.bincount(of_journey, minlength=len(paths)),
        conversions=np.bincount(converting, minlength=len(paths)),
        values=values.astype(np.float64),
        of_journey=of_journey,
    )


def top_paths(
    journeys: Journeys,
    limit: int,
    order: PathOrder,
    min_units: int = 1,
    hidden: Flags | None = None,
) -> TopPaths:
    """Return the first `limit` paths in `order`; ties by journeys, then by channel names.

    Paths that hold a channel that is `hidden` (C,) are told of together with those of few units.
    """
    if not 0 <= limit <= MAX_TOP_PATHS:
        raise invalid("paths.limit", limit, f"0 to {MAX_TOP_PATHS}")
    table = tabulate_paths(journeys)
    units = count_units(table.of_journey, journeys.units, len(table.paths), min_units)
    if hidden is not None and hidden.any():
        units = replace(units, reported=units.reported & ~table.holding(hidden))
    measure: dict[PathOrder, Integers | Floats] = {
        PathOrder.CONVERSIONS: table.conversions,
        PathOrder.VALUE: table.values,
        PathOrder.JOURNEYS: table.journeys,
    }
    candidates = np.flatnonzero(units.reported)
    # Paths stand in the order of their channels, which a stable sort keeps among ties.
    ranked = candidates[
        np.lexsort((candidates, -table.journeys[candidates], -measure[order][candidates]))
    ]
    rest = np.zeros(len(table.paths), dtype=np.bool_)
    rest[ranked[limit:]] = True
    few = units.suppressed
    return TopPaths(
        top=tuple(
            TopPath(table.names(row), _of_one(table, row, int(units.units[row])))
            for row in ranked[:limit].tolist()
        ),
        others=_together(table, journeys, rest),
        suppressed=None if units.withheld else _together(table, journeys, few),
        withheld_paths=int(few.sum()) if units.withheld else 0,
    )


def _of_one(table: PathTable, row: int, units: int) -> PathTotals:
    journeys, conversions = int(table.journeys[row]), int(table.conversions[row])
    return PathTotals(
        1, units, journeys, conversions, float(table.values[row]), journeys - conversions
    )


def _together(table: PathTable, journeys: Journeys, chosen: Flags) -> PathTotals | None:
    if not chosen.any():
        return None
    taken, conversions = int(table.journeys[chosen].sum()), int(table.conversions[chosen].sum())
    return PathTotals(
        paths=int(chosen.sum()),
        units=len(np.unique(journeys.units[chosen[table.of_journey]])),
        journeys=taken,
        conversions=conversions,
        value=float(table.values[chosen].sum()),
        nulls=taken - conversions,
    )
