"""What is estimated in an arm: a smooth function of the vector of means."""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap, quotient
from touchstone_statistics.moments import Moments

# A spread below this share of the mean is rounding of equal values, not variation.
RESOLUTION = 64 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """An estimated quantity of each arm; all arrays share the batch shape of the moments.

    `variance` is the sampling variance of `value` (its square root is the standard error).
    `gap` says why the value is missing, `spread_gap` why its variance is. `freedom` holds the
    degrees of freedom of the variance where they are not `units - 1`.
    """

    value: FloatArray
    variance: FloatArray
    units: FloatArray
    gap: GapArray
    spread_gap: GapArray
    freedom: FloatArray | None = None

    @property
    def std_err(self) -> FloatArray:
        return np.asarray(np.sqrt(self.variance))

    @property
    def dof(self) -> FloatArray:
        """Degrees of freedom of the variance; 1 where it is unknown."""
        own = self.units - 1.0 if self.freedom is None else self.freedom
        return np.asarray(np.maximum(own, 1.0))

    def __getitem__(self, index: Any) -> Self:
        """A part of the batch, for instance one arm."""
        return type(self)(
            np.asarray(self.value[index]),
            np.asarray(self.variance[index]),
            np.asarray(self.units[index]),
            np.asarray(self.gap[index]),
            np.asarray(self.spread_gap[index]),
            None if self.freedom is None else np.asarray(self.freedom[index]),
        )


class Estimand(Protocol):
    """A function of the mean vector with its gradient."""

    def evaluate(self, mean: FloatArray) -> tuple[FloatArray, FloatArray, GapArray]:
        """Value (batch), gradient (batch + columns) and gap (batch) at a mean vector."""
        ...


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of one column: gradient one there and zero elsewhere."""

    column: int

    def evaluate(self, mean: FloatArray) -> tuple[FloatArray, FloatArray, GapArray]:
        gradient = np.zeros_like(mean)
        gradient[..., self.column] = 1.0
        value = mean[..., self.column]
        return value, gradient, np.zeros(value.shape, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The mean of one column over the mean of another, for instance revenue a session."""

    numerator: int
    denominator: int

    def evaluate(self, mean: FloatArray) -> tuple[FloatArray, FloatArray, GapArray]:
        above, below = mean[..., self.numerator], mean[..., self.denominator]
        gap = np.where(below == 0, Gap.ZERO_DENOMINATOR, Gap.NONE).astype(np.uint8)
        value = quotient(above, below, 0.0)
        gradient = np.zeros_like(mean)
        gradient[..., self.numerator] = quotient(np.ones_like(below), below, 0.0)
        gradient[..., self.denominator] -= quotient(value, below, 0.0)
        return value, gradient, gap


def estimate(moments: Moments, estimand: Estimand) -> Estimate:
    """Value and sampling variance g' S g / n of an estimand in each arm.

    S is the sample covariance (ddof 1) and g the gradient of the estimand at the means: the
    delta method of Deng, Knoblich and Lu (2018), "Applying the delta method in metric
    analytics", equation 4; exact for a mean. Assumes independent units and finite variances.
    """
    value, gradient, gap = estimand.evaluate(moments.mean)
    quadratic = np.einsum("...i,...ij,...j->...", gradient, moments.covariance, gradient)
    scale = RESOLUTION * np.sum(np.abs(gradient * moments.mean), axis=-1)
    quadratic = np.where(np.sqrt(np.maximum(quadratic, 0.0)) <= scale, 0.0, quadratic)
    variance = quadratic / np.maximum(moments.units, 1.0)
    empty = np.where(moments.units < 1, Gap.NO_UNITS, Gap.NONE).astype(np.uint8)
    single = np.where(moments.units < 2, Gap.ONE_UNIT, Gap.NONE).astype(np.uint8)
    gap = first_gap(empty, gap)
    return Estimate(value, variance, moments.units, gap, first_gap(gap, single))
