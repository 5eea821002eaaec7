"""Sums over the subsets of up to 20 players, and Shapley values inside every set at once.

A function on sets is an array of 2^k numbers; entry b belongs to the set of the bits of b. The
zeta transform sums over subsets and the Moebius transform takes it back, each in k 2^(k-1) adds
(Yates 1937). With the Moebius transform d of a game (its Harsanyi dividends), the Shapley value of
j in the game restricted to S is the sum of d(T)/|T| over the T within S that hold j.

A sum of such values over S, each weighed by some a(S), needs no game but the whole: it is the sum
of d(T)/|T| A(T) over the T that hold j, where A(T) sums a over the sets that hold T.
"""

from collections.abc import Callable

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
    return _transformed(function, _add_below)


def moebius(function: Floats) -> Floats:
    """Return the function whose zeta transform is `function`."""
    return _transformed(function, _take_below)


def over_supersets(function: Floats) -> Floats:
    """Return for each set the sum of `function` over the sets that hold it."""
    return _transformed(function, _add_above)


def equal_parts(game: Floats) -> Floats:
    """Return the part of each member in the dividend of each set: d(T)/|T|, 0 for the empty set."""
    sizes = np.bitwise_count(np.arange(len(game), dtype=np.int64))
    return moebius(game) / np.maximum(sizes, 1)


def by_player(parts: Floats) -> Floats:
    """Return for each player the sum of `parts` over the sets that hold the player."""
    players = len(parts).bit_length() - 1
    values = np.zeros(players)
    # Once the highest player is added up, sets that differ by it alone are one set.
    for player in reversed(range(players)):
        without, with_ = parts.reshape(2, -1)
        values[player] = with_.sum()
        parts = without + with_
    return values


def values_within(game: Floats, sets: Integers) -> Floats:
    """Return the Shapley value of each player in the game restricted to each of `sets`.

    `game` has 2^k entries and is 0 for the empty set; the answer has shape (len(sets), k), with 0
    for players outside a set. Each row sums to the game's value of its set.
    """
    players = len(game).bit_length() - 1
    dividends = equal_parts(game)
    values = np.zeros((len(sets), players))
    for player in range(players):
        # Only sets with the player count, so the lattice of the other players is enough.
        own = dividends.reshape(-1, 2, 1 << player)[:, 1].ravel()
        holding = np.flatnonzero(sets >> player & 1)
        low = sets[holding] & ((1 << player) - 1)
        high = sets[holding] >> (player + 1) << player
        values[holding, player] = zeta(own)[high | low]
    return values


def _transformed(function: Floats, step: Callable[[Floats, Floats], None]) -> Floats:
    result = function.astype(np.float64)
    players = len(result).bit_length() - 1
    # Neighbours are far apart for the high players alone, and only then are steps long; so the low
    # players are made the high ones, and back.
    low = players // 2
    table = _over_high(result.reshape(-1, 1 << low), players - low, step)
    table = _over_high(np.ascontiguousarray(table.T), low, step)
    return np.ascontiguousarray(table.T).ravel()


def _over_high(table: Floats, players: int, step: Callable[[Floats, Floats], None]) -> Floats:
    width = table.shape[1]
    for player in range(players):
        halves = table.reshape(-1, 2, width << player)
        step(halves[:, 0], halves[:, 1])
    return table


def _add_below(without: Floats, with_: Floats) -> None:
    with_ += without


def _take_below(without: Floats, with_: Floats) -> None:
    with_ -= without


def _add_above(without: Floats, with_: Floats) -> None:
    without += with_
