"""The chance of each arm to be the best, by quadrature and so without a seed."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap

REACH = 9.0
STEP = 2.25
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """Probability of each arm to be the best, the control first; they add up to 1."""

    probability: FloatArray
    gap: GapArray


def best_arm(arms: Estimate, prior: LiftPrior, increase_is_better: bool) -> Best:
    """Which arm has the best true mean, under the posterior that compares them with the control.

    `arms` has one axis, the control first. The control mean has a flat prior and every treatment
    differs from it by a draw from `prior`, as in `Bayes.read`: so with two arms the answer is
    the probability to beat. Given the control mean c the treatments are independent normals;
    their integral is taken for each c and then over the posterior of c, both by composite
    Gauss-Legendre quadrature (Davis and Rabinowitz 1984, section 2.7).
    """
    gap = _common_gap(arms)
    if gap is not Gap.NONE:
        return Best(np.zeros(arms.value.shape), np.full(arms.value.shape, gap, dtype=np.uint8))
    sign = 1.0 if increase_is_better else -1.0
    size = np.abs(arms.value[0])
    prior_mean, prior_variance = sign * prior.mean * size, (prior.std_dev * size) ** 2
    mean, variance = sign * arms.value, arms.variance
    precision = np.append(1.0 / variance[0], 1.0 / (variance[1:] + prior_variance))
    centre = np.append(mean[0], mean[1:] - prior_mean) @ precision / precision.sum()
    spread = precision.sum() ** -0.5
    weight = prior_variance / (prior_variance + variance[1:])
    std_dev = np.sqrt(weight * variance[1:])
    scales = np.append(spread, std_dev)
    controls, mass = panels(np.append(centre, mean[1:]), scales)
    mass = mass * _density((controls - centre) / spread) / spread
    treated = weight * mean[1:] + (1.0 - weight) * (controls[:, None] + prior_mean)
    chances = np.array([mass @ special.ndtr((controls[:, None] - treated) / std_dev).prod(axis=1)])
    above = _best_treatment(controls, treated, std_dev)
    chances = np.append(chances, mass @ above)
    return Best(chances / chances.sum(), np.zeros(chances.shape, dtype=np.uint8))


def _common_gap(arms: Estimate) -> Gap:
    flat = np.where(arms.variance <= 0, Gap.ZERO_VARIANCE, Gap.NONE).astype(np.uint8)
    missing = first_gap(arms.gap, arms.spread_gap, flat)
    worst = Gap(int(missing[np.argmax(missing > 0)]))
    if worst is Gap.NONE and arms.value[0] == 0:
        return Gap.ZERO_CONTROL_MEAN
    return worst


def _best_treatment(controls: FloatArray, treated: FloatArray, std_dev: FloatArray) -> FloatArray:
    """For each control mean the chance of each treatment to be best; controls + treatments."""
    chances = np.empty_like(treated)
    for row, control in enumerate(controls):
        points, weights = panels(treated[row], std_dev, control)
        scaled = (points - treated[row][:, None]) / std_dev[:, None]
        log_below = special.log_ndtr(scaled)
        rivals = np.exp(log_below.sum(axis=0) - log_below)
        chances[row] = (_density(scaled) * rivals / std_dev[:, None]) @ weights
    return chances


def _density(scaled: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * scaled**2) / np.sqrt(2.0 * np.pi))


def panels(
    mean: FloatArray, std_dev: FloatArray, start: float = -np.inf
) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights from `start` on that follow each normal at the scale of its own spread.

    Edges stand `STEP` standard deviations apart around every mean, near enough for a dozen nodes to
    give twelve digits. They are snapped to a grid of the smallest standard deviation, so that many
    like arms cost little more than one.
    """
    steps = np.arange(-REACH, REACH + STEP, STEP)
    grid = std_dev.min()
    edges = np.unique(np.round((mean[:, None] + std_dev[:, None] * steps) / grid)) * grid
    if np.isfinite(start):
        edges = np.append(start, edges[edges > start])
    half = np.diff(edges)[:, None] / 2.0
    return (edges[:-1, None] + half + half * NODES).ravel(), (half * WEIGHTS).ravel()
