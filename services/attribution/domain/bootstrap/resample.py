"""Weighted statistics of all replicates, in one pass over the journeys."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.bootstrap.weights import (
    WEIGHTS_PER_WORD,
    Resampling,
    unit_weights,
)
from services.attribution.domain.unit_keys import Keys
from shared.errors import invalid

JOURNEYS_AT_ONCE = 1 << 14
CELLS_AT_ONCE = 1 << 25


def resample(rows: sparse.csr_array, keys: Keys, resampling: Resampling) -> Floats:
    """Return the weighted column sums of `rows` in each replicate, of shape (replicates, K).

    `rows` has a row a journey (see Tally; tallies may be stacked side by side) and `keys` the key
    of the unit of each journey. Sums of shards add up to the sums of the whole: of counts exactly,
    of other amounts but for the last bits. Journeys and columns without an entry cost no time.
    """
    sums = np.zeros((resampling.replicates, rows.shape[1]))
    for replicate, totals in enumerate(replicates(rows, keys, resampling)):
        sums[replicate] = totals
    return sums


def replicates(rows: sparse.csr_array, keys: Keys, resampling: Resampling) -> Iterator[Floats]:
    """Give the rows of `resample` one after another, and keep few of them at a time."""
    if rows.shape[0] != len(keys):
        raise invalid("bootstrap.keys", len(keys), f"one for each of {rows.shape[0]} journeys")
    seen = np.zeros(rows.shape[1], dtype=np.bool_)
    seen[rows.indices] = True
    used = np.flatnonzero(seen)
    filled = np.flatnonzero(np.diff(rows.indptr))
    keys, compact = keys[filled], _renumbered(rows[filled], seen)
    for begin, end in _chunks(resampling.replicates, max(len(used), 1)):
        totals = np.zeros((len(used), end - begin))
        for first in range(0, len(keys), JOURNEYS_AT_ONCE):
            part = slice(first, first + JOURNEYS_AT_ONCE)
            weights = unit_weights(keys[part], resampling.seed, begin, end)
            totals += compact[part].T @ weights.astype(np.float64)
        for column in totals.T:
            sums = np.zeros(rows.shape[1])
            sums[used] = column
            yield sums


def _renumbered(rows: sparse.csr_array, seen: Flags) -> sparse.csr_array:
    """Leave the columns out that were not seen."""
    place = np.cumsum(seen, dtype=np.int64) - 1
    shape = (rows.shape[0], int(np.count_nonzero(seen)))
    return sparse.csr_array((rows.data, place[rows.indices], rows.indptr), shape=shape)


def _chunks(replicates: int, columns: int) -> list[tuple[int, int]]:
    """Cut the replicates so that a chunk of sums stays in memory, at whole words of weights."""
    words = max(1, CELLS_AT_ONCE // (columns * WEIGHTS_PER_WORD))
    size = words * WEIGHTS_PER_WORD
    return [(begin, min(begin + size, replicates)) for begin in range(0, replicates, size)]
