"""Promise 6 and the table of what peeking does: Bayesian answers against independent ones."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
from scipy import integrate, special
from touchstone_statistics.bayes import Bayes, LiftPrior
from touchstone_statistics.best import best_arm
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.inference import Fixed
from touchstone_statistics.peeking import LOOKS, PEEKING, RATE, UNITS_A_DAY, Peeking, Rule
from touchstone_statistics.rates import read_rates
from touchstone_statistics.versus import Pairs

from tests.calibration.promises import LONG, Promise

Simulation = Callable[[int], float]
FLAT = 1e6
"""A prior this wide says nothing about a lift."""


def worst_beta(repetitions: int) -> float:
    """Largest error of the chance to beat over random integer shapes, by exact fractions."""
    rng = np.random.default_rng(6)
    errors = []
    for _ in range(max(repetitions // 100, 20)):
        a, b, c, d = (int(shape) for shape in np.exp(rng.uniform(0, 5.3, 4)))
        control, treatment = (BetaPosterior.of(s - 1, s + f - 2) for s, f in ((a, b), (c, d)))
        ours = Pairs.of(control, treatment).compare().probability_to_beat
        errors.append(abs(float(ours) - _exact(c, d, a, b)))
    return max(errors)


def _exact(a: int, b: int, c: int, d: int) -> float:
    """P(Beta(a, b) > Beta(c, d)) for integers as a sum of fractions (Miller 2014)."""

    def beta(x: int, y: int) -> Fraction:
        return Fraction(math.factorial(x - 1) * math.factorial(y - 1), math.factorial(x + y - 1))

    terms = (beta(c + i, b + d) / ((b + i) * beta(1 + i, b) * beta(c, d)) for i in range(a))
    return float(sum(terms, Fraction(0)))


def worst_best(repetitions: int) -> float:
    """Largest error of the chance to be the best of four over random arms, by scipy's quad."""
    rng = np.random.default_rng(66)
    errors = []
    for _ in range(max(repetitions // 1000, 5)):
        mean, std_dev = rng.normal(10, 0.2, 4), rng.uniform(0.05, 0.5, 4)
        none = np.zeros(4, dtype=np.uint8)
        arms = Estimate(mean, std_dev**2, np.full(4, 100.0), none, none)
        ours = best_arm(arms, LiftPrior(0.0, FLAT), True).probability
        errors.append(max(abs(float(ours[k]) - _by_quad(mean, std_dev, k)) for k in range(4)))
    return max(errors)


def _by_quad(mean: np.ndarray, std_dev: np.ndarray, best: int) -> float:
    rivals = np.arange(4) != best

    def integrand(z: float) -> float:
        score = (mean[best] + std_dev[best] * z - mean[rivals]) / std_dev[rivals]
        return float(np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) * np.prod(special.ndtr(score)))

    ends = np.linspace(-9, 9, 13)
    parts = pairwise(ends)
    return float(sum(integrate.quad(integrand, *part, epsabs=1e-12)[0] for part in parts))


def daily_share(row: Peeking) -> Simulation:
    """Share of A/A tests that a rule decides at any of the daily looks."""

    def simulate(repetitions: int) -> float:
        rng = np.random.default_rng(28)
        shape = (repetitions, LOOKS)
        counts = [np.cumsum(rng.binomial(UNITS_A_DAY, RATE, shape), axis=1) for _ in range(2)]
        units = UNITS_A_DAY * np.arange(1.0, LOOKS + 1)
        rates = [count / units for count in counts]
        none = np.zeros(shape, dtype=np.uint8)
        arms = [
            Estimate(r, r * (1 - r) / (units - 1), np.broadcast_to(units, shape), none, none)
            for r in rates
        ]
        return float(_decided(Contrast(arms[0], arms[1]), row).any(axis=1).mean())

    return simulate


def _decided(contrast: Contrast, row: Peeking) -> np.ndarray:
    if row.rule is Rule.SIGNIFICANT:
        return np.asarray(Fixed(row.threshold).read(contrast).p_value < row.threshold)
    prior = LiftPrior(0.0, min(row.prior_std_dev, FLAT))
    posterior = Bayes(prior).read(contrast)
    if row.rule is Rule.CHANCE:
        return np.asarray(posterior.two_sided < 2 * row.threshold)
    return np.asarray(posterior.expected_loss < row.threshold * contrast.control.value)


def _peeking(row: Peeking) -> Promise:
    prior = "a flat prior" if row.prior_std_dev == np.inf else f"a prior of {row.prior_std_dev:g}"
    under = "" if row.rule is Rule.SIGNIFICANT else f" under {prior}"
    what = f"A/A tests decided by {row.rule.value} at {row.threshold:g}{under}, {LOOKS} daily looks"
    # Four standard errors of the run that the table is made of, and the rounding of the row.
    room = 0.0005 + 4 * math.sqrt(row.daily_looks * (1 - row.daily_looks) / LONG)
    low, high = max(row.daily_looks - room, 0.0), row.daily_looks + room
    return Promise(6, what, low, high, daily_share(row))


def worst_series(repetitions: int) -> float:
    """Largest error of the chance to beat by convolution, by quadrature."""
    rng = np.random.default_rng(60)
    count = max(repetitions // 20, 100)
    a = np.exp(rng.uniform(np.log(50), np.log(1e6), count))
    b = np.maximum(a * np.exp(rng.uniform(-3, 7.5, count)), 50.0)
    moved = a * np.exp(rng.normal(0, 0.1, count))
    control, treatment = BetaPosterior(a, b), BetaPosterior(np.maximum(moved, 50.0), b)
    exact = Pairs.of(control, treatment).compare().probability_to_beat
    ours = read_rates(control, treatment).comparison.probability_to_beat
    return float(np.max(np.abs(ours - exact)))


PROMISES = [
    Promise(6, "Chance to beat, Beta-Binomial by fractions: error", 0, 1e-9, worst_beta, False),
    Promise(6, "Chance to beat, by convolution: error", 0, 1e-9, worst_series, False),
    Promise(6, "Chance to be the best of four, by quadrature: error", 0, 1e-8, worst_best, False),
    *(_peeking(row) for row in PEEKING),
]
