"""The chain that counts of steps give: where a walk goes from each state, and how it ends."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Floats, Integers, distinct
from services.attribution.domain.markov.chain import ChainCounts


@dataclass(frozen=True, slots=True)
class Walks:
    """The fitted chain over S states.

    `keys` (S,) are the states, ascending. `moves` (S, S) holds the probability of the next other
    state, `converts` (S,) that of conversion, `worth` (S,) the expected value of a visit, `start`
    (S,) where walks begin. `visits` (S,) is how often a walk visits each state, on average: by
    the balance of the counts it is visits over journeys, and nothing has to be solved for it.
    """

    keys: Integers
    base: int
    order: int
    moves: sparse.csr_array
    converts: Floats
    worth: Floats
    start: Floats
    visits: Floats

    def touches(self) -> Integers:
        """Return the channel codes of the states, (S, order), the oldest first; -1 is none."""
        powers = self.base ** np.arange(self.order - 1, -1, -1, dtype=np.int64)
        digits: Integers = self.keys[:, None] // powers % self.base - 1
        return digits


def walks(counts: ChainCounts) -> Walks:
    """Fit the chain. A step from a state to itself is part of the same visit.

    Every state that was seen lies between a start and an end, so none is a trap.
    """
    base, order = counts.base, counts.order
    sources, targets = counts.windows // base, counts.windows % base**order
    keys = distinct(np.concatenate([sources, targets, counts.states]))
    away = sources != targets
    rows = np.searchsorted(keys, sources[away])
    columns = np.searchsorted(keys, targets[away])
    steps = counts.steps[away]
    at = np.searchsorted(keys, counts.states)
    ends, starts, converted = np.zeros((3, len(keys)), dtype=np.int64)
    value = np.zeros(len(keys))
    ends[at] = counts.converted + counts.null
    starts[at], converted[at], value[at] = counts.start, counts.converted, counts.value
    leaving = np.bincount(rows, weights=steps, minlength=len(keys)) + ends
    journeys = max(counts.journeys, 1)
    return Walks(
        keys=keys,
        base=base,
        order=order,
        moves=sparse.csr_array((steps / leaving[rows], (rows, columns)), shape=(len(keys),) * 2),
        converts=converted / leaving,
        worth=value / leaving,
        start=starts / journeys,
        visits=leaving / journeys,
    )
