"""Beta posteriors of proportions."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from touchstone_statistics.belief import (
    DROP,
    SMOOTH_SHAPE,
    Cells,
    axis,
    edges_of,
    enough_nodes,
    panels,
    reach,
    stirling_rest,
)
from touchstone_statistics.cumulants import of_beta, of_log, of_log_moments
from touchstone_statistics.gaps import BoolArray, FloatArray

MIRRORED = 2_000.0
"""Up to so many failures an upper tail is the lower one of the mirrored rate, which the special
functions give ten times as fast: what rounding 1 - rate changes it by is below 1e-12 of it."""


@dataclass(frozen=True, slots=True, eq=False)
class BetaPosterior(Cells):
    """Belief about the rate of each cell: Beta(successes, failures), both above zero.

    Start from Beta(1, 1), the uniform prior of Bayes (1763), and add what was counted.
    Estimand: the rate at which units convert. Assumes independent units. Source of the
    comparison: Stucchio (2015), "Bayesian A/B testing at VWO"; Miller (2014) for integers.
    """

    successes: FloatArray
    failures: FloatArray

    @classmethod
    def of(
        cls, converted: ArrayLike, units: ArrayLike, prior: tuple[float, float] = (1.0, 1.0)
    ) -> Self:
        """`prior` (both shapes above zero) updated with `converted` of `units`, cell by cell."""
        if not (0 < prior[0] < np.inf and 0 < prior[1] < np.inf):
            raise ValueError(f"the prior has shapes {prior}; both must be finite and above zero")
        counts, totals = np.asarray(converted, float), np.asarray(units, float)
        counts, totals = np.broadcast_arrays(counts, totals)
        wrong = ~((counts >= 0) & (counts <= totals) & np.isfinite(totals))
        if wrong.any():
            count, total = counts[wrong].flat[0], totals[wrong].flat[0]
            raise ValueError(f"{count:g} of {total:g} units converted; it must be 0 to {total:g}")
        return cls(prior[0] + counts, prior[1] + totals - counts)

    @property
    def mean(self) -> FloatArray:
        return np.asarray(self.successes / (self.successes + self.failures))

    @property
    def std_dev(self) -> FloatArray:
        total = self.successes + self.failures
        return np.asarray(np.sqrt(self.successes * self.failures / (total + 1.0)) / total)

    @property
    def spread(self) -> FloatArray:
        return np.asarray(np.sqrt(1.0 / self.successes + 1.0 / self.failures))

    @property
    def support(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def has_edge(self) -> BoolArray:
        return np.asarray(np.minimum(self.successes, self.failures) < SMOOTH_SHAPE)

    @property
    def least(self) -> FloatArray:
        """The fewer of successes and failures."""
        return np.asarray(np.minimum(self.successes, self.failures))

    @property
    def log_moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the logarithm of the rate, of counts from 100 on."""
        mean, variance = of_log_moments(self.successes, self.failures)
        return mean - np.log1p(self.failures / self.successes), variance

    def terms(self, std_dev: FloatArray, highest: int) -> FloatArray:
        return of_beta(self.successes, self.failures, std_dev, highest)

    def log_terms(self, std_dev: FloatArray, highest: int) -> FloatArray:
        return of_log(self.successes, self.failures, std_dev, highest)

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """The trapezoidal rule over the log odds.

        It converges geometrically because the density is analytic there and decays on both sides
        (Trefethen and Weideman 2014, "The exponentially convergent trapezoidal rule").
        """
        low, high = self._reach()
        places = axis(enough_nodes(high - low, self.spread))
        return self._weighed(low[..., None] + (high - low)[..., None] * places, 1.0)

    def split_nodes(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gauss-Legendre panels over the log odds that end at the given rates."""
        low, high = self._reach()
        mode = np.log(self.successes / self.failures)[..., None]
        inside = special.logit(np.clip(places, 1e-300, 1.0)) - mode
        return self._weighed(*panels(edges_of(low, high, inside)))

    def _reach(self) -> tuple[FloatArray, FloatArray]:
        """How far below and above their mode the log odds have any mass."""
        a, b = self.successes, self.failures
        start = np.sqrt(2.0 * DROP) * self.spread
        return (
            reach(lambda distance: _fall(a, b, distance), -start),
            reach(lambda distance: _fall(a, b, distance), start),
        )

    def _weighed(
        self, distance: FloatArray, widths: FloatArray | float
    ) -> tuple[FloatArray, FloatArray]:
        """Rates at distances from the mode of the log odds, with their share of the mass."""
        a, b = self.successes[..., None], self.failures[..., None]
        weight = np.exp(-_fall(a, b, distance)[0]) * widths
        points = special.expit(np.log(a / b) + distance)
        return np.asarray(points), weight / weight.sum(axis=-1, keepdims=True)

    def below(self, value: FloatArray) -> FloatArray:
        rate = np.clip(value, 0.0, 1.0)
        return np.asarray(
            special.betainc(self.successes[..., None], self.failures[..., None], rate)
        )

    def above(self, value: FloatArray) -> FloatArray:
        rate = np.clip(value, 0.0, 1.0)
        a, b = self.successes[..., None], self.failures[..., None]
        if np.all(self.failures <= MIRRORED):
            return np.asarray(special.betainc(b, a, 1.0 - rate))
        return np.asarray(special.betaincc(a, b, rate))

    def density(self, value: FloatArray) -> FloatArray:
        inside = (value > 0) & (value < 1)
        rate = np.where(inside, value, 0.5)
        return np.where(inside, self._mass(rate) / (rate * (1.0 - rate)), 0.0)

    def shortfall_kernel(self, value: FloatArray) -> FloatArray:
        inside = (value > 0) & (value < 1)
        rate = np.where(inside, value, 0.5)
        total = (self.successes + self.failures)[..., None]
        return np.where(inside, self._mass(rate) / total, 0.0)

    def _mass(self, rate: FloatArray) -> FloatArray:
        """Density of the log odds at `rate`: x^a (1 - x)^b / B(a, b)."""
        a, b = self.successes[..., None], self.failures[..., None]
        mean = a / (a + b)
        peak = _log_peak(self.successes, self.failures)[..., None]
        gain, drop = _log_ratio(rate, mean), _log_ratio(1.0 - rate, 1.0 - mean, mean - rate)
        return np.asarray(np.exp(peak + a * gain + b * drop))


def _fall(a: FloatArray, b: FloatArray, distance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fall of the log density of the log odds at a distance from their mode, and its slope.

    Written from the nearer tail, so that nothing cancels or overflows: there the share of the
    shrinking outcome is `side` at the mode.
    """
    size, upper = np.abs(distance), distance > 0
    side = np.where(upper, b, a) / (a + b)
    near = side * np.exp(-size)
    moved = np.log1p(side * np.expm1(-size))
    slope = (a + b) * (side - near / (1.0 - side + near))
    return np.where(upper, b, a) * size + (a + b) * moved, np.where(upper, slope, -slope)


def _log_ratio(rate: FloatArray, mean: FloatArray, change: FloatArray | None = None) -> FloatArray:
    """log(rate / mean); near the mean from the small difference, so that nothing cancels."""
    change = rate - mean if change is None else change
    near = np.abs(change) < 0.5 * mean
    small = np.where(near, change / mean, 0.0)
    return np.where(near, np.log1p(small), np.log(rate) - np.log(mean))


def _log_peak(a: FloatArray, b: FloatArray) -> FloatArray:
    """log(m^a (1 - m)^b / B(a, b)) at the mean m."""
    total = a + b
    rest = stirling_rest(total) - stirling_rest(a) - stirling_rest(b)
    return np.asarray(0.5 * np.log(a * b / (2.0 * np.pi * total)) + rest)
