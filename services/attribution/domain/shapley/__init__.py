"""Shapley attribution: four games that products call by one name, told apart.

With m(S) conversions and n(S) journeys whose distinct channels are exactly S:

* SIMPLIFIED: v(S) = sum of m(T) over T within S. The Shapley value has a closed form, the sum of
  m(S)/|S| over the sets that hold the channel. Journeys without conversion play no part.
* ORDERED: the same game with each channel's part told apart by the position of its touches.
* EXACT_SET_RATE: v(S) = m(S)/n(S), 0 where S was not seen. It is not monotone, so a channel may
  get less than nothing.
* SUBSET_RATE: v(S) = sum of m(T) / sum of n(T) over T within S.
* LEARNED: v(S) is what a fitted model predicts for a journey with the channels S.

Sources: Shapley (1953), "A value for n-person games"; Harsanyi (1963) for dividends; Zhao,
Mahboobi, Bagheri (2018), "Shapley value methods for attribution modeling in online advertising"
(simplified and ordered); Dalessandro, Perlich, Stitelman, Provost (2012), "Causally motivated
attribution for online advertising" (learned). All are descriptive: no causal effect is identified.
"""

from enum import Enum


class Game(Enum):
    """What a set of channels is worth."""

    SIMPLIFIED = "simplified"
    ORDERED = "ordered"
    EXACT_SET_RATE = "exact_set_rate"
    SUBSET_RATE = "subset_rate"
    LEARNED = "learned"
