"""What a contrast says: one p-value of its null hypothesis and the intervals that agree with it."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray, GapArray
from touchstone_statistics.interval import Fraction, Interval, Side, around, fieller
from touchstone_statistics.student import upper_quantile


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The test of a null lift, mostly zero, with intervals for the difference and for the lift.

    All arrays have the shape of the contrast. `gap` covers statistic, dof, p-value and the
    interval of the difference; `lift_gap` covers the interval of the lift. The interval of the
    difference excludes zero, and that of the lift the null lift of the contrast, exactly when
    `p_value < alpha`.

    `critical` is how many standard errors the interval of the difference reaches, `log_e` the
    natural logarithm of the evidence against equal means as an e-value (Vovk and Wang 2021);
    an inference that has none of them leaves them None.
    """

    statistic: FloatArray
    dof: FloatArray
    p_value: FloatArray
    difference: Interval
    lift: Interval
    gap: GapArray
    lift_gap: GapArray
    critical: FloatArray | None = None
    log_e: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A single look at a horizon chosen beforehand, at level `alpha` (0 < alpha <= 0.5).

    `alpha` may be an array that broadcasts to the contrast: the level that a correction for
    many comparisons leaves to each.

    Estimand: the difference of means. Assumes independent units and enough of them for the
    mean of each arm to be nearly normal; variances may differ. Looking at it more than once
    inflates the error rate.
    """

    alpha: float | FloatArray = 0.05
    side: Side = Side.TWO_SIDED

    def __post_init__(self) -> None:
        if not np.all((np.asarray(self.alpha) > 0.0) & (np.asarray(self.alpha) <= 0.5)):
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and at most 0.5")

    def read(self, contrast: Contrast) -> Reading:
        """Welch's unequal-variances t test (Welch 1947) and Fieller's interval (Fieller 1954)."""
        gap = contrast.spread_gap
        std_err = np.where(gap == 0, contrast.std_err, 1.0)
        dof = np.where(gap == 0, contrast.dof, 1.0)
        statistic = np.where(gap == 0, contrast.difference / std_err, 0.0)
        critical = self._critical(dof)
        return Reading(
            statistic=statistic,
            dof=dof,
            p_value=self._p_value(statistic, dof),
            difference=around(contrast.difference, critical * std_err, self.side),
            lift=fieller(lift_fraction(contrast), critical, self.side),
            gap=gap,
            lift_gap=contrast.lift_spread_gap,
            critical=critical,
        )

    def _critical(self, dof: FloatArray) -> FloatArray:
        level = np.asarray(self.alpha)
        tail = level / 2 if self.side is Side.TWO_SIDED else level
        return upper_quantile(dof, tail)

    def _p_value(self, statistic: FloatArray, dof: FloatArray) -> FloatArray:
        # The lower tail, never one minus the cdf: that is exactly zero from t = 9 on.
        if self.side is Side.TWO_SIDED:
            return np.asarray(2.0 * special.stdtr(dof, -np.abs(statistic)))
        toward = statistic if self.side is Side.LESS else -statistic
        return np.asarray(special.stdtr(dof, toward))


def lift_fraction(contrast: Contrast) -> Fraction:
    """The difference over the size of the control mean, moved back by the null lift.

    Both hold the control mean, so they covary. With a null lift of -M the numerator is
    mT - (1 - M) mC: the set of lifts then excludes -M exactly when the test of it rejects.
    """
    shape = contrast.difference.shape
    size = np.abs(contrast.control.value)
    sign = np.where(contrast.control.value < 0, -1.0, 1.0)
    return Fraction(
        numerator=contrast.difference,
        denominator=np.broadcast_to(size, shape),
        numerator_variance=contrast.variance,
        denominator_variance=np.broadcast_to(contrast.control.variance, shape),
        covariance=np.broadcast_to(sign * contrast.control_covariance, shape),
        offset=contrast.null_lift,
    )
