"""A minimum number of units per reported cell.

A cell with fewer distinct units is not reported alone: such cells are summed in one row. Where that
row would itself hold too few units, the smallest reported cell joins it, so that no cell can be
found by subtracting the others from the total. Fifty units is what Ads Data Hub asks for.

A table with more totals than one, such as those of its rows and of its columns, has a line of cells
for each: then this holds within every line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Integers
from shared.errors import invalid

MIN_UNITS = 50
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


def count_units(
    cells: Integers,
    units: Integers,
    count: int,
    min_units: int,
    lines: Sequence[Integers] = (),
) -> CellUnits:
    """Count the distinct units of each of `count` cells; `cells` and `units` have a row each.

    Each of `lines` (K,) says which line a cell is in; all cells together are a line too.
    """
    if not 1 <= min_units <= MAX_MIN_UNITS:
        raise invalid("min_units", min_units, f"1 to {MAX_MIN_UNITS}")
    dense, width = _dense(units, count)
    pairs = _distinct(cells * width + dense)
    of_pair, unit_of_pair = pairs // width, pairs % width
    per_cell = np.bincount(of_pair, minlength=count)
    reported = per_cell >= min_units
    everything = np.zeros(count, dtype=np.int64)
    changed = True
    while changed:
        changed = False
        for line in (*lines, everything):
            held = (~reported & (per_cell > 0))[of_pair]
            keys = _distinct(line[of_pair[held]] * width + unit_of_pair[held])
            together = np.bincount(keys // width, minlength=int(line.max(initial=0)) + 1)
            thin = (together > 0) & (together < min_units)
            joining = _smallest(per_cell, line, reported & thin[line])
            reported[joining] = False
            changed = changed or len(joining) > 0
    held = (~reported & (per_cell > 0))[of_pair]
    suppressed = len(_distinct(unit_of_pair[held]))
    return CellUnits(per_cell, reported, suppressed, 0 < suppressed < min_units)


def _smallest(per_cell: Integers, line: Integers, candidates: Flags) -> Integers:
    """Return the candidate with the fewest units of each line that has one."""
    cells = np.flatnonzero(candidates)
    cells = cells[np.lexsort((cells, per_cell[cells], line[cells]))]
    first = np.ones(len(cells), dtype=np.bool_)
    first[1:] = line[cells[1:]] != line[cells[:-1]]
    smallest: Integers = cells[first]
    return smallest


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
