"""Removal effects at any order: of channels, of groups of channels, and of sequences.

Removing something sends every walk that meets it to null. Its effect is the part of conversions
that this loses: the probability that a converting walk meets it, RE = y_0/p_0, where

    p = Q p + b              conversion from each state; p_0 is conversions over journeys
    y = p on states that hold it, y = Q y on the others      meeting it, and then converting

Nothing is subtracted from 1, so that an effect of a millionth is as precise as one of a half.
Sources: Archak et al. (2010), Anderl et al. (2016); the equations for y are those of hitting
probabilities (Norris 1997, theorem 1.3.2) with p on the boundary. Descriptive, not causal.
"""

from collections.abc import Iterable

import numpy as np

from services.attribution.domain.arrays import Flags, Floats, Integers, distinct
from services.attribution.domain.markov.absorbing import System, solve, solve_all, system_of
from services.attribution.domain.markov.chain import ChainCounts
from services.attribution.domain.markov.effects import RemovalEffects
from services.attribution.domain.markov.walks import Walks, walks

CELLS_AT_ONCE = 3 << 20
CHANCES_ERROR = 1e-15
"""Tight, since it stands beside the effect of the rarest channel."""


def chain_removal_effects(counts: ChainCounts) -> RemovalEffects:
    """Return the removal effect of every channel, on conversions and on value."""
    chain = walks(counts)
    touches = chain.touches()
    used = np.zeros(counts.channels, dtype=np.bool_)
    used[touches[touches >= 0]] = True
    converted = int(counts.converted.sum())
    nothing = np.zeros(counts.channels)
    if not converted:
        return RemovalEffects(nothing, None, 0.0, ~used)
    system = system_of(chain.moves, chain.visits)
    effects, error = _of_channels(chain, system, used, chain.converts)
    value_effects: Floats | None = None
    if counts.value.sum() > 0 and (counts.value >= 0).all():
        if _is_multiple(counts.value, counts.converted):
            value_effects = effects
        else:
            value_effects, value_error = _of_channels(chain, system, used, chain.worth)
            error = max(error, value_error)
    return RemovalEffects(effects, value_effects, converted / counts.journeys, ~used, error)


def joint_removal_effect(counts: ChainCounts, removed: Iterable[int]) -> float:
    """Return the part of conversions that is lost without any of these channels, by code."""
    chain = walks(counts)
    held = np.isin(chain.touches(), [*removed])
    if not counts.converted.any():
        return 0.0
    system = system_of(chain.moves, chain.visits)
    chances, _ = chances_of(system, chain.converts)
    order = system.layers.order
    hit: Integers = np.flatnonzero(np.logical_or.reduce(held[order], axis=1))
    met, _ = _met(system, chain.start[order], chances[order], (hit, 1))
    return float(np.clip(met[0] / (chain.start @ chances), 0.0, 1.0))


def chances_of(system: System, ends: Floats) -> tuple[Floats, float]:
    """Return what a walk from each state ends up with, and the error that the start sees."""
    solution = solve_all(system, ends[:, None], CHANCES_ERROR)
    return solution.values[:, 0], float(solution.errors[0])


def _of_channels(chain: Walks, system: System, used: Flags, ends: Floats) -> tuple[Floats, float]:
    """The effect of every channel on what the walks end up with, and its relative error."""
    chances, error = chances_of(system, ends)
    whole = float(chain.start @ chances)
    order = system.layers.order
    touches, start, chances = chain.touches()[order], chain.start[order], chances[order]
    effects = np.zeros(len(used))
    relative = error / whole
    codes = np.flatnonzero(used)
    width = max(1, CELLS_AT_ONCE // max(len(ends), 1))
    for first in range(0, len(codes), width):
        block = codes[first : first + width]
        met, errors = _met(system, start, chances, (_hits(touches, block, len(used)), len(block)))
        effects[block] = met / whole
        seen = met > 0
        if seen.any():
            # What the start sees of the error of the chances bounds what the first hit sees.
            bounds = (errors[seen] + error) / met[seen] + error / whole
            relative = max(relative, float(bounds.max()))
    return np.clip(effects, 0.0, 1.0), relative


def _hits(touches: Integers, block: Integers, channels: int) -> Integers:
    """The cells (state, column) whose state holds the channel of the column, ascending."""
    column = np.full(channels + 1, -1, dtype=np.int64)
    column[block] = np.arange(len(block))
    at = column[touches]
    states, places = np.nonzero(at >= 0)
    return distinct(states * len(block) + at[states, places])


def _met(
    system: System, start: Floats, chances: Floats, hits: tuple[Integers, int]
) -> tuple[Floats, Floats]:
    """The chance from the start to meet a hit state of each column and then convert; its error.

    All is in the order of the system; `hits` are cells and the number of columns.
    """
    cells, width = hits
    boundary = np.zeros((len(start), width))
    boundary.reshape(-1)[cells] = chances[cells // width]
    solution = solve(system, cells, boundary)
    met: Floats = start @ solution.values
    return met, solution.errors


def _is_multiple(value: Floats, converted: Integers) -> bool:
    """Whether every conversion is worth the same, so that value tells nothing new."""
    return bool((value * converted.sum() == value.sum() * converted).all())
