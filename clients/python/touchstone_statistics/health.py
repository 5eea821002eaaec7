"""Whether the data can be trusted: do the arms have the sizes that were asked for?"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.gaps import FloatArray, Gap, NotEstimable

ALERT_BELOW = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class SampleRatio:
    """Chi-squared test of the observed sizes of the arms against their weights.

    `expected` has one entry an arm, in units. `unexpected_units` counts units in arms of zero
    weight, which no correct assignment can produce; any of them is an alert as well.
    """

    statistic: float | NotEstimable
    dof: int
    p_value: float | NotEstimable
    expected: FloatArray
    unexpected_units: int

    @property
    def alert(self) -> bool:
        """True when the split is so unlikely that the results must not be trusted."""
        mismatch = isinstance(self.p_value, float) and self.p_value < ALERT_BELOW
        return mismatch or self.unexpected_units > 0


def sample_ratio(units: FloatArray, weights: FloatArray) -> SampleRatio:
    """Test whether units fell into the arms in proportion to the weights.

    Source: Pearson (1900), the sum of (observed - expected)^2 / expected with one degree of
    freedom less than there are arms of positive weight; threshold of Fabijan et al. (2019),
    "Diagnosing sample ratio mismatch in online controlled experiments". `units` and `weights`
    have one entry an arm; weights are relative and not negative. Arms of zero weight count
    neither in the sum nor in the degrees of freedom. Assumes that units are independent.
    """
    live = weights > 0
    unexpected = int(units[~live].sum())
    total = float(units[live].sum())
    dof = int(live.sum()) - 1
    expected = np.zeros(weights.shape)
    if dof < 1:
        missing = NotEstimable(Gap.NOT_APPLICABLE)
        expected[live] = total
        return SampleRatio(missing, max(dof, 0), missing, expected, unexpected)
    expected[live] = total * weights[live] / weights[live].sum()
    if total == 0:
        missing = NotEstimable(Gap.NO_UNITS)
        return SampleRatio(missing, dof, missing, expected, unexpected)
    statistic = float(((units[live] - expected[live]) ** 2 / expected[live]).sum())
    p_value = float(special.chdtrc(dof, statistic))
    return SampleRatio(statistic, dof, p_value, expected, unexpected)
