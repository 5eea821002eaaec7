"""The simple probabilistic model of first and second order.

Source: Shao and Li (2011), "Data-driven multi-touch attribution models", section 3.2, equations 1
to 3. With p(y|i) the conversion rate of journeys that hold channel i, p(y|i,j) of those that hold
both, and N channels in the converting journey,

    C_i = p(y|i) + 1/(2(N - 1)) sum over j != i of [p(y|i,j) - p(y|i) - p(y|j)],

summed over converting journeys and divided by the sum over channels. Assumption: interactions of
more than two channels are nil. It is descriptive, and C_i may be negative.

Within a journey the C_i sum to N/2 times the mean of its pair rates; that mean (for one channel
its rate) is what the model predicts for a journey.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.channel_sets import SetHistogram

SETS_AT_ONCE = 1 << 15


@dataclass(frozen=True, slots=True)
class PairRates:
    """Conversion rates of journeys that hold a channel (C,), and two channels (C, C).

    The diagonal of `of_pairs` is `of_channels`. A channel or pair that no journey held has rate 0.
    """

    of_channels: Floats
    of_pairs: Floats

    def contributions(self, members: Flags) -> Floats:
        """Return C_i of a converting journey with each of the sets (S, C); 0 outside the set."""
        present = members.astype(np.float64)
        sizes = members.sum(axis=1, keepdims=True)
        rates = self.of_channels
        beyond = self.of_pairs - rates[:, None] - rates[None, :]
        np.fill_diagonal(beyond, 0.0)
        pairs = present @ beyond / np.maximum(2 * (sizes - 1), 1)
        contributions: Floats = present * (rates + pairs)
        return contributions

    def set_shares(self, members: Flags) -> Floats:
        """Return how a conversion with each of these sets is divided, (S, C); rows sum to 1 or 0.

        In proportion to C_i inside the journey. Channel totals of such parts differ from the
        shares of `probabilistic_credits`, in which a journey with large C_i counts for more.
        """
        contributions = self.contributions(members)
        total = contributions.sum(axis=1, keepdims=True)
        shares: Floats = np.where(total > 0, contributions / np.where(total > 0, total, 1.0), 0.0)
        return shares

    def predict(self, members: Flags) -> Floats:
        """Return the probability of conversion of journeys with these sets; 0 of an empty one."""
        present = members.astype(np.float64)
        sizes = members.sum(axis=1)
        singles = present @ self.of_channels
        # Every pair stands twice in the square, and the diagonal once.
        pairs = (np.einsum("sc,sc->s", present @ self.of_pairs, present) - singles) / 2
        counted = np.maximum(sizes * (sizes - 1) / 2, 1)
        return np.where(sizes > 1, pairs / counted, singles)


@dataclass(frozen=True, slots=True)
class ProbabilisticCredits:
    """Channel shares (C,) of conversions and of value; None where they do not sum to above 0."""

    shares: Floats | None
    value_shares: Floats | None


def pair_rates(histogram: SetHistogram) -> PairRates:
    """Return the rates of channels and pairs; they are those of shards whose histograms merge."""
    converted, seen = np.zeros((2, len(histogram.channels), len(histogram.channels)))
    members = histogram.members
    for first in range(0, len(histogram), SETS_AT_ONCE):
        part = slice(first, first + SETS_AT_ONCE)
        present = members[part].astype(np.float64)
        converted += present.T @ (present * histogram.conversions[part, None])
        seen += present.T @ (present * histogram.journeys[part, None])
    rates = np.where(seen > 0, converted / np.where(seen > 0, seen, 1.0), 0.0)
    return PairRates(np.diag(rates).copy(), rates)


def probabilistic_credits(rates: PairRates, histogram: SetHistogram) -> ProbabilisticCredits:
    """Sum C_i over the converting journeys, once each and by value, and divide by the sum."""
    conversions, values = np.zeros((2, len(histogram.channels)))
    members = histogram.members
    for first in range(0, len(histogram), SETS_AT_ONCE):
        part = slice(first, first + SETS_AT_ONCE)
        contributions = rates.contributions(members[part])
        conversions += histogram.conversions[part] @ contributions
        values += histogram.values[part] @ contributions
    return ProbabilisticCredits(_shares(conversions), _shares(values))


def _shares(totals: Floats) -> Floats | None:
    total = totals.sum()
    return totals / total if total > 0 else None
