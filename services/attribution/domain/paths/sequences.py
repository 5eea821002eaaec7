"""Which journeys hold a sequence of channels, touch after touch."""

from collections.abc import Sequence

import numpy as np

from services.attribution.domain.arrays import Flags, Integers
from services.attribution.domain.journeys import Journeys


def holding(journeys: Journeys, sequence: Sequence[int], order: int) -> Flags:
    """Whether each journey holds the channel codes in a row, as a chain of this order sees it.

    Such a chain sees at most `order` touches of one channel in a row; later ones stay in the same
    state.
    """
    rows = np.flatnonzero(_place_in_run(journeys) < order)
    codes = journeys.codes[rows]
    of_journey = np.repeat(np.arange(len(journeys)), np.diff(journeys.offsets))[rows]
    last = max(len(codes) - len(sequence) + 1, 0)
    matches = np.ones(last, dtype=np.bool_)
    for place, code in enumerate(sequence):
        matches &= codes[place : place + last] == code
    matches &= of_journey[:last] == of_journey[len(sequence) - 1 :][:last]
    found: Flags = np.zeros(len(journeys), dtype=np.bool_)
    found[of_journey[:last][matches]] = True
    return found


def _place_in_run(journeys: Journeys) -> Integers:
    """Count the touches of the same channel directly before each touch."""
    begins = np.ones(len(journeys.codes), dtype=np.bool_)
    begins[1:] = journeys.codes[1:] != journeys.codes[:-1]
    begins[journeys.offsets[:-1]] = True
    rows = np.arange(len(journeys.codes), dtype=np.int64)
    place: Integers = rows - np.maximum.accumulate(np.where(begins, rows, 0))
    return place
