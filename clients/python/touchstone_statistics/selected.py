"""An effect that is looked at because it is significant, without the flattery of the choice.

A comparison that is reported because it passed a threshold has, on average, a smaller true effect
than its estimate. `winners` corrects the total of a programme; this corrects one comparison.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap
from touchstone_statistics.inference import lift_fraction
from touchstone_statistics.interval import Interval, Shape, Side, fieller

# Halvings of a bracket of some 20 standard errors: to the last bit of a double.
HALVINGS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """The effect given that it was chosen; the arrays have the shape of the contrast.

    `difference` and `lift` are median-unbiased, their intervals hold with the stated probability
    among the comparisons that are chosen. `gap` is NOT_APPLICABLE for one that was not chosen.
    """

    difference: FloatArray
    difference_interval: Interval
    lift: FloatArray
    lift_interval: Interval
    gap: GapArray
    lift_gap: GapArray


def corrected(contrast: Contrast, critical: FloatArray, alpha: float = 0.05) -> Corrected:
    """Estimate and interval of differences that were chosen for lying beyond a critical value.

    `critical` is the number of standard errors that a difference of either sign had to exceed.
    Estimand: the difference of means, and the lift. Each bound is the true effect under which an
    estimate beyond the threshold is as large as the seen one with probability 1/2, alpha/2 and
    1 - alpha/2: Zhong and Prentice (2008), "Bias-reduced estimators and confidence intervals for
    odds ratios in genome-wide association studies", section 2.2; Weinstein, Fithian and Benjamini
    (2013), "Selection adjusted confidence intervals with more power to determine the sign". So
    just beyond the threshold nothing is left of the effect, and far beyond it all of it.

    Assumes a nearly normal estimate with known standard error and one threshold: that of earlier
    looks is not conditioned on. The lift's bounds are as many standard errors from the seen lift,
    by Fieller's theorem (1954), so that they agree with those of the difference about zero.
    """
    if not 0.0 < alpha <= 0.5:
        raise ValueError(f"alpha is {alpha}; it must be above 0 and at most 0.5")
    unknown = contrast.spread_gap
    std_err = np.where(unknown == Gap.NONE, contrast.std_err, 1.0)
    score = np.where(unknown == Gap.NONE, contrast.difference / std_err, 0.0)
    bar = np.broadcast_to(critical, score.shape)
    chosen = np.isfinite(bar) & (np.abs(score) > bar) & (unknown == Gap.NONE)
    passed = np.where(chosen, Gap.NONE, Gap.NOT_APPLICABLE).astype(np.uint8)
    size, bar = np.where(chosen, np.abs(score), 1.0), np.where(chosen, bar, 0.0)
    sign = np.where(score < 0, -1.0, 1.0)
    # Of the size, from the least to the largest true effect that is plausible.
    near, middle, far = truth_at(size, bar, np.array([alpha / 2, 0.5, 1 - alpha / 2]))
    low, high = np.where(sign > 0, near, -far), np.where(sign > 0, far, -near)
    shape = np.full(score.shape, Shape.BETWEEN, dtype=np.uint8)
    left, lift, right = (_lift_at(contrast, score - true) for true in (low, sign * middle, high))
    unbounded = ~(np.isfinite(left) & np.isfinite(lift) & np.isfinite(right))
    gap = first_gap(unknown, passed)
    return Corrected(
        difference=sign * middle * std_err,
        difference_interval=Interval(low * std_err, high * std_err, shape),
        lift=np.where(unbounded, 0.0, lift),
        lift_interval=Interval(
            np.where(unbounded, -np.inf, left),
            np.where(unbounded, np.inf, right),
            np.where(unbounded, Shape.EVERYTHING, shape).astype(np.uint8),
        ),
        gap=gap,
        lift_gap=first_gap(gap, contrast.lift_gap),
    )


def truth_at(size: FloatArray, bar: FloatArray, probability: FloatArray) -> FloatArray:
    """The true effect under which a chosen estimate is at least `size` with each probability.

    In standard errors; of shape (probabilities, ...). Solved by halving, because the probability
    rises with the true effect.
    """
    wanted = probability.reshape(-1, *(1,) * size.ndim)
    shape = (probability.size, *size.shape)
    low = np.broadcast_to(-size - 10.0, shape).copy()
    high = np.broadcast_to(size + 10.0, shape).copy()
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        above = _beyond(size, bar, middle) > wanted
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return np.asarray(0.5 * (low + high))


def _beyond(size: FloatArray, bar: FloatArray, truth: FloatArray) -> FloatArray:
    """P(X >= size given |X| > bar) for X normal about the truth with a standard deviation of 1."""
    right, left = special.log_ndtr(truth - bar), special.log_ndtr(-truth - bar)
    return np.asarray(np.exp(special.log_ndtr(truth - size) - np.logaddexp(right, left)))


def _lift_at(contrast: Contrast, distance: FloatArray) -> FloatArray:
    """The lift that lies so many standard errors below the seen one, above it if negative; infinite
    where the control's mean is not distinguishable from zero at that distance.
    """
    found = fieller(lift_fraction(contrast), np.abs(distance), Side.TWO_SIDED)
    end = np.where(distance > 0, found.low, found.high)
    return np.asarray(np.where(found.shape == Shape.BETWEEN, end, np.inf))
