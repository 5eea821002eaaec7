"""The transition matrix of a chain, with or without the steps from a state to itself."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Floats, Integers
from services.attribution.domain.markov.chain import ChainCounts
from services.attribution.domain.markov.walks import walks


@dataclass(frozen=True, slots=True)
class TransitionMatrix:
    """Where journeys go from each of S states; the rows of the last three sum to 1.

    `touches` (S, order) spells the states in channel codes, the oldest first; -1 is none. `start`
    (S,) sums to 1. `steps` (S, S) goes from row to column, `converted` and `null` (S,) to the end.
    `visits` (S,) counts what a row was divided by.
    """

    touches: Integers
    start: Floats
    steps: sparse.csr_array
    converted: Floats
    null: Floats
    visits: Integers


def transition_matrix(counts: ChainCounts, *, self_loops: bool = False) -> TransitionMatrix:
    """Return the probabilities of the next step.

    Without self-loops, touches in a row that leave the state as it is are one visit: this is the
    matrix of the removal effects. With them, each touch is a step; the effects are the same.
    """
    chain = walks(counts)
    visits = np.rint(chain.visits * counts.journeys).astype(np.int64)
    at = np.searchsorted(chain.keys, counts.states)
    ended = np.zeros(len(chain.keys), dtype=np.int64)
    ended[at] = counts.null
    null = ended / np.maximum(visits, 1)
    if not self_loops:
        return TransitionMatrix(
            chain.touches(), chain.start, chain.moves, chain.converts, null, visits
        )
    base = counts.base
    sources, targets = counts.windows // base, counts.windows % base**counts.order
    stays = sources == targets
    repeats = np.zeros(len(chain.keys), dtype=np.int64)
    repeats[np.searchsorted(chain.keys, sources[stays])] = counts.steps[stays]
    every = visits + repeats
    shrink = visits / np.maximum(every, 1)
    edges, at = chain.moves.tocoo(), np.flatnonzero(repeats)
    rows, columns = edges.coords
    steps = sparse.csr_array(
        (
            np.concatenate([edges.data * shrink[rows], repeats[at] / every[at]]),
            (np.concatenate([rows, at]), np.concatenate([columns, at])),
        ),
        shape=chain.moves.shape,
    )
    return TransitionMatrix(
        chain.touches(),
        chain.start,
        steps,
        chain.converts * shrink,
        null * shrink,
        every,
    )
