"""The removal effect of a sequence of channels: of every walk that holds it, touch after touch."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Integers
from services.attribution.domain.markov.absorbing import solve_all, system_of
from services.attribution.domain.markov.chain import ChainCounts
from services.attribution.domain.markov.removal import chances_of
from services.attribution.domain.markov.walks import walks
from shared.errors import invalid, limit_exceeded

MAX_SEQUENCE = 20
MAX_UNKNOWNS = 1_000_000
"""States of the chain times channels of the sequence; so many are solved in seconds."""


def sequence_removal_effect(counts: ChainCounts, sequence: Sequence[int]) -> float:
    """Return the part of conversions whose walks hold the channel codes `sequence` in a row.

    The chain is followed together with how much of the sequence was just seen (the automaton of
    Knuth, Morris and Pratt 1977), so a sequence may be longer than the order. Between 0 and 1.
    RESOURCE_EXHAUSTED where states times channels of the sequence are more than MAX_UNKNOWNS.
    """
    _require_visible(counts, sequence)
    if not counts.converted.any():
        return 0.0
    chain = walks(counts)
    unknowns = len(chain.keys) * len(sequence)
    if unknowns > MAX_UNKNOWNS:
        raise limit_exceeded("states times channels of the sequence", unknowns, MAX_UNKNOWNS)
    chances, _ = chances_of(system_of(chain.moves, chain.visits), chain.converts)
    length = len(sequence)
    after = _automaton(sequence, counts.channels)
    progress = np.zeros(len(chain.keys), dtype=np.int64)
    touches = chain.touches()
    for place in range(chain.order):
        here = touches[:, place]
        progress = np.where(here >= 0, after[progress, here], progress)
    edges = chain.moves.tocoo()
    sources = edges.coords[0][:, None] * length + np.arange(length)
    seen = after[np.arange(length), touches[edges.coords[1], -1][:, None]]
    targets = edges.coords[1][:, None] * length + seen
    weights = np.broadcast_to(edges.data[:, None], seen.shape)
    done = seen == length
    size = len(chain.keys) * length
    met = np.bincount(
        sources[done],
        weights=(weights * chances[edges.coords[1]][:, None])[done],
        minlength=size,
    )
    moves = sparse.csr_array((weights[~done], (sources[~done], targets[~done])), shape=(size, size))
    system = system_of(moves, np.repeat(chain.visits, length))
    solved = solve_all(system, met.astype(np.float64)[:, None])
    at = np.arange(len(chain.keys)) * length + np.minimum(progress, length - 1)
    from_state = np.where(progress == length, chances, solved.values[at, 0])
    return float(np.clip(chain.start @ from_state / (chain.start @ chances), 0.0, 1.0))


def _require_visible(counts: ChainCounts, sequence: Sequence[int]) -> None:
    if not 0 < len(sequence) <= MAX_SEQUENCE:
        raise invalid("sequence", f"{len(sequence)} channels", f"1 to {MAX_SEQUENCE} channels")
    if not 0 <= min(sequence) <= max(sequence) < counts.channels:
        raise invalid("sequence", [*sequence], f"codes of the {counts.channels} channels")
    longest = max(len([*run]) for _, run in groupby(sequence))
    if longest > counts.order:
        raise invalid(
            "sequence",
            f"{longest} touches of one channel in a row",
            f"at most {counts.order}: at order {counts.order} more are the same visit",
        )


def _automaton(sequence: Sequence[int], channels: int) -> Integers:
    """Return the progress after each channel, (progress + 1, C); what is complete stays so."""
    length = len(sequence)
    after = np.zeros((length + 1, channels), dtype=np.int64)
    after[length] = length
    fallback = 0
    for place, channel in enumerate(sequence):
        after[place] = after[fallback] if place else 0
        after[place, channel] = place + 1
        if place:
            fallback = int(after[fallback, channel])
    return after
