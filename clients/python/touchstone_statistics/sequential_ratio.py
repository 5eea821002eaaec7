"""Whether the arms have the sizes that were asked for, looked at every minute or with few units."""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special

from touchstone_statistics.gaps import FloatArray, Gap, NotEstimable

LARGEST_ENUMERATION = 200_000
"""Most tables of counts that the exact test goes through (0.1 s)."""
SAME_LIKELIHOOD = 1e-9
"""Tables whose logarithm of the likelihood differs by less are as likely as the observed one."""


@dataclass(frozen=True, slots=True, eq=False)
class RatioEvidence:
    """Evidence against the weights; arrays have the shape of the counts without the arms.

    `log_e` is the logarithm of an e-value at this moment, `log_e_max` the largest one so far,
    `p_value` one over its exponential: below alpha at any time with probability at most alpha.
    `unexpected_units` counts units in arms of zero weight, which no correct assignment can
    produce; they are a fault whatever the p-value says.
    """

    log_e: FloatArray
    log_e_max: FloatArray
    p_value: FloatArray
    unexpected_units: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class SequentialRatio:
    """A sample-ratio test that may be looked at after every unit.

    `weights` has one entry an arm, relative and not negative. `concentration` says near which
    departures the test is sharpest: a share s is expected to be off by about
    sqrt(s (1 - s) / concentration); 1,000 finds 49 against 51 per cent soonest.
    Estimand: the shares of the arms. Assumes that units fall into arms independently, with
    the same shares at all times.
    """

    weights: FloatArray
    concentration: float = 1000.0

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights)
        if weights.ndim != 1 or np.any(weights < 0.0) or not np.isfinite(weights).all():
            raise ValueError(f"weights is {weights}; give one finite number from 0 on for each arm")
        if np.count_nonzero(weights) < 2:
            raise ValueError(f"weights is {weights}; at least two must be above 0")
        if not (math.isfinite(self.concentration) and self.concentration > 0.0):
            raise ValueError(
                f"concentration is {self.concentration}; it must be finite and above 0"
            )

    def read(self, units: FloatArray, log_e_max: FloatArray | float = -math.inf) -> RatioEvidence:
        """The evidence in the counts so far; `log_e_max` is that of the look before.

        Source: Lindon and Malek (2022), "Anytime-valid inference for multinomial count data",
        equations 6 and 8: the Dirichlet mixture of shares around the weights against the
        weights. It depends on the counts alone and not on their order, so a look needs no
        state but the largest value so far. `units` has the arms on its last axis.
        """
        live = np.asarray(self.weights) > 0.0
        counts = np.asarray(units, dtype=np.float64)
        shares = np.asarray(self.weights, dtype=np.float64)[live]
        shares = shares / shares.sum()
        log_e = _log_bayes_factor(counts[..., live], shares, self.concentration)
        largest = np.maximum(log_e, log_e_max)
        return RatioEvidence(
            log_e=log_e,
            log_e_max=largest,
            p_value=np.exp(-np.maximum(largest, 0.0)),
            unexpected_units=counts[..., ~live].sum(axis=-1),
        )


def _log_bayes_factor(x: FloatArray, theta: FloatArray, k: float) -> FloatArray:
    """Logarithm of B(k theta + x) / B(k theta) / prod theta^x; B: the multivariate beta function.

    x: counts, theta: shares under the null hypothesis, k: concentration of the Dirichlet.
    """
    total = x.sum(axis=-1)
    gained = (special.gammaln(k * theta + x) - special.gammaln(k * theta)).sum(axis=-1)
    lost = special.gammaln(k + total) - special.gammaln(k)
    return np.asarray(gained - lost - x @ np.log(theta))


def exact_sample_ratio(units: FloatArray, weights: FloatArray) -> float | NotEstimable:
    """The exact multinomial test of a split of few units: one look, one p-value.

    The probability of all splits that are no more likely than the observed one (Read and
    Cressie 1988, "Goodness-of-fit statistics for discrete multivariate data", section 4.3). Use
    it where an arm is expected to hold fewer than 5 units, when Pearson's statistic is not
    nearly chi-squared. Arms of zero weight are left out. NOT_APPLICABLE when fewer than two
    arms are left or there are more than 200,000 splits to go through, NO_UNITS without units.
    """
    counts, given = np.asarray(units, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    counts, given = counts[given > 0.0], given[given > 0.0]
    total, arms = int(counts.sum()), len(given)
    if arms < 2 or math.comb(total + arms - 1, arms - 1) > LARGEST_ENUMERATION:
        return NotEstimable(Gap.NOT_APPLICABLE)
    if total == 0:
        return NotEstimable(Gap.NO_UNITS)
    log_shares = np.log(given / given.sum())
    log_likely = _log_multinomial(_splits(total, arms), log_shares)
    observed = float(_log_multinomial(counts, log_shares))
    unlikely = log_likely[log_likely <= observed + SAME_LIKELIHOOD]
    return min(float(np.exp(unlikely).sum()), 1.0)


def _log_multinomial(counts: FloatArray, log_shares: FloatArray) -> FloatArray:
    total = counts.sum(axis=-1)
    ways = special.gammaln(total + 1.0) - special.gammaln(counts + 1.0).sum(axis=-1)
    return np.asarray(ways + counts @ log_shares)


def _splits(total: int, arms: int) -> FloatArray:
    """All ways to put `total` units into arms: stars and bars, one split a row."""
    bars = np.array(list(combinations(range(total + arms - 1), arms - 1)), dtype=np.float64)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1.0, total + arms - 1.0)))
    return np.asarray(np.diff(edges, axis=1) - 1.0)
