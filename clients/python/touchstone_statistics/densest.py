"""The shortest credible sets: where a posterior is not symmetric they differ from equal tails."""

from typing import TypeVar

import numpy as np

from touchstone_statistics.belief import Belief
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.interval import Interval
from touchstone_statistics.versus import (
    Margin,
    Pairs,
    check_level,
    difference_of,
    interval_of,
    log_ratio_of,
    quantile,
)

B = TypeVar("B", bound=Belief)
MAX_STEPS = 40


def densest_difference(pairs: Pairs[B], alpha: float = 0.05) -> Interval:
    """Set of highest density that holds treatment minus control with mass `1 - alpha`."""
    check_level(alpha)
    return interval_of(_densest(difference_of(pairs), alpha, relative=False), pairs.shape)


def densest_lift(pairs: Pairs[B], alpha: float = 0.05) -> Interval:
    """Set of highest density of the lift, for quantities above zero.

    Unlike an equal-tailed set it is not that of the difference in other units, so the two may
    disagree about zero: density depends on the scale.
    """
    check_level(alpha)
    ends = _densest(log_ratio_of(pairs), alpha, relative=True)
    return interval_of([np.expm1(end) for end in ends], pairs.shape)


def _densest(margin: Margin, alpha: float, relative: bool) -> list[FloatArray]:
    """The ends between which no value is less dense than one outside.

    Source: Box and Tiao (1973), "Bayesian inference in statistical analysis", section 2.8: both
    ends are equally dense. The share of `alpha` that is below is found by the Illinois variant of
    false position (Dowell and Jarratt 1971); more of it there makes the low end denser. Assumes one
    mode. `relative` asks for the density of the ratio, not of its logarithm.
    """

    def ends_at(share: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        low = quantile(margin.tail, margin.centre, margin.scale, alpha * share, False)
        high = quantile(margin.tail, margin.centre, margin.scale, alpha * (1.0 - share), True)
        dense = [margin.tail(end, False)[1] for end in (low, high)]
        if relative:
            dense = [part * np.exp(-end) for part, end in zip(dense, (low, high), strict=True)]
        return low, high, (dense[0] - dense[1]) / (dense[0] + dense[1])

    left, right = np.full_like(margin.centre, 1e-9), np.full_like(margin.centre, 1.0 - 1e-9)
    under, over = ends_at(left)[2], ends_at(right)[2]
    # One that never crosses has its mode at an end, and all of alpha is beyond the other.
    share = np.where(under >= 0, left, right)
    inside = (under < 0) & (over > 0)
    for _ in range(MAX_STEPS):
        slope = np.where(inside, over - under, 1.0)
        share = np.where(inside, (left * over - right * under) / slope, share)
        found = ends_at(share)[2]
        low_side = found < 0
        left, right = np.where(low_side, share, left), np.where(low_side, right, share)
        # The end that stays counts half, so that the other moves, too.
        over = np.where(low_side, 0.5 * over, found)
        under = np.where(low_side, found, 0.5 * under)
        if np.all(~inside | (np.abs(found) < 1e-9)):
            break
    return list(ends_at(share)[:2])
