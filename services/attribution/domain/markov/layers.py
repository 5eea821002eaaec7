"""The order in which the equations of a chain are solved: by layers, as far as no walk returns.

A state that leads only to states solved before needs one product; so does, once the others are
known, a state that is met from none of them. What is left between is the core, where walks return.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Integers

ROUNDS = 32
LEAST_PART = 64
"""Layers thinner than one in so many of the states that are left are not worth a product."""


@dataclass(frozen=True, slots=True)
class Layers:
    """`order` (S,) names the states in the order of their solution.

    `before` and `after` are ranges of it, each solved at once; `core` lies between. The first of
    `before` are states that no walk leaves.
    """

    order: Integers
    before: tuple[slice, ...]
    core: slice
    after: tuple[slice, ...]


def find_layers(moves: sparse.csr_array) -> Layers:
    """Take states that lead to none, then states that are led to by none, round by round."""
    states = moves.shape[0]
    edges = moves.tocoo()
    sources, targets = edges.coords
    left = np.ones(states, dtype=np.bool_)
    before: list[Integers] = []
    after: list[Integers] = []
    for _ in range(ROUNDS):
        ends = left & (np.bincount(sources, minlength=states) == 0)
        left &= ~ends
        open_ = left[targets]
        sources, targets = sources[open_], targets[open_]
        begins = left & (np.bincount(targets, minlength=states) == 0)
        left &= ~begins
        open_ = left[sources]
        sources, targets = sources[open_], targets[open_]
        before.append(np.flatnonzero(ends))
        after.append(np.flatnonzero(begins))
        if (len(before[-1]) + len(after[-1])) * LEAST_PART <= np.count_nonzero(left):
            break
    after.reverse()
    core = np.flatnonzero(left)
    sizes = np.array([len(part) for part in (*before, core, *after)])
    bounds = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    ranges = [slice(begin, end) for begin, end in pairwise(bounds)]
    middle = len(before)
    return Layers(
        np.concatenate([*before, core, *after]),
        tuple(ranges[:middle]),
        ranges[middle],
        tuple(ranges[middle + 1 :]),
    )
