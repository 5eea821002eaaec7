"""Sums over the subsets of up to 20 players, and Shapley values inside every set at once.

A function on sets is an array of 2^k numbers; entry b belongs to the set of the bits of b. The
zeta transform sums over subsets and the Moebius transform takes it back, each in k 2^(k-1) adds
(Yates 1937). With the Moebius transform d of a game (its Harsanyi dividends), the Shapley value of
j in the game restricted to S is the sum of d(T)/|T| over the T within S that hold j.
"""

import numpy as np

from services.attribution.domain.arrays import Floats, Integers
from shared.errors import invalid

MAX_PLAYERS = 20


def require_few(players: int) -> None:
    """Refuse more players than a lattice in memory holds."""
    if players > MAX_PLAYERS:
        raise invalid(
            "shapley.channels",
            players,
            f"at most {MAX_PLAYERS} channels in a game over conversion rates; group rare channels, "
            "or use the simplified or the learned game",
        )


def zeta(function: Floats) -> Floats:
    """Return for each set the sum of `function` over its subsets."""
    return _transformed(function, 1.0)


def moebius(function: Floats) -> Floats:
    """Return the function whose zeta transform is `function`."""
    return _transformed(function, -1.0)


def values_within(game: Floats, sets: Integers) -> Floats:
    """Return the Shapley value of each player in the game restricted to each of `sets`.

    `game` has 2^k entries and is 0 for the empty set; the answer has shape (len(sets), k), with 0
    for players outside a set. Each row sums to the game's value of its set.
    """
    players = len(game).bit_length() - 1
    everyone = np.arange(len(game), dtype=np.int64)
    dividends = moebius(game) / np.maximum(np.bitwise_count(everyone), 1)
    values = np.zeros((len(sets), players))
    for player in range(players):
        # Only sets with the player count, so the lattice of the other players is enough.
        own = dividends.reshape(-1, 2, 1 << player)[:, 1].ravel()
        holding = np.flatnonzero(sets >> player & 1)
        low = sets[holding] & ((1 << player) - 1)
        high = sets[holding] >> (player + 1) << player
        values[holding, player] = zeta(own)[high | low]
    return values


def _transformed(function: Floats, sign: float) -> Floats:
    result = function.astype(np.float64)
    players = len(result).bit_length() - 1
    for player in range(players):
        halves = result.reshape(-1, 2, 1 << player)
        halves[:, 1] += sign * halves[:, 0]
    return result
