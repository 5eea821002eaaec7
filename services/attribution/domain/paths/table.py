"""Journeys by their path: how many took it, converted on it, and what that was worth."""

from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise

import numpy as np

from services.attribution.domain.arrays import Codes, Flags, Floats, Integers, distinct
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.suppression import count_units
from services.attribution.domain.windows import expand
from shared.errors import invalid

MAX_TOP_PATHS = 100_000
# Big-endian, so that bytes sort as the codes do.
CODE = np.dtype(">i4")
LARGEST_KEY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PathTable:
    """The distinct paths of some journeys, in the order of their channel codes.

    Path i has the codes `path_codes[offsets[i]:offsets[i + 1]]`; the counts have one entry a path,
    and `of_journey` names the path of each journey.
    """

    channels: tuple[str, ...]
    offsets: Integers
    path_codes: Codes
    journeys: Integers
    conversions: Integers
    values: Floats
    of_journey: Integers

    def __len__(self) -> int:
        return len(self.journeys)

    def codes(self, path: int) -> Codes:
        """The channel codes of a path, first touch first."""
        own: Codes = self.path_codes[self.offsets[path] : self.offsets[path + 1]]
        return own

    def names(self, path: int) -> tuple[str, ...]:
        """The channel names of a path, first touch first."""
        return tuple(self.channels[code] for code in self.codes(path).tolist())

    def texts(self) -> tuple[bytes, ...]:
        """All paths, each as the big-endian bytes of its codes, which sort as the codes do."""
        text = self.path_codes.astype(CODE).tobytes()
        bounds = (self.offsets * CODE.itemsize).tolist()
        return tuple(text[begin:end] for begin, end in pairwise(bounds))

    def holding(self, chosen: Flags) -> Flags:
        """Whether each path holds one of the chosen channels (C,)."""
        if not len(self):
            return np.zeros(0, dtype=np.bool_)
        held: Flags = np.logical_or.reduceat(chosen[self.path_codes], self.offsets[:-1])
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
    of_journey, firsts = _places(journeys.codes, journeys.offsets, len(journeys.channels))
    codes, offsets = expand(journeys.offsets[firsts], journeys.offsets[firsts + 1])
    converting = of_journey[: journeys.converting]
    values = np.bincount(converting, weights=journeys.values, minlength=len(firsts))
    return PathTable(
        channels=journeys.channels,
        offsets=offsets,
        path_codes=journeys.codes[codes],
        journeys=np.bincount(of_journey, minlength=len(firsts)),
        conversions=np.bincount(converting, minlength=len(firsts)),
        values=values.astype(np.float64),
        of_journey=of_journey,
    )


def _places(codes: Codes, offsets: Integers, channels: int) -> tuple[Integers, Integers]:
    """The place of the path of each journey among all in order, and a journey of each path.

    A journey is cut in pieces that fit a number, beside the place of what follows the piece among
    all that follow one; so places are found from the last pieces to the first.
    """
    lengths, base = np.diff(offsets), max(2, channels + 1)
    piece = 1
    while base ** (piece + 1) * (len(lengths) + 1) <= LARGEST_KEY:
        piece += 1
    longest_first = np.argsort(-lengths, kind="stable")
    shortness = -lengths[longest_first]
    after, firsts = np.zeros((2, len(lengths)), dtype=np.int64)
    for begin in reversed(range(0, max(int(lengths.max(initial=0)), 1), piece)):
        own = longest_first[: np.searchsorted(shortness, -begin)]
        keys = np.zeros(len(own), dtype=np.int64)
        for touch in range(begin, begin + piece):
            # Nothing sorts before every channel: a path stands before those that it begins.
            keys *= base
            inside = int(np.searchsorted(shortness, -touch))
            keys[:inside] += codes[offsets[own[:inside]] + touch] + 1
        keys *= len(lengths) + 1
        keys += after[own]
        place, shown = _ranked(keys)
        # What has no such piece keeps 0, before all that have one.
        after[own], firsts = place + 1, own[shown]
    return after - 1, firsts


def _ranked(keys: Integers) -> tuple[Integers, Integers]:
    """The place of each key among the distinct ones, and where one of each stands."""
    order = np.argsort(keys)
    ordered = keys[order]
    first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    place = np.empty(len(keys), dtype=np.int64)
    place[order] = np.cumsum(first) - 1
    return place, order[first]


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
    units = count_units(table.of_journey, journeys.units, len(table), min_units)
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
    rest = np.zeros(len(table), dtype=np.bool_)
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
        units=len(distinct(journeys.units[chosen[table.of_journey]])),
        journeys=taken,
        conversions=conversions,
        value=float(table.values[chosen].sum()),
        nulls=taken - conversions,
    )
