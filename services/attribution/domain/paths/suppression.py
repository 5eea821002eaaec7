"""A minimum number of units per reported cell.

A cell with fewer distinct units is not reported alone: such cells are summed in one row. Where that
row would itself hold too few units, the smallest reported cell joins it, so that no cell can be
found by subtracting the others from the total. Fifty units is what Ads Data Hub asks for.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Integers
from shared.errors import invalid

MAX_MIN_UNITS = 1_000_000
_MAX_PAIRS = 2**62


@dataclass(frozen=True, slots=True)
class CellUnits:
    """The units of each cell (K,), and which cells may be reported.

    `suppressed_units` counts the distinct units of all suppressed cells together. `withheld` says
    that even their sum holds too few units to be reported, so nothing may be said of them.
    """

    units: Integers
    reported: Flags
    suppressed_units: int
    withheld: bool

    @property
    def suppressed(self) -> Flags:
        """The cells that hold units and are not reported alone."""
        flags: Flags = ~self.reported & (self.units > 0)
        return flags


def count_units(cells: Integers, units: Integers, count: int, min_units: int) -> CellUnits:
    """Count the distinct units of each of `count` cells; `cells` and `units` have a row each."""
    if not 1 <= min_units <= MAX_MIN_UNITS:
        raise invalid("min_units", min_units, f"1 to {MAX_MIN_UNITS}")
    dense, width = _dense(units, count)
    pairs = _distinct(cells * width + dense)
    of_pair = pairs // width
    per_cell = np.bincount(of_pair, minlength=count)
    reported = per_cell >= min_units
    few = ~reported & (per_cell > 0)
    together = len(_distinct(pairs[few[of_pair]] % width))
    if 0 < together < min_units and reported.any():
        smallest = np.flatnonzero(reported)[np.argmin(per_cell[reported])]
        reported[smallest] = False
        few[smallest] = True
        together = len(_distinct(pairs[few[of_pair]] % width))
    return CellUnits(per_cell, reported, together, 0 < together < min_units)


def _distinct(numbers: Integers) -> Integers:
    """Return the distinct numbers in order; most are, so a sort beats a hash table."""
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    distinct: Integers = ordered[first]
    return distinct


def _dense(units: Integers, count: int) -> tuple[Integers, int]:
    """Return units as numbers from 0 below a width that a pair with a cell fits 64 bits by."""
    width = int(units.max(initial=0)) + 1
    # Unit numbers are row numbers as a rule; only others have to be sorted to be numbered anew.
    if units.min(initial=0) >= 0 and width * max(count, 1) < _MAX_PAIRS:
        return units, width
    distinct, dense = np.unique(units, return_inverse=True)
    return dense, max(len(distinct), 1)
