"""The simplified game and its ordered parts (Zhao, Mahboobi, Bagheri 2018, equations 3 and 6).

Estimand: the Shapley value of v(S) = conversions of journeys whose channels all lie in S. Its
Harsanyi dividend at S is m(S), the conversions whose channels are exactly S; a dividend is shared
equally by its members, so the value is exact and needs no sum over 2^C sets.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Floats
from services.attribution.domain.channel_sets import SetHistogram, cells_of
from services.attribution.domain.credits import ChannelCredits
from services.attribution.domain.journeys import Journeys
from shared.errors import invalid

MAX_POSITIONS = 1_000


@dataclass(frozen=True, slots=True)
class OrderedCredits:
    """Credits by position and channel, each of shape (P, C); additive.

    Row i is touch number i + 1 of a journey; the last row holds that position and all later ones.
    """

    conversions: Floats
    values: Floats

    def __add__(self, other: "OrderedCredits") -> "OrderedCredits":
        return OrderedCredits(self.conversions + other.conversions, self.values + other.values)


def simplified(histogram: SetHistogram) -> ChannelCredits:
    """Return phi_c = sum over the sets S that hold c of m(S)/|S|, for conversions and value."""
    shares = histogram.members / np.maximum(histogram.sizes, 1)[:, None]
    return ChannelCredits(histogram.conversions @ shares, histogram.values @ shares)


def touch_weights(journeys: Journeys) -> Floats:
    """Return the weight of each touch of the converting journeys; those of a journey sum to 1.

    A conversion is shared equally by its distinct channels, and a channel's part equally by its
    touches. Summed over channels this is `simplified`.
    """
    cells = cells_of(journeys.converting_codes, journeys.converting_offsets, len(journeys.channels))
    per_touch = 1.0 / (cells.sizes[cells.journeys] * cells.touches)
    weights: Floats = per_touch[cells.of_touch]
    return weights


def ordered(journeys: Journeys, positions: int) -> OrderedCredits:
    """Return the parts of the simplified value by position; their sum over positions is the value.

    A journey in which a channel stands r times gives 1/(r |S|) at each of its places.
    """
    if not 1 <= positions <= MAX_POSITIONS:
        raise invalid("shapley.positions", positions, f"1 to {MAX_POSITIONS}")
    channels = len(journeys.channels)
    lengths = np.diff(journeys.converting_offsets)
    starts = np.repeat(journeys.converting_offsets[:-1], lengths)
    place = np.minimum(np.arange(len(starts), dtype=np.int64) - starts, positions - 1)
    keys = place * channels + journeys.converting_codes
    weights = touch_weights(journeys)
    carried = weights * np.repeat(journeys.values, lengths)

    def table(amounts: Floats) -> Floats:
        flat = np.bincount(keys, weights=amounts, minlength=positions * channels)
        return flat.astype(np.float64).reshape(positions, channels)

    return OrderedCredits(table(weights), table(carried))
