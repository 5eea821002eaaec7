"""How long journeys take: from touches to the conversion, and from touch to touch."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from services.attribution.domain.arrays import Integers
from services.attribution.domain.journeys import DAY_US, MAX_LOOKBACK_US, Journeys
from services.attribution.domain.paths.suppression import count_units
from shared.errors import invalid

HOUR_US = DAY_US // 24
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
EDGES_US = (HOUR_US, *(days * DAY_US for days in (1, 2, 3, 7, 14, 30, 60, 90)))
MAX_EDGES = 200
MAX_LEVELS = 20


@dataclass(frozen=True, slots=True)
class LagBin:
    """Lags of at least `from_us` and less than `to_us` microseconds (None: of any length)."""

    from_us: int
    to_us: int | None
    units: int
    lags: int


@dataclass(frozen=True, slots=True)
class LagTotal:
    """Lags of several bins together; `units` are distinct."""

    units: int
    lags: int


@dataclass(frozen=True, slots=True)
class Quantile:
    """The smallest observed lag that at least the part `level` of all lags does not exceed.

    None where fewer units than the minimum have a lag up to it, or from it on.
    """

    level: float
    lag_us: int | None


@dataclass(frozen=True, slots=True)
class Lags:
    """How many lags there are, and how long.

    `units` and `lags` are None where fewer units than the minimum have one. Bins are in order and
    hold at least one lag; those with too few units are summed in `suppressed` (None: there are
    none), or counted in `withheld_bins` and not told of.
    """

    units: int | None
    lags: int | None
    quantiles: tuple[Quantile, ...]
    bins: tuple[LagBin, ...]
    suppressed: LagTotal | None
    withheld_bins: int


@dataclass(frozen=True, slots=True)
class TimeLags:
    """Lags of converting journeys up to the conversion, and between the touches of all journeys."""

    first_touch: Lags
    last_touch: Lags
    between_touches: Lags


@dataclass(frozen=True, slots=True)
class LagTable:
    """What is told of lags: quantiles at `levels`, and bins between 0, the edges and infinity."""

    levels: tuple[float, ...] = LEVELS
    edges_us: tuple[int, ...] = EDGES_US
    min_units: int = 1

    def __post_init__(self) -> None:
        if len(self.levels) > MAX_LEVELS or any(not 0 <= level <= 1 for level in self.levels):
            raise invalid("levels", [*self.levels], f"at most {MAX_LEVELS} from 0 to 1")
        edges = (0, *self.edges_us)
        rising = all(low < high for low, high in pairwise(edges))
        if len(self.edges_us) > MAX_EDGES or not rising or edges[-1] > MAX_LOOKBACK_US:
            allowed = f"at most {MAX_EDGES} rising durations above 0 and of at most 366 days"
            raise invalid("edges", [f"{edge / 1e6:g} s" for edge in self.edges_us], allowed)


def time_lags(journeys: Journeys, table: LagTable) -> TimeLags:
    """Measure the lags of journeys."""
    offsets = journeys.converting_offsets
    units = journeys.units[: journeys.converting]
    first = journeys.conversion_times - journeys.times[offsets[:-1]]
    last = journeys.conversion_times - journeys.times[offsets[1:] - 1]
    inside = np.ones(len(journeys.codes), dtype=np.bool_)
    inside[journeys.offsets[:-1]] = False
    followers = np.flatnonzero(inside)
    gaps = journeys.times[followers] - journeys.times[followers - 1]
    of_touch = np.repeat(journeys.units, np.diff(journeys.offsets))
    return TimeLags(
        first_touch=_lags(first, units, table),
        last_touch=_lags(last, units, table),
        between_touches=_lags(gaps, of_touch[followers], table),
    )


def _lags(lags: Integers, units: Integers, table: LagTable) -> Lags:
    edges = np.array([0, *table.edges_us], dtype=np.int64)
    bins = np.searchsorted(edges, lags, side="right") - 1
    held = count_units(bins, units, len(edges), table.min_units)
    counts = np.bincount(bins, minlength=len(edges))
    names, dense = np.unique(units, return_inverse=True)
    distinct = len(names)
    told = distinct == 0 or distinct >= table.min_units
    few = held.suppressed
    suppressed = None
    if few.any() and not held.withheld:
        suppressed = LagTotal(held.suppressed_units, int(counts[few].sum()))
    return Lags(
        units=distinct if told else None,
        lags=len(lags) if told else None,
        quantiles=_quantiles(lags, dense, distinct, table),
        bins=tuple(
            LagBin(*_between(table, row), int(held.units[row]), int(counts[row]))
            for row in np.flatnonzero(held.reported).tolist()
        ),
        suppressed=suppressed,
        withheld_bins=int(few.sum()) if held.withheld else 0,
    )


def _between(table: LagTable, row: int) -> tuple[int, int | None]:
    edges = (0, *table.edges_us, None)
    low, high = edges[row], edges[row + 1]
    return low or 0, high


def _quantiles(
    lags: Integers, units: Integers, distinct: int, table: LagTable
) -> tuple[Quantile, ...]:
    """Return the inverse of the distribution function: observed lags, nothing interpolated."""
    if not len(lags):
        return tuple(Quantile(level, None) for level in table.levels)
    ordered = np.sort(lags)
    shortest = np.full(distinct, ordered[-1])
    longest = np.full(distinct, ordered[0])
    np.minimum.at(shortest, units, lags)
    np.maximum.at(longest, units, lags)
    found = []
    for level in table.levels:
        lag = int(ordered[max(0, int(np.ceil(level * len(lags))) - 1)])
        sides = (int((shortest <= lag).sum()), int((longest >= lag).sum()))
        found.append(Quantile(level, lag if min(sides) >= table.min_units else None))
    return tuple(found)
