"""Games over conversion rates: of exactly a set, and of a set with all its subsets.

Estimand: the Shapley value of the observed conversion rate, inside the channels of each journey. A
conversion whose distinct channels are S is divided in proportion to the Shapley values of the game
restricted to S, which sum to v(S) > 0; so each conversion is handed out once. Neither game is
monotone, so a part may be negative: a channel whose company converts less often than the others
alone. The players are the channels that stand in some journey; to use no channel changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Floats, Integers
from services.attribution.domain.channel_sets import SetHistogram, members_of
from services.attribution.domain.credits import ChannelCredits
from services.attribution.domain.shapley import Game
from services.attribution.domain.shapley.lattice import (
    by_player,
    equal_parts,
    over_supersets,
    require_few,
    values_within,
    zeta,
)
from shared.errors import invalid


@dataclass(frozen=True, slots=True)
class RateGame:
    """The values of one game over conversion rates.

    `credits` hands out every conversion. `values` (C,) are the Shapley values among all channels
    at once; they sum to `everyone`, the rate of the set of all channels, which is 0 in the game of
    exact sets where no journey held every channel.
    """

    credits: ChannelCredits
    values: Floats
    everyone: float


def rate_game(game: Game, histogram: SetHistogram) -> RateGame:
    """Solve EXACT_SET_RATE or SUBSET_RATE exactly; at most 20 channels may be in use."""
    used, bits = _players(histogram)
    worth = _worth(game, bits, histogram, len(used))
    parts = equal_parts(worth)
    rate = worth[bits]
    # What is divided by the value of its set is a sum of games, and so solved once for all sets.
    weight = np.divide(1.0, rate, out=np.zeros_like(rate), where=rate > 0)

    def handed(amounts: Integers | Floats) -> Floats:
        above = over_supersets(_by_set(bits, amounts * weight, len(worth)))
        return _among_all(by_player(parts * above), used, histogram)

    conversions = handed(histogram.conversions)
    return RateGame(
        credits=ChannelCredits(conversions, _of_values(histogram, conversions, handed)),
        values=_among_all(by_player(parts), used, histogram),
        everyone=float(worth[-1]),
    )


def rate_shares(game: Game, histogram: SetHistogram) -> Floats:
    """Divide a conversion of each set of the histogram, (S, C).

    A row sums to 1, or is 0 for a set without conversion.
    """
    used, bits = _players(histogram)
    worth = _worth(game, bits, histogram, len(used))
    within = np.zeros((len(histogram), len(histogram.channels)))
    within[:, used] = values_within(worth, bits)
    rate = worth[bits]
    divisible = (histogram.conversions > 0) & (rate > 0)
    shares: Floats = np.where(
        divisible[:, None], within / np.where(divisible, rate, 1.0)[:, None], 0.0
    )
    return shares


def _of_values(
    histogram: SetHistogram, conversions: Floats, handed: Callable[[Floats], Floats]
) -> Floats:
    """Hand out the value; where each conversion is worth one, it is handed out already."""
    if np.array_equal(histogram.values, histogram.conversions):
        return conversions
    return handed(histogram.values)


def _players(histogram: SetHistogram) -> tuple[Integers, Integers]:
    """The channels in use, few enough, and the sets of the histogram as bits of these alone."""
    words = histogram.words
    used = np.flatnonzero(
        members_of(np.bitwise_or.reduce(words, axis=0)[None, :], len(histogram.channels))[0]
    )
    require_few(len(used))
    if len(used) and used[-1] == len(used) - 1:
        return used, words[:, 0].astype(np.int64)
    return used, members_of(words, len(histogram.channels))[:, used] @ (1 << np.arange(len(used)))


def _among_all(values: Floats, used: Integers, histogram: SetHistogram) -> Floats:
    every = np.zeros(len(histogram.channels))
    every[used] = values
    return every


def _worth(game: Game, bits: Integers, histogram: SetHistogram, players: int) -> Floats:
    size = 1 << players
    converted = _by_set(bits, histogram.conversions, size)
    seen = _by_set(bits, histogram.journeys, size)
    match game:
        case Game.EXACT_SET_RATE:
            pass
        case Game.SUBSET_RATE:
            converted, seen = zeta(converted), zeta(seen)
        case _:
            raise invalid("shapley.game", game.value, "exact_set_rate or subset_rate")
    rates: Floats = np.where(seen > 0, converted / np.where(seen > 0, seen, 1.0), 0.0)
    return rates


def _by_set(bits: Integers, counts: Integers | Floats, size: int) -> Floats:
    return np.bincount(bits, weights=counts, minlength=size).astype(np.float64)
