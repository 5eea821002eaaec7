"""Simulated visitors, who move from channel to channel until they sign up or stay away. The
chain that moves them is known, and so is what each channel is worth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EVENT_NAME = "signup"
CHANNELS = ("Display", "Email", "Search", "Social", "Video")
# Where a visitor is first met.
_FIRST = np.array([0.35, 0.05, 0.15, 0.20, 0.25])
# From a row's channel to a column's.
_NEXT = np.array(
    [
        [0.00, 0.05, 0.30, 0.15, 0.10],
        [0.05, 0.00, 0.25, 0.10, 0.05],
        [0.05, 0.10, 0.00, 0.05, 0.05],
        [0.10, 0.10, 0.25, 0.00, 0.05],
        [0.10, 0.05, 0.30, 0.15, 0.00],
    ]
)
# From a channel to signing up; what is left over stays away.
_SIGN_UP = np.array([0.02, 0.20, 0.30, 0.06, 0.03])

_AWAY, _SIGNED_UP = len(CHANNELS), len(CHANNELS) + 1


def simulate_journeys(
    visitors: int, random: np.random.Generator
) -> tuple[list[list[int]], NDArray[np.bool_]]:
    """For each visitor the channels met, as places in `CHANNELS`, and whether it signed up."""
    moves = np.column_stack([_NEXT, 1 - _NEXT.sum(axis=1) - _SIGN_UP, _SIGN_UP])
    steps = moves.cumsum(axis=1)
    at = np.searchsorted(_FIRST.cumsum(), random.random(visitors), side="right")
    at = np.minimum(at, len(CHANNELS) - 1)
    journeys: list[list[int]] = [[] for _ in range(visitors)]
    moving = np.arange(visitors)
    while moving.size:
        for visitor in moving:
            journeys[visitor].append(int(at[visitor]))
        draws = random.random(moving.size)
        at[moving] = np.minimum((draws[:, None] >= steps[at[moving]]).sum(axis=1), _SIGNED_UP)
        moving = moving[at[moving] < _AWAY]
    return journeys, at == _SIGNED_UP


def true_shares() -> NDArray[np.float64]:
    """Each channel's part of the sign-ups that would be lost without it: the removal effects of
    the chain that moved the visitors, scaled to sum to 1.
    """
    whole = _probability(_FIRST, _NEXT)
    effects = np.empty(len(CHANNELS))
    for channel in range(len(CHANNELS)):
        first, following = _FIRST.copy(), _NEXT.copy()
        first[channel] = 0
        following[:, channel] = 0
        effects[channel] = 1 - _probability(first, following) / whole
    shares: NDArray[np.float64] = effects / effects.sum()
    return shares


def _probability(first: NDArray[np.float64], following: NDArray[np.float64]) -> float:
    """That a visitor signs up: first (I - Q)^-1 r for an absorbing chain (Kemeny and Snell,
    Finite Markov Chains, 1960, theorem 3.3.7).
    """
    visits = np.linalg.solve(np.eye(len(CHANNELS)) - following.T, first)
    return float(visits @ _SIGN_UP)
