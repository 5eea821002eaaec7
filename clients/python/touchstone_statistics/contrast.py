"""How arms are compared: the difference from the control and the lift over it."""

from dataclasses import dataclass

import numpy as np

from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap, quotient


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """A treatment set against the declared control; arrays broadcast over treatments.

    The estimates of both arms are kept, because the interval of a lift (Fieller) needs the
    means and variances of both and not just the ratio.
    """

    control: Estimate
    treatment: Estimate

    @property
    def difference(self) -> FloatArray:
        """Mean of the treatment minus mean of the control, in units of the metric."""
        return np.asarray(self.treatment.value - self.control.value)

    @property
    def variance(self) -> FloatArray:
        """Sampling variance of the difference of two independent arms."""
        return np.asarray(self.treatment.variance + self.control.variance)

    @property
    def std_err(self) -> FloatArray:
        return np.asarray(np.sqrt(self.variance))

    @property
    def lift(self) -> FloatArray:
        """Difference as a share of the size of the control mean: 0.05 is five per cent more.

        The size, not the signed mean: a rise of a negative mean is a positive lift.
        """
        return quotient(self.difference, np.abs(self.control.value), 0.0)

    @property
    def dof(self) -> FloatArray:
        """Degrees of freedom of the difference.

        Source: Welch (1947), "The generalization of Student's problem when several different
        population variances are involved"; Satterthwaite (1946), equation 17. Written with the
        share of each arm in the variance, so that tiny variances do not underflow.
        """
        share = quotient(self.treatment.variance, self.variance, 0.0)
        treated = share**2 / np.maximum(self.treatment.units - 1.0, 1.0)
        controlled = (1.0 - share) ** 2 / np.maximum(self.control.units - 1.0, 1.0)
        return np.asarray(1.0 / (treated + controlled))

    @property
    def gap(self) -> GapArray:
        """Why the difference is missing."""
        return first_gap(self.control.gap, self.treatment.gap)

    @property
    def spread_gap(self) -> GapArray:
        """Why the uncertainty of the difference is missing."""
        flat = np.where(self.variance <= 0, Gap.ZERO_VARIANCE, Gap.NONE).astype(np.uint8)
        return first_gap(self.control.spread_gap, self.treatment.spread_gap, flat)

    @property
    def lift_gap(self) -> GapArray:
        """Why the lift is missing."""
        zero = np.where(self.control.value == 0, Gap.ZERO_CONTROL_MEAN, Gap.NONE)
        return first_gap(self.gap, zero.astype(np.uint8))

    @property
    def lift_spread_gap(self) -> GapArray:
        """Why the uncertainty of the lift is missing."""
        return first_gap(self.lift_gap, self.spread_gap)
