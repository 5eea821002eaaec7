"""Regression adjustment (CUPED): what was known before the start takes variance off an estimate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from touchstone_statistics.contrast import Joint
from touchstone_statistics.estimand import RESOLUTION, Estimand, Estimate, estimate
from touchstone_statistics.gaps import BoolArray, FloatArray, quotient
from touchstone_statistics.independence import independent
from touchstone_statistics.moments import Moments


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """An estimand of each arm after adjustment, and what the adjustment did.

    `joint` holds the adjusted arms and their covariance; `plain` the arms as they were. `theta`
    (batch with arms + covariates) is the slope on each covariate, zero for one that was not
    used. `used` (batch without arms + covariates) says which were: a covariate without variation
    or one that others already determine is dropped. `r_squared` (batch without arms) is the share
    of the variance within arms that the covariates explain, so that the interval of a
    difference shrinks by sqrt(1 - r_squared).
    """

    joint: Joint
    plain: Estimate
    theta: FloatArray
    used: BoolArray
    r_squared: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Slopes:
    """Gradients in each arm: (..., a, k) of the estimand and (..., a, p, k) of the covariates."""

    outcome: FloatArray
    covariates: FloatArray
    theta: FloatArray
    used: BoolArray

    @property
    def residual(self) -> FloatArray:
        """Gradient of the adjusted estimand in each arm, the centre held fixed: (..., a, k)."""
        explained = np.einsum("...p,...pk->...k", self.theta, self.covariates)
        return np.asarray(self.outcome - explained)


def adjust(
    moments: Moments, estimand: Estimand, covariates: Sequence[Estimand], per_arm: bool = False
) -> Adjusted:
    """Adjust an estimand of every arm by covariates that the treatment cannot have changed.

    `moments` has the arms on the last axis of its batch; metrics and slices before it each get
    slopes of their own. An estimand is a column's mean or a ratio, and so is each covariate: the
    slopes are those of the linearised quantities, theta = (G S G')^-1 G S g with the gradients g
    of the estimand and G of the covariates. The value of an arm becomes
    f(arm) - theta (h(arm) - h(all arms)), which leaves the expected difference as it is.

    S is pooled within all arms, once: Deng, Xu, Kohavi and Walker (2013), "Improving the
    sensitivity of online controlled experiments by utilizing pre-experiment data", equations 3
    and 4; for several covariates the analysis of covariance of Fisher (1932), section 49.1; for
    ratios with the delta method of Deng, Knoblich and Lu (2018). With `per_arm` each arm has
    slopes of its own: Lin (2013), "Agnostic notes on regression adjustments to experimental
    data", section 4, never less precise in large samples, also for unequal splits.

    Estimand: the same as without covariates, in the population that the units come from.
    Assumes independent units. The variance counts one degree of freedom a covariate, and the
    estimation of the common centre; not the sampling error of theta, which is smaller by 1/units.
    """
    whole = moments.total()
    plain = estimate(moments, estimand)
    slopes = _slopes(moments, whole, estimand, covariates, per_arm)
    centre = np.stack([c.evaluate(whole.mean)[0] for c in covariates], axis=-1)
    values = np.stack([c.evaluate(moments.mean)[0] for c in covariates], axis=-1)
    present = (moments.units > 0)[..., None]
    shift = np.where(present & slopes.used[..., None, :], values - centre[..., None, :], 0.0)
    variance, covariance = _spread(moments, whole, slopes, per_arm)
    arms = Estimate(
        value=plain.value - np.einsum("...p,...p->...", slopes.theta, shift),
        variance=np.einsum("...aa->...a", covariance).copy(),
        units=moments.units,
        gap=plain.gap,
        spread_gap=plain.spread_gap,
        freedom=moments.units - 1.0 - slopes.used.sum(axis=-1, dtype=np.float64)[..., None],
    )
    return Adjusted(
        joint=Joint(arms, covariance),
        plain=plain,
        theta=slopes.theta,
        used=slopes.used,
        r_squared=np.where(slopes.used.any(axis=-1), _explained(moments, plain, variance), 0.0),
    )


def _slopes(
    moments: Moments,
    whole: Moments,
    estimand: Estimand,
    covariates: Sequence[Estimand],
    per_arm: bool,
) -> _Slopes:
    """Gradients and slopes; a covariate is used only where it is known in every arm."""
    if not covariates:
        raise ValueError("covariates is empty; give at least one, or use estimate()")
    outcome = estimand.evaluate(moments.mean)[1]
    inputs = [c.evaluate(moments.mean) for c in covariates]
    gradients = np.stack([gradient for _, gradient, _ in inputs], axis=-2)
    missing = np.stack([(gap > 0) & (moments.units > 0) for _, _, gap in inputs], axis=-1)
    known = np.asarray(~missing.any(axis=-2))
    if per_arm:
        dof = np.maximum(moments.units - 1.0, 0.0)
        arguments = (outcome, gradients, moments.covariance, moments.mean, dof)
        theta, used = _solve(*arguments, known[..., None, :])
        # One answer for all arms: a covariate that one arm must drop is dropped in all.
        agreed = np.asarray((used | (moments.units == 0)[..., None]).all(axis=-2))
        theta, _ = _solve(*arguments, agreed[..., None, :])
        return _Slopes(outcome, gradients, theta, agreed)
    pooled = estimand.evaluate(whole.mean)[1]
    at_centre = np.stack([c.evaluate(whole.mean)[1] for c in covariates], axis=-2)
    dof = np.maximum(moments.units - 1.0, 0.0).sum(axis=-1)
    theta, used = _solve(pooled, at_centre, moments.pooled_within(), whole.mean, dof, known)
    spread = np.broadcast_to(theta[..., None, :], (*moments.units.shape, len(covariates)))
    return _Slopes(outcome, gradients, spread, used)


def _solve(
    outcome: FloatArray,
    covariates: FloatArray,
    covariance: FloatArray,
    mean: FloatArray,
    dof: FloatArray,
    allowed: BoolArray,
) -> tuple[FloatArray, BoolArray]:
    """Slopes (..., p) on the covariates that can be used, zero for the others, and which can."""
    gram = np.einsum("...pi,...ij,...qj->...pq", covariates, covariance, covariates)
    cross = np.einsum("...pi,...ij,...j->...p", covariates, covariance, outcome)
    noise = RESOLUTION * np.abs(covariates * mean[..., None, :]).sum(axis=-1)
    used = allowed & independent(gram, np.where(allowed, noise, np.inf))
    used &= (dof - used.sum(axis=-1) >= 1.0)[..., None]
    size = np.sqrt(np.where(used, np.einsum("...pp->...p", gram), 1.0))
    scaled = gram / (size[..., :, None] * size[..., None, :])
    both = used[..., :, None] & used[..., None, :]
    system = np.where(both, scaled, np.eye(gram.shape[-1]))
    solution = np.linalg.solve(system, np.where(used, cross / size, 0.0)[..., None])[..., 0]
    return np.asarray(solution / size), used


def _spread(
    moments: Moments, whole: Moments, slopes: _Slopes, per_arm: bool
) -> tuple[FloatArray, FloatArray]:
    """Variance of a unit's residual in each arm (..., a), and covariance of the arms (..., a, a).

    The common centre is a mean of N units with covariance S_X: it adds
    (theta_a S_X theta_b + theta_b c_a + theta_a c_b) / N to the covariance of arms a and b, where
    c_a is the covariance of covariates and residual within an arm. With common slopes all of it
    cancels in a difference, and not in a lift.
    """
    S, theta, N = moments.covariance, slopes.theta, np.maximum(whole.units, 1.0)
    residual = slopes.residual
    variance = np.maximum(np.einsum("...i,...ij,...j->...", residual, S, residual), 0.0)
    outer = np.einsum("...i,...ij,...j->...", slopes.outcome, S, slopes.outcome)
    scale = RESOLUTION * np.abs(slopes.outcome * moments.mean).sum(axis=-1)
    floor = np.maximum(scale, RESOLUTION * np.sqrt(np.maximum(outer, 0.0)))
    variance = np.where(np.sqrt(variance) <= floor, 0.0, variance)
    mixed = np.einsum("...pi,...ij,...j->...p", slopes.covariates, S, residual)
    share = moments.units / N[..., None]
    grams = np.einsum("...pi,...ij,...qj->...pq", slopes.covariates, S, slopes.covariates)
    centre = np.einsum("...a,...apq->...pq", share, grams)
    cross = np.einsum("...ap,...bp->...ab", theta, mixed)
    common = np.einsum("...ap,...pq,...bq->...ab", theta, centre, theta)
    common = (common + cross + np.swapaxes(cross, -1, -2)) / N[..., None, None]
    own = variance * _freedom_lost(moments, slopes.used, per_arm) / np.maximum(moments.units, 1.0)
    return variance, common + own[..., :, None] * np.eye(own.shape[-1])


def _freedom_lost(moments: Moments, used: BoolArray, per_arm: bool) -> FloatArray:
    """Factor that makes up for the slopes having been fitted to the same units."""
    dof = np.maximum(moments.units - 1.0, 0.0)
    if not per_arm:
        dof = dof.sum(axis=-1, keepdims=True)
    return quotient(dof, np.maximum(dof - used.sum(axis=-1)[..., None], 1.0), 1.0)


def _explained(moments: Moments, plain: Estimate, variance: FloatArray) -> FloatArray:
    """One minus the residual over the plain variance within arms, both pooled over arms."""
    dof = np.maximum(moments.units - 1.0, 0.0)
    before = (dof * plain.variance * moments.units).sum(axis=-1)
    after = (dof * variance).sum(axis=-1)
    return np.clip(quotient(before - after, before, 0.0), 0.0, 1.0)
