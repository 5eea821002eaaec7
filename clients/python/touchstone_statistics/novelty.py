"""How an effect changes with the time since a unit was first exposed: novelty and learning."""

import enum
from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, first_gap, quotient
from touchstone_statistics.interval import Interval, Side, around
from touchstone_statistics.moments import Moments

SINGULAR = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class TimedEffects:
    """Effects in successive periods since exposure, on the last axis, with their covariance.

    The same units make up each period, so the effects are correlated: taking them for
    independent misjudges every trend. `covariance` has one axis more, (..., periods, periods).
    """

    value: FloatArray
    covariance: FloatArray
    gap: GapArray

    @classmethod
    def of(cls, control: Moments, treatment: Moments) -> "TimedEffects":
        """Differences of means by period, from moments with one column a period.

        The column of a period is the metric of a unit within it, for instance on its first,
        second, third day, or in days 1 to 7 and 8 to 56. Count only units for which all the
        periods are over: otherwise later periods hold other units and their change is mixed
        with that of the effect. Each period may hold a total or a total divided by its days.
        """
        few = [
            np.where(arm.units < 2, np.where(arm.units < 1, Gap.NO_UNITS, Gap.ONE_UNIT), Gap.NONE)
            for arm in (control, treatment)
        ]
        covariance = sum(
            (arm.covariance / np.maximum(arm.units, 1.0)[..., None, None])
            for arm in (control, treatment)
        )
        units_gap = first_gap(*(each.astype(np.uint8) for each in few))[..., None]
        flat = np.diagonal(covariance, axis1=-2, axis2=-1) <= 0
        flat_gap = np.where(flat, Gap.ZERO_VARIANCE, Gap.NONE).astype(np.uint8)
        return cls(
            treatment.mean - control.mean, np.asarray(covariance), first_gap(units_gap, flat_gap)
        )

    @classmethod
    def independent(cls, value: FloatArray, variance: FloatArray, gap: GapArray) -> "TimedEffects":
        """Effects in which no unit counts twice, for instance of cohorts by day of entry."""
        identity = np.eye(value.shape[-1])
        return cls(value, variance[..., None] * identity, gap)

    @property
    def known(self) -> BoolArray:
        return np.asarray(self.gap == Gap.NONE)


class Trend(enum.IntEnum):
    """What the slope says, at the level it was tested."""

    NONE_SEEN = 0
    """No change of the effect is distinguishable from chance."""
    FADING = 1
    """The effect moves towards zero, as the charm of novelty wears off."""
    GROWING = 2
    """The effect moves away from zero, as users learn."""
    REVERSING = 3
    """The effect changes its sign between the first period and the last."""


@dataclass(frozen=True, slots=True, eq=False)
class Slope:
    """Change of the effect a day; `first` and `last` are the fitted effects at the ends."""

    per_day: FloatArray
    std_err: FloatArray
    p_value: FloatArray
    interval: Interval
    first: FloatArray
    last: FloatArray
    trend: GapArray
    gap: GapArray


def slope(effects: TimedEffects, days: FloatArray, alpha: float = 0.05) -> Slope:
    """Straight line through the effects over days since first exposure.

    Weighted least squares with weights one over the variance of each period; the variance of
    the slope is that of a linear combination under the whole covariance, so it is right
    although the same units are in all periods. Estimand: the weighted slope, whether
    or not the course is straight. Assumes nearly normal effects. `days` has one entry a period.
    """
    known = effects.known
    variance = np.diagonal(effects.covariance, axis1=-2, axis2=-1)
    w = quotient(known.astype(np.float64), np.where(known, variance, 0.0), 0.0)
    total = w.sum(axis=-1, keepdims=True)
    middle = quotient((w * days).sum(axis=-1, keepdims=True), total, 0.0)
    centred = w * (days - middle)
    square = (centred * (days - middle)).sum(axis=-1, keepdims=True)
    few = (known.sum(axis=-1) < 2) | (square[..., 0] <= 0)
    gap = np.where(few, Gap.NOT_APPLICABLE, Gap.NONE).astype(np.uint8)
    line = quotient(centred, square, 0.0)
    value = np.where(known, effects.value, 0.0)
    per_day = (line * value).sum(axis=-1)
    std_err = np.sqrt(np.einsum("...i,...ij,...j->...", line, effects.covariance, line))
    z = quotient(per_day, std_err, 0.0)
    p_value = 2.0 * special.ndtr(-np.abs(z))
    level = quotient((w * value).sum(axis=-1, keepdims=True), total, 0.0)[..., 0]
    first, last = (level + per_day * (end - middle[..., 0]) for end in (days.min(), days.max()))
    reach = -special.ndtri(alpha / 2.0) * std_err
    return Slope(
        per_day=per_day,
        std_err=std_err,
        p_value=np.asarray(p_value),
        interval=around(per_day, np.asarray(reach), Side.TWO_SIDED),
        first=np.asarray(first),
        last=np.asarray(last),
        trend=_trend(np.asarray(first), np.asarray(last), (gap == Gap.NONE) & (p_value < alpha)),
        gap=gap,
    )


def _trend(first: FloatArray, last: FloatArray, seen: BoolArray) -> GapArray:
    moved = np.where(np.abs(last) < np.abs(first), Trend.FADING, Trend.GROWING)
    moved = np.where(first * last < 0, Trend.REVERSING, moved)
    return np.where(seen, moved, Trend.NONE_SEEN).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Test that the effect is the same in all periods."""

    statistic: FloatArray
    dof: FloatArray
    p_value: FloatArray
    gap: GapArray


def change(effects: TimedEffects) -> Change:
    """Wald's (1943) test of equal effects in all periods, for instance in two windows.

    The least weighted distance of the effects from a common value, with the whole covariance:
    chi-squared with one degree of freedom less than there are periods. Give effects a day if
    the periods are of different length. Assumes nearly normal effects and many units.
    """
    known = effects.known
    variance = np.where(known, np.diagonal(effects.covariance, axis1=-2, axis2=-1), 1.0)
    scale = np.sqrt(variance)
    both = known[..., :, None] & known[..., None, :]
    correlation = effects.covariance / (scale[..., :, None] * scale[..., None, :])
    correlation = np.where(both, correlation, np.eye(known.shape[-1]))
    inverse = np.linalg.pinv(correlation, rcond=SINGULAR, hermitian=True)
    ones = np.where(known, 1.0 / scale, 0.0)
    values = np.where(known, effects.value, 0.0) * ones
    cross = np.einsum("...i,...ij,...j->...", ones, inverse, values)
    weight = np.einsum("...i,...ij,...j->...", ones, inverse, ones)
    rest = values - ones * quotient(cross, weight, 0.0)[..., None]
    statistic = np.einsum("...i,...ij,...j->...", rest, inverse, rest)
    dof = np.maximum(known.sum(axis=-1) - 1.0, 0.0)
    return Change(
        statistic=statistic,
        dof=dof,
        p_value=np.asarray(special.chdtrc(np.maximum(dof, 1.0), statistic)),
        gap=np.where(dof < 1, Gap.NOT_APPLICABLE, Gap.NONE).astype(np.uint8),
    )
