"""Units that saw several variants: how many are left out, and how far that can mislead."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.gaps import FloatArray, Gap, quotient
from touchstone_statistics.health import ALERT_BELOW
from touchstone_statistics.interval import Interval, Shape


@dataclass(frozen=True, slots=True, eq=False)
class Exclusions:
    """Units excluded because they met more than one variant, by the variant they met first.

    `share` has one entry an arm. When the shares differ between arms the exclusion depends on
    the treatment and what is left is no random sample: `alert` says so. Equal shares do not
    prove the absence of bias, as different units may be excluded on each side.
    """

    share: FloatArray
    overall_share: float
    statistic: float
    dof: int
    p_value: float
    gap: Gap

    @property
    def alert(self) -> bool:
        return self.gap is Gap.NONE and self.p_value < ALERT_BELOW


def exclusions(kept: FloatArray, excluded: FloatArray) -> Exclusions:
    """Test whether units are excluded as often in each arm.

    `kept` and `excluded` count units by arm, the excluded ones by the variant of their first
    exposure, which is as random as the assignment. Source: Pearson's (1900) chi-squared test
    of homogeneity in a table of two rows; arms without units do not count.
    """
    arm_units = kept + excluded
    total, lost = float(arm_units.sum()), float(excluded.sum())
    dof = int((arm_units > 0).sum()) - 1
    rate = lost / total if total > 0 else 0.0
    if dof < 1:
        gap = Gap.NOT_APPLICABLE if total > 0 else Gap.NO_UNITS
    else:
        gap = Gap.ZERO_VARIANCE if rate in (0.0, 1.0) else Gap.NONE
    spread = np.where(arm_units > 0, arm_units * rate * (1.0 - rate), 0.0)
    statistic = float(quotient((excluded - arm_units * rate) ** 2, spread, 0.0).sum())
    p_value = float(special.chdtrc(max(dof, 1), statistic))
    return Exclusions(
        quotient(excluded, arm_units, 0.0), rate, statistic, max(dof, 0), p_value, gap
    )


def largest_shares(kept: FloatArray, excluded_units: float) -> FloatArray:
    """The most that each arm can have lost when the first variants of the excluded are unknown.

    All of them, out of the units kept and them; one entry an arm. With these `worst_case` holds
    whatever the truth, though not every arm can have lost them all at once.
    """
    return quotient(np.full(kept.shape, float(excluded_units)), kept + excluded_units, 0.0)


def worst_case(
    means: FloatArray, excluded_share: FloatArray, lowest: float, highest: float
) -> Interval:
    """What the difference of means could be if the excluded units had counted in their arm.

    Source: Manski (1990), "Nonparametric bounds on treatment effects": an excluded share e of
    an arm with mean m moves it to no less than (1 - e) m + e * lowest and no more than
    (1 - e) m + e * highest. `means` and `excluded_share` have the control first on the last
    axis; `lowest` and `highest` bound the metric of a unit (0 and 1 for a conversion, the caps
    of a capped metric). The interval holds no sampling error: it is the range of the estimand
    itself, one entry a treatment.
    """
    if not (np.isfinite([lowest, highest]).all() and lowest <= highest):
        raise ValueError(
            f"the metric is said to lie between {lowest} and {highest}; both must be finite, "
            "the lower first"
        )
    kept = (1.0 - excluded_share) * means
    low, high = kept + excluded_share * lowest, kept + excluded_share * highest
    ends = low[..., 1:] - high[..., :1], high[..., 1:] - low[..., :1]
    return Interval(*ends, np.full(ends[0].shape, Shape.BETWEEN, dtype=np.uint8))


def largest_bias(
    means: FloatArray, excluded_share: FloatArray, lowest: float, highest: float
) -> FloatArray:
    """The largest distance of the reported difference of means from what it could be."""
    bounds = worst_case(means, excluded_share, lowest, highest)
    difference = means[..., 1:] - means[..., :1]
    return np.asarray(np.maximum(bounds.high - difference, difference - bounds.low))
