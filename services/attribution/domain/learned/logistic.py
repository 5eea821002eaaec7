"""Bagged logistic regression over the channels of a journey.

Source: Shao and Li (2011), "Data-driven multi-touch attribution models", section 3.1: fit a
logistic regression to a random part of the journeys and of the channels, many times, and average,
which is steadier than one fit where channels go together. A channel's coefficient is the mean over
the rounds that had the channel.

Credit: a conversion is divided among its distinct channels in proportion to their coefficients,
those below 0 counted as 0; where none is above 0, equally. The rule is Touchstone's: the paper
ranks channels and divides nothing. Estimand: the association of a channel with conversion, given
the others, in log odds. It is descriptive.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.channel_sets import SetHistogram
from services.attribution.domain.credits import ChannelCredits
from services.attribution.domain.learned.ridge import fit_logistic
from shared.errors import invalid

MAX_ROUNDS = 10_000
MAX_PRODUCTS = 2 * 10**10
"""Of the curvature, in one Newton step of every round: about half a minute for all their steps."""


@dataclass(frozen=True, slots=True)
class Bagging:
    """Parts of journeys and of channels in a round, the rounds, the ridge, and the seed."""

    row_part: float = 0.5
    column_part: float = 0.5
    rounds: int = 100
    ridge: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("row_part", "column_part"):
            part = getattr(self, name)
            if not 0 < part <= 1:
                raise invalid(f"bagged_logistic.{name}", part, "a part above 0 and of at most 1")
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise invalid("bagged_logistic.rounds", self.rounds, f"1 to {MAX_ROUNDS}")
        if not (self.ridge > 0 and np.isfinite(self.ridge)):
            raise invalid("bagged_logistic.ridge", self.ridge, "a number above 0")
        if self.seed < 0:
            raise invalid("bagged_logistic.seed", self.seed, "a whole number of at least 0")


@dataclass(frozen=True, slots=True)
class BaggedLogistic:
    """The fitted rounds: intercepts (M,) and coefficients (M, C), 0 for channels left out.

    `taken` (M, C) says which channels a round had, and `unconverged` counts rounds whose Newton
    steps did not come to an end.
    """

    intercepts: Floats
    rounds: Floats
    taken: Flags
    unconverged: int

    @property
    def coefficients(self) -> Floats:
        """The mean coefficient of each channel; 0 for a channel that no round had."""
        means: Floats = self.rounds.sum(axis=0) / np.maximum(self.taken.sum(axis=0), 1)
        return means

    def predict(self, members: Flags) -> Floats:
        """Return the probability of conversion of journeys with these sets: the mean of rounds."""
        total = np.zeros(len(members))
        present = members.astype(np.float64)
        for intercept, coefficients in zip(self.intercepts, self.rounds, strict=True):
            total += special.expit(intercept + present @ coefficients)
        return total / len(self.intercepts)

    def set_shares(self, members: Flags) -> Floats:
        """Return how a conversion with each of these sets (S, C) is divided; rows sum to 1."""
        power = members * np.maximum(self.coefficients, 0.0)
        power = np.where(power.sum(axis=1, keepdims=True) > 0, power, members.astype(np.float64))
        shares: Floats = power / np.maximum(power.sum(axis=1, keepdims=True), 1e-300)
        return shares


def fit_bagged(histogram: SetHistogram, bagging: Bagging) -> BaggedLogistic:
    """Fit every round; the same histogram and seed give the same model.

    INVALID_ARGUMENT says how many rounds so many channels and sets leave room for.
    """
    channels = len(histogram.channels)
    columns = max(1, round(bagging.column_part * channels))
    _require_room(histogram, bagging, columns)
    generator = np.random.default_rng(np.random.PCG64(bagging.seed))
    members = histogram.members.astype(np.float64)
    others = histogram.journeys - histogram.conversions
    intercepts, rounds = np.zeros(bagging.rounds), np.zeros((bagging.rounds, channels))
    taken = np.zeros((bagging.rounds, channels), dtype=np.bool_)
    unconverged = 0
    for row in range(bagging.rounds):
        chosen = np.sort(generator.permutation(channels)[:columns])
        # To take each journey with probability p is to take a binomial number of those of a set.
        successes = generator.binomial(histogram.conversions, bagging.row_part)
        trials = successes + generator.binomial(others, bagging.row_part)
        used = trials > 0
        fit = fit_logistic(
            members[np.ix_(used, chosen)], successes[used], trials[used], bagging.ridge
        )
        intercepts[row], rounds[row, chosen] = fit.coefficients[0], fit.coefficients[1:]
        taken[row, chosen] = True
        unconverged += not fit.converged
    return BaggedLogistic(intercepts, rounds, taken, unconverged)


def _require_room(histogram: SetHistogram, bagging: Bagging, columns: int) -> None:
    most = MAX_PRODUCTS // max(1, len(histogram) * columns**2)
    if bagging.rounds > most:
        held = f"{len(histogram):,} sets of {len(histogram.channels)} channels"
        allowed = f"at most {most} over {held}; group rare channels, or lower column_part"
        raise invalid("bagged_logistic.rounds", bagging.rounds, allowed)


def logistic_credits(model: BaggedLogistic, histogram: SetHistogram) -> ChannelCredits:
    """Divide every conversion, and its value, by the coefficients."""
    shares = model.set_shares(histogram.members)
    return ChannelCredits(
        conversions=histogram.conversions.astype(np.float64) @ shares,
        values=histogram.values @ shares,
    )
