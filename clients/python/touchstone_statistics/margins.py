"""Tests against a margin: that a treatment is not worse than, or as good as, the control."""

from dataclasses import dataclass, replace

import numpy as np

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import BoolArray, FloatArray, GapArray, first_gap
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interval import Side


def not_worse(contrast: Contrast, margin: float, increase_is_better: bool = True) -> Contrast:
    """The same arms under the null hypothesis that the treatment is worse by the margin.

    `margin` is a share of the control mean, 0 <= margin < 1. A metric that should rise is tested
    against a lift of -margin, one that should fall against +margin: read it with
    `toward(increase_is_better)`. With a margin of zero this is the test of superiority.

    Source: non-inferiority as a linear contrast mT - (1 - M) mC, which counts the uncertainty of
    the control mean: Laster and Johnson (2003), "Non-inferiority trials: the 'at least as good
    as' criterion", section 2; Hasler, Vonk and Hothorn (2008) for unequal variances.
    """
    if not 0.0 <= margin < 1.0:
        raise ValueError(f"margin is {margin}; it must be at least 0 and below 1")
    return replace(contrast, null_lift=-margin if increase_is_better else margin)


def toward(increase_is_better: bool) -> Side:
    """The side on which a metric improves."""
    return Side.GREATER if increase_is_better else Side.LESS


@dataclass(frozen=True, slots=True, eq=False)
class Equivalence:
    """Two one-sided tests: the lift is above -margin, and it is below +margin.

    `p_value` is the larger of the two and `equivalent` says that it is below alpha: exactly then
    the one-sided interval of `above` excludes -margin and that of `below` excludes +margin.
    """

    above: Reading
    below: Reading
    p_value: FloatArray
    equivalent: BoolArray
    gap: GapArray


def equivalence(contrast: Contrast, margin: float, alpha: float | FloatArray = 0.05) -> Equivalence:
    """Test that the means differ by less than a share `margin` of the control mean.

    Source: Schuirmann (1987), "A comparison of the two one-sided tests procedure and the power
    approach". Each test has level alpha; no correction is needed, since both must reject.
    """
    if not 0.0 < margin < 1.0:
        raise ValueError(f"margin is {margin}; it must be above 0 and below 1")
    above = Fixed(alpha, Side.GREATER).read(replace(contrast, null_lift=-margin))
    below = Fixed(alpha, Side.LESS).read(replace(contrast, null_lift=margin))
    p_value = np.maximum(above.p_value, below.p_value)
    gap = first_gap(above.gap, below.gap)
    return Equivalence(above, below, p_value, (p_value < alpha) & (gap == 0), gap)
