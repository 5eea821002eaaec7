"""How long journeys are, in touches, channels and time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Integers
from services.attribution.domain.channel_sets import cells_of
from services.attribution.domain.journeys import DAY_US, Journeys
from services.attribution.domain.paths.suppression import count_units
from shared.errors import invalid

QUARTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
MAX_BINS = 10_000


@dataclass(frozen=True, slots=True)
class LengthBin:
    """Journeys of one length (the last bin: of that length or more)."""

    length: int
    units: int
    journeys: int
    conversions: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Bins in order of length, and the sum of those with too few units (None: there are none).

    `withheld_bins` counts the bins of which nothing is said.
    """

    bins: tuple[LengthBin, ...]
    suppressed: LengthBin | None
    withheld_bins: int


@dataclass(frozen=True, slots=True)
class Delays:
    """Times from a touch to the conversion, over all conversions that saw a touch.

    `quantiles_us` are in microseconds, one for each of `levels`, or None without a conversion: the
    smallest delay that at least that part of conversions does not exceed. `days` (D,) counts
    conversions by whole days of delay; its last entry holds that many days or more.
    """

    levels: tuple[float, ...]
    quantiles_us: tuple[int, ...] | None
    days: Integers


@dataclass(frozen=True, slots=True)
class TimeLags:
    """Delays from the first and from the last touch of each converting journey."""

    from_first: Delays
    from_last: Delays


def touch_lengths(journeys: Journeys, max_length: int, min_units: int = 1) -> Lengths:
    """Bin journeys by their number of touches; longer ones than `max_length` share its bin."""
    return _binned(journeys, np.diff(journeys.offsets), max_length, min_units)


def channel_lengths(journeys: Journeys, max_length: int, min_units: int = 1) -> Lengths:
    """Bin journeys by their number of distinct channels."""
    sizes = cells_of(journeys.codes, journeys.offsets, len(journeys.channels)).sizes
    return _binned(journeys, sizes, max_length, min_units)


def time_lags(
    journeys: Journeys, levels: Sequence[float] = QUARTILES, max_days: int = 90
) -> TimeLags:
    """Measure how long before the conversion its first and its last touch were."""
    for level in levels:
        if not 0 <= level <= 1:
            raise invalid("paths.levels", level, "levels between 0 and 1")
    _require_bins("paths.max_days", max_days)
    offsets = journeys.converting_offsets
    first = journeys.conversion_times - journeys.times[offsets[:-1]]
    last = journeys.conversion_times - journeys.times[offsets[1:] - 1]
    return TimeLags(_delays(first, tuple(levels), max_days), _delays(last, tuple(levels), max_days))


def _delays(lags: Integers, levels: tuple[float, ...], max_days: int) -> Delays:
    ordered = np.sort(lags)
    # The inverted distribution function: an observed delay, so nothing is interpolated.
    ranks = [max(0, int(np.ceil(level * len(lags))) - 1) for level in levels]
    quantiles = tuple(ordered[ranks].tolist()) if len(lags) else None
    days = np.bincount(np.minimum(lags // DAY_US, max_days), minlength=max_days + 1)
    return Delays(levels, quantiles, days)


def _binned(journeys: Journeys, lengths: Integers, max_length: int, min_units: int) -> Lengths:
    _require_bins("paths.max_length", max_length)
    bins = np.minimum(lengths, max_length)
    units = count_units(bins, journeys.units, max_length + 1, min_units)
    counts = np.bincount(bins, minlength=max_length + 1)
    converted = np.bincount(bins[: journeys.converting], minlength=max_length + 1)
    few = units.suppressed
    suppressed = None
    if few.any() and not units.withheld:
        suppressed = LengthBin(
            length=int(np.flatnonzero(few)[0]),
            units=units.suppressed_units,
            journeys=int(counts[few].sum()),
            conversions=int(converted[few].sum()),
        )
    return Lengths(
        bins=tuple(
            LengthBin(length, int(units.units[length]), int(counts[length]), int(converted[length]))
            for length in np.flatnonzero(units.reported).tolist()
        ),
        suppressed=suppressed,
        withheld_bins=int(few.sum()) if units.withheld else 0,
    )


def _require_bins(field: str, bins: int) -> None:
    if not 1 <= bins <= MAX_BINS:
        raise invalid(field, bins, f"1 to {MAX_BINS}")
