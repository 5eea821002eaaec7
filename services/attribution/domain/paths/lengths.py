"""How long journeys are, in touches and in channels."""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Integers
from services.attribution.domain.channel_sets import cells_of
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.suppression import count_units
from shared.errors import invalid

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


def touch_lengths(journeys: Journeys, max_length: int, min_units: int = 1) -> Lengths:
    """Bin journeys by their number of touches; longer ones than `max_length` share its bin."""
    return _binned(journeys, np.diff(journeys.offsets), max_length, min_units)


def channel_lengths(journeys: Journeys, max_length: int, min_units: int = 1) -> Lengths:
    """Bin journeys by their number of distinct channels."""
    sizes = cells_of(journeys.codes, journeys.offsets, len(journeys.channels)).sizes
    return _binned(journeys, sizes, max_length, min_units)


def _binned(journeys: Journeys, lengths: Integers, max_length: int, min_units: int) -> Lengths:
    _require_bins("max_length", max_length)
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
