"""Ranges of rows inside units: the searches that cut journeys without a loop over units."""

import numpy as np

from services.attribution.domain.arrays import Integers


def first_at_or_after(
    times: Integers, begin: Integers, end: Integers, instants: Integers
) -> Integers:
    """Return, for each segment [begin, end) of `times`, the first row with time >= instant.

    Each segment is ascending. The answer is `end` when every row is earlier. All segments are
    bisected together, so m searches cost O(m log n) for segments of at most n rows, and keys of
    unit and time never have to be packed into one integer, which would overflow.
    """
    low, high = begin.copy(), end.copy()
    longest = int((high - low).max(initial=0))
    for _ in range(longest.bit_length()):
        open_ = low < high
        middle = (low + high) >> 1
        earlier = open_ & (times[np.where(open_, middle, 0)] < instants)
        low = np.where(earlier, middle + 1, low)
        high = np.where(open_ & ~earlier, middle, high)
    return low


def expand(begin: Integers, end: Integers) -> tuple[Integers, Integers]:
    """Return the row numbers of the ranges [begin, end) one after another, and their offsets.

    `offsets` has one entry more than there are ranges: range i fills offsets[i]:offsets[i + 1].
    """
    lengths = end - begin
    offsets = np.zeros(len(begin) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    rows = np.repeat(begin - offsets[:-1], lengths)
    rows += np.arange(offsets[-1], dtype=np.int64)
    return rows, offsets
