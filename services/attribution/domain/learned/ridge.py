"""Logistic regression on counts, with a ridge, by damped Newton steps.

Source: Hastie, Tibshirani, Friedman (2009), section 4.4.1 (iteratively reweighted least squares);
le Cessie and van Houwelingen (1992) for the ridge. The objective is strictly convex, so the fit is
unique and finite even where the data separate.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, special

from services.attribution.domain.arrays import Floats, Integers

MAX_STEPS = 50
MAX_HALVINGS = 30
TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Fit:
    """Intercept first, then the coefficients; whether Newton converged, and in how many steps.

    `gradient` is the largest part of the gradient over the number of rows where it stopped.
    """

    coefficients: Floats
    converged: bool
    steps: int
    gradient: float


def fit_logistic(features: Floats, successes: Integers, trials: Integers, ridge: float) -> Fit:
    """Fit P(success) = 1/(1 + exp(-(b_0 + x b))) to rows of `features` with counts.

    The penalty is ridge/2 times the sum of squares of b; the intercept is free, but for a millionth
    of a unit, so that it stays finite where nothing or everything succeeded.
    """
    X = np.column_stack([np.ones(len(features)), features])
    penalty = np.full(X.shape[1], ridge)
    penalty[0] = 1e-6
    total = max(float(trials.sum()), 1.0)
    beta = np.zeros(X.shape[1])
    gradient = np.zeros_like(beta)
    for step in range(MAX_STEPS):
        probability = special.expit(X @ beta)
        gradient = X.T @ (successes - trials * probability) - penalty * beta
        size = float(np.abs(gradient).max()) / total
        if size < TOLERANCE:
            return Fit(beta, True, step, size)
        curvature = X.T @ (X * (trials * probability * (1 - probability))[:, None])
        # The penalty makes it positive definite.
        direction = linalg.solve(curvature + np.diag(penalty), gradient, assume_a="pos")
        beta = _descended(X, (successes, trials), penalty, beta, direction)
    return Fit(beta, False, MAX_STEPS, float(np.abs(gradient).max()) / total)


def _descended(
    X: Floats,
    counts: tuple[Integers, Integers],
    penalty: Floats,
    beta: Floats,
    direction: Floats,
) -> Floats:
    """Take the step, or half of it as often as the objective would not fall."""

    def objective(at: Floats) -> float:
        scores = X @ at
        successes, trials = counts
        fit = trials @ np.logaddexp(0.0, scores) - successes @ scores
        return float(fit + penalty @ np.square(at) / 2)

    now, length = objective(beta), 1.0
    for _ in range(MAX_HALVINGS):
        if objective(beta + length * direction) <= now:
            break
        length /= 2
    return beta + length * direction
