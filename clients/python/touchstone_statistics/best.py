"""The chance of each arm to be the best, by quadrature and so without a seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from touchstone_statistics.bayes import Prior
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, first_gap

REACH = 9.0
STEP = 2.25
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
# Where no treatment is sharper than this share of what is integrated over, even nodes will do.
SIMILAR = 0.6
EVEN = np.linspace(-8.0, 8.0, 41)
HALF_LINE, HALF_WEIGHTS = np.polynomial.legendre.leggauss(40)
CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """Probability of each arm to be the best; they add up to 1 over the last axis."""

    probability: FloatArray
    gap: GapArray


@dataclass(frozen=True, slots=True, eq=False)
class _Arms:
    """Posterior of the control mean, cells, and of each treatment given it, cells + treatments.

    Given the control mean c a treatment is normal about `weight * mean + (1 - weight) * (c +
    prior_mean)` with standard deviation `std_dev`. Signs are such that more is better.
    """

    centre: FloatArray
    spread: FloatArray
    mean: FloatArray
    prior_mean: FloatArray
    weight: FloatArray
    std_dev: FloatArray

    def cells(self, index: NDArray[np.intp]) -> "_Arms":
        parts = (self.centre, self.spread, self.mean, self.prior_mean, self.weight, self.std_dev)
        return _Arms(*(part[index] for part in parts))

    def treated(self, controls: FloatArray) -> FloatArray:
        """Centres of the treatments given control means (cells + nodes): cells, nodes, arms."""
        pulled = controls[..., None] + self.prior_mean[:, None, :]
        weight = self.weight[:, None, :]
        return np.asarray(weight * self.mean[:, None, :] + (1.0 - weight) * pulled)

    @property
    def similar(self) -> BoolArray:
        """Whether the treatments are about as wide as one another and as the control, a cell."""
        narrow = self.std_dev.min(axis=1)
        felt = (self.std_dev / self.weight).min(axis=1)
        widest = self.std_dev.max(axis=1)
        return np.asarray((narrow >= SIMILAR * widest) & (felt >= SIMILAR * self.spread))


def best_arm(arms: Estimate, prior: Prior, increase_is_better: bool) -> Best:
    """Which arm has the best true mean, under the posterior that compares them with the control.

    Arms are on the last axis, the control first; any axes before it are cells of their own. The
    control mean has a flat prior and every treatment differs from it by a draw from `prior`, as in
    `Bayes.read`: so with two arms the answer is the probability to beat. Given the control mean c
    the treatments are independent normals; with three of them or more their integral is taken for
    each c and then over the posterior of c (Davis and Rabinowitz 1984, sections 2.7 and 2.9). A
    cell with an arm of which nothing is known has a gap in every arm.
    """
    gap = _common_gap(arms, prior)
    known = (gap == 0).ravel()
    shape = arms.value.shape
    rows = arms.value.reshape(-1, shape[-1])
    chances = np.zeros(rows.shape)
    made = _posterior(
        rows[known], arms.variance.reshape(rows.shape)[known], prior, increase_is_better
    )
    chances[known] = _chances(made)
    every = np.broadcast_to(gap[..., None], shape)
    return Best(chances.reshape(shape), np.array(every))


def _common_gap(arms: Estimate, prior: Prior) -> GapArray:
    """The gravest gap of any arm of a cell, which is then that of all."""
    flat = np.where(arms.variance <= 0, Gap.ZERO_VARIANCE, Gap.NONE).astype(np.uint8)
    missing = first_gap(arms.gap, arms.spread_gap, flat)
    first = np.take_along_axis(missing, np.argmax(missing > 0, axis=-1)[..., None], axis=-1)
    zero = np.where((arms.value[..., 0] == 0) & prior.relative, Gap.ZERO_CONTROL_MEAN, Gap.NONE)
    return first_gap(first[..., 0], zero.astype(np.uint8))


def _posterior(value: FloatArray, variance: FloatArray, prior: Prior, increase: bool) -> _Arms:
    sign = 1.0 if increase else -1.0
    prior_mean, prior_variance = (part[:, None] for part in prior.of_difference(value[:, 0]))
    prior_mean = np.broadcast_to(sign * prior_mean, value[:, 1:].shape)
    weight = prior_variance / (prior_variance + variance[:, 1:])
    says = np.concatenate([value[:, :1] * sign, value[:, 1:] * sign - prior_mean], axis=1)
    precision = 1.0 / np.concatenate([variance[:, :1], variance[:, 1:] + prior_variance], axis=1)
    total = precision.sum(axis=1)
    return _Arms(
        centre=(says * precision).sum(axis=1) / total,
        spread=total**-0.5,
        mean=sign * value[:, 1:],
        prior_mean=prior_mean,
        weight=weight,
        std_dev=np.sqrt(weight * variance[:, 1:]),
    )


def _chances(arms: _Arms) -> FloatArray:
    """Cells + arms. Up to three arms have a closed form; more are integrated."""
    chances = np.empty((arms.centre.size, arms.mean.shape[1] + 1))
    if chances.shape[1] <= 3:
        return _closed(arms)
    alike, others = np.flatnonzero(arms.similar), np.flatnonzero(~arms.similar)
    # In chunks that stay in the cache.
    for start in range(0, alike.size, CHUNK):
        cells = alike[start : start + CHUNK]
        chances[cells] = _by_even_nodes(arms.cells(cells))
    for cell in others:
        chances[cell] = _by_panels(arms.cells(np.array([cell])))
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def _closed(arms: _Arms) -> FloatArray:
    """One or two treatments: each chance is one of a normal or a bivariate normal orthant.

    Every arm is a sum of independent sources, one an axis, so that the determinant of a pair of
    differences is a cross product and does not cancel.
    """
    cells, treatments = arms.mean.shape
    means = np.concatenate([arms.centre[:, None], arms.treated(arms.centre[:, None])[:, 0]], axis=1)
    sources = np.zeros((cells, treatments + 1, 3))
    sources[:, 0, 0] = arms.spread
    sources[:, 1:, 0] = (1.0 - arms.weight) * arms.spread[:, None]
    for arm in range(treatments):
        sources[:, arm + 1, arm + 1] = arms.std_dev[:, arm]
    # For each arm, as a row of its own, the others.
    others = np.array(
        [[o for o in range(treatments + 1) if o != arm] for arm in range(treatments + 1)]
    )
    ahead = (means[:, :, None] - means[:, others]).reshape(-1, treatments)
    apart = (sources[:, :, None] - sources[:, others]).reshape(-1, treatments, 3)
    score = ahead / np.sqrt((apart**2).sum(axis=2))
    chances = special.ndtr(score[:, 0]) if treatments == 1 else _orthant(score, apart)
    return np.asarray(chances.reshape(cells, treatments + 1))


def _orthant(score: FloatArray, apart: FloatArray) -> FloatArray:
    """P(both of two jointly normal differences are above zero); `apart` holds their sources.

    Source: Owen (1956), "Tables for computing bivariate normal probabilities", equation 2.1, with
    both of its slopes written by the cross product of the sources.
    """
    h, k = (np.where(part == 0, 1e-300, part) for part in (score[:, 0], score[:, 1]))
    first, second = (np.sqrt((apart[:, side] ** 2).sum(axis=1)) for side in (0, 1))
    shared = (apart[:, 0] * apart[:, 1]).sum(axis=1) / (first * second)
    alone = np.linalg.norm(np.cross(apart[:, 0], apart[:, 1]), axis=1) / (first * second)
    with np.errstate(over="ignore"):
        slopes = (k / h - shared) / alone, (h / k - shared) / alone
    both = 0.5 * (special.ndtr(h) + special.ndtr(k))
    both = both - special.owens_t(h, slopes[0]) - special.owens_t(k, slopes[1])
    return np.asarray(np.maximum(both - np.where(h * k < 0, 0.5, 0.0), 0.0))


def _by_even_nodes(arms: _Arms) -> FloatArray:
    """The trapezoidal rule over the control, and Gauss and Legendre's from it upwards."""
    controls = arms.centre[:, None] + arms.spread[:, None] * EVEN
    mass = _density(EVEN) * (EVEN[1] - EVEN[0])
    treated, std_dev = arms.treated(controls), arms.std_dev
    score = (controls[..., None] - treated) / std_dev[:, None, :]
    chances = [np.prod(special.ndtr(score), axis=2) @ mass]
    for arm in range(std_dev.shape[1]):
        low = np.clip(score[..., arm], -REACH, REACH)
        half = 0.5 * (REACH - low)[..., None]
        place = REACH - half + half * HALF_LINE
        inner = _density(place) * half * HALF_WEIGHTS
        for rival in range(std_dev.shape[1]):
            if rival != arm:
                ratio = std_dev[:, None, None, arm] / std_dev[:, None, None, rival]
                apart = (treated[..., arm] - treated[..., rival]) / std_dev[:, None, rival]
                inner *= special.ndtr(apart[..., None] + ratio * place)
        chances.append(inner.sum(axis=2) @ mass)
    return np.stack(chances, axis=1)


def _by_panels(arms: _Arms) -> FloatArray:
    """One cell, whatever the scales of its arms."""
    centre, spread, std_dev = arms.centre[0], arms.spread[0], arms.std_dev[0]
    scales = np.append(spread, std_dev)
    controls, mass = panels(np.append(centre, arms.mean[0]), scales)
    mass = mass * _density((controls - centre) / spread) / spread
    treated = arms.treated(controls[None])[0]
    chances = np.array([mass @ special.ndtr((controls[:, None] - treated) / std_dev).prod(axis=1)])
    return np.append(chances, mass @ _best_treatment(controls, treated, std_dev))


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
