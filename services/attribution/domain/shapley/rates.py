"""Games over conversion rates: of exactly a set, and of a set with all its subsets.

Estimand: the Shapley value of the observed conversion rate, inside the channels of each journey. A
conversion whose distinct channels are S is divided in proportion to the Shapley values of the game
restricted to S, which sum to v(S) > 0; so each conversion is handed out once. Neither game is
monotone, so a part may be negative: a channel whose company converts less often than the others
alone. The players are the channels that stand in some journey; to use no channel changes nothing.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Floats, Integers
from services.attribution.domain.channel_sets import SetHistogram
from services.attribution.domain.credits import ChannelCredits
from services.attribution.domain.shapley import Game
from services.attribution.domain.shapley.lattice import require_few, values_within, zeta
from shared.errors import invalid


@dataclass(frozen=True, slots=True)
class RateGame:
    """The values of one game over conversion rates.

    `credits` hands out every conversion. `values` (C,) are the Shapley values among all channels
    at once; they sum to `everyone`, the rate of the set of all channels, which is 0 in the game of
    exact sets where no journey held every channel. `set_shares` (S, C) divides a conversion of
    each set of the histogram; a row sums to 1, or is 0 for a set without conversion.
    """

    credits: ChannelCredits
    values: Floats
    everyone: float
    set_shares: Floats


def rate_game(game: Game, histogram: SetHistogram) -> RateGame:
    """Solve EXACT_SET_RATE or SUBSET_RATE exactly; at most 20 channels may be in use."""
    members = histogram.members
    used = np.flatnonzero(members.any(axis=0))
    require_few(len(used))
    bits = members[:, used] @ (1 << np.arange(len(used), dtype=np.int64))
    worth = _worth(game, bits, histogram, len(used))
    full = (1 << len(used)) - 1
    solved = values_within(worth, np.append(bits, full))
    within = np.zeros(members.shape)
    within[:, used] = solved[:-1]
    rate = worth[bits]
    divisible = (histogram.conversions > 0) & (rate > 0)
    shares: Floats = np.where(
        divisible[:, None], within / np.where(divisible, rate, 1.0)[:, None], 0.0
    )
    values = np.zeros(len(histogram.channels))
    values[used] = solved[-1]
    return RateGame(
        credits=ChannelCredits(
            conversions=histogram.conversions.astype(np.float64) @ shares,
            values=histogram.values @ shares,
        ),
        values=values,
        everyone=float(worth[full]),
        set_shares=shares,
    )


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


def _by_set(bits: Integers, counts: Integers, size: int) -> Floats:
    return np.bincount(bits, weights=counts, minlength=size).astype(np.float64)
