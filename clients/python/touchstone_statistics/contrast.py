"""How arms are compared: the difference from the control and the lift over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap, quotient

# A variance below this share of those that it was computed from is rounding of zero.
RESOLUTION = 64 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Contrast:
    """A treatment set against the declared control; arrays broadcast over treatments.

    The estimates of both arms are kept, because the interval of a lift (Fieller) needs the
    means and variances of both and not just the ratio.

    `null_lift` is the lift under the null hypothesis, above -1: 0 for equal means, -M or M for a
    margin of M. It makes the hypothesis a linear contrast of the two means, whose test needs no
    division by the control mean. `covariance` is that of the two estimates, zero for independent
    arms, and `freedom` the degrees of freedom of the difference where they are not Welch's.

    Every method reads the same few numbers of a contrast: they are computed once, which is why it
    has no slots.
    """

    control: Estimate
    treatment: Estimate
    null_lift: FloatArray | float = 0.0
    covariance: FloatArray | float = 0.0
    freedom: FloatArray | None = None

    def __post_init__(self) -> None:
        if not np.all(np.asarray(self.null_lift) > -1.0):
            raise ValueError(f"null_lift is {self.null_lift}; it must be above -1")

    @cached_property
    def control_factor(self) -> FloatArray:
        """What the control mean is multiplied by: 1 + null lift, or 1 - null lift if negative.

        A lift is relative to the size of the control mean, so its sign turns that of the lift.
        """
        return np.asarray(1.0 + np.where(self.control.value < 0, -1.0, 1.0) * self.null_lift)

    @cached_property
    def difference(self) -> FloatArray:
        """Mean of the treatment minus `control_factor` times that of the control.

        With a null lift of zero the difference of the means. In units of the metric.
        """
        return np.asarray(self.treatment.value - self.control_factor * self.control.value)

    @cached_property
    def control_covariance(self) -> FloatArray:
        """Covariance of the difference with the mean of the control."""
        return np.asarray(self.covariance - self.control_factor * self.control.variance)

    @cached_property
    def variance(self) -> FloatArray:
        """Sampling variance of the difference."""
        treated, controlled = self._parts()
        total = treated + controlled
        whole = self.treatment.variance + self.control_factor**2 * self.control.variance
        # Beyond a double the comparison with infinity would make the largest variance none.
        rounding = np.isfinite(whole) & (total <= RESOLUTION * whole)
        return np.asarray(np.where(rounding, 0.0, total))

    def _parts(self) -> tuple[FloatArray, FloatArray]:
        """What each arm alone adds to the variance of the difference."""
        factor = self.control_factor
        shared = factor * self.covariance
        return self.treatment.variance - shared, factor**2 * self.control.variance - shared

    @cached_property
    def std_err(self) -> FloatArray:
        return np.asarray(np.sqrt(self.variance))

    @property
    def lift(self) -> FloatArray:
        """Difference of the means as a share of the size of the control mean: 0.05 is 5 % more.

        The size, not the signed mean: a rise of a negative mean is a positive lift. The same
        whatever the null lift.
        """
        apart = self.treatment.value - self.control.value
        return quotient(np.asarray(apart), np.abs(self.control.value), 0.0)

    @cached_property
    def dof(self) -> FloatArray:
        """Degrees of freedom of the difference.

        Source: Welch (1947), "The generalization of Student's problem when several different
        population variances are involved"; Satterthwaite (1946), equation 17. Written with the
        share of each arm in the variance, so that tiny variances do not underflow.
        """
        if self.freedom is not None:
            return np.maximum(np.broadcast_to(self.freedom, self.difference.shape), 1.0)
        treated, controlled = self._parts()
        share = np.clip(quotient(treated, treated + controlled, 0.0), 0.0, 1.0)
        inverse = share**2 / self.treatment.dof + (1.0 - share) ** 2 / self.control.dof
        return np.asarray(1.0 / inverse)

    @cached_property
    def gap(self) -> GapArray:
        """Why the difference is missing."""
        return first_gap(self.control.gap, self.treatment.gap)

    @cached_property
    def spread_gap(self) -> GapArray:
        """Why the uncertainty of the difference is missing."""
        flat = np.where(self.variance <= 0, Gap.ZERO_VARIANCE, Gap.NONE).astype(np.uint8)
        return first_gap(self.control.spread_gap, self.treatment.spread_gap, flat)

    @cached_property
    def lift_gap(self) -> GapArray:
        """Why the lift is missing."""
        zero = np.where(self.control.value == 0, Gap.ZERO_CONTROL_MEAN, Gap.NONE)
        return first_gap(self.gap, zero.astype(np.uint8))

    @cached_property
    def lift_spread_gap(self) -> GapArray:
        """Why the uncertainty of the lift is missing."""
        return first_gap(self.lift_gap, self.spread_gap)


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """Arms whose estimates covary, for instance because they share covariates or clusters.

    `arms` has the arms on its last axis, `covariance` twice; its diagonal is their variance.
    `freedom` (without the axis of arms) replaces Welch's degrees of freedom where it is given.
    """

    arms: Estimate
    covariance: FloatArray
    freedom: FloatArray | None = None

    def contrast(self, control: int, null_lift: float = 0.0) -> Contrast:
        """Every other arm, in order, against arm number `control`, which keeps an axis of one."""
        count = self.arms.value.shape[-1]
        if not 0 <= control < count:
            raise ValueError(f"control is {control}; with {count} arms it must be 0 to {count - 1}")
        others = [arm for arm in range(count) if arm != control]
        return Contrast(
            self.arms[..., control : control + 1],
            self.arms[..., others],
            null_lift,
            self.covariance[..., others, control],
            None if self.freedom is None else self.freedom[..., None],
        )

    def combine(self, weights: FloatArray) -> "Joint":
        """Weighted sums of the arms as new arms; `weights` has one row for each of them."""
        if weights.ndim != 2 or weights.shape[1] != self.arms.value.shape[-1]:
            raise ValueError(
                f"weights has shape {weights.shape}; with {self.arms.value.shape[-1]} arms it must "
                f"be (sums, {self.arms.value.shape[-1]})"
            )
        covariance = weights @ self.covariance @ weights.T
        used = weights != 0
        arms = Estimate(
            value=self.arms.value @ weights.T,
            variance=np.einsum("...aa->...a", covariance).copy(),
            units=self.arms.units @ used.T.astype(np.float64),
            gap=np.where(used, self.arms.gap[..., None, :], 0).max(axis=-1),
            spread_gap=np.where(used, self.arms.spread_gap[..., None, :], 0).max(axis=-1),
        )
        return Joint(arms, covariance, self.freedom)


def linear(terms: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Weighted sum of estimates of independent samples, with Satterthwaite's dof.

    Source: Satterthwaite (1946), "An approximate distribution of estimates of variance
    components", equation 17. Its gaps are the first of any term.
    """
    if len(terms) != len(weights) or not terms:
        raise ValueError(f"{len(terms)} terms and {len(weights)} weights; give one for each term")
    parts = [w**2 * term.variance for term, w in zip(terms, weights, strict=True)]
    variance = np.asarray(sum(parts))
    inverse = sum(
        quotient(part, variance, 0.0) ** 2 / term.dof
        for part, term in zip(parts, terms, strict=True)
    )
    return Estimate(
        value=np.asarray(sum(w * term.value for term, w in zip(terms, weights, strict=True))),
        variance=variance,
        units=np.asarray(sum(term.units for term in terms)),
        gap=first_gap(*(term.gap for term in terms)),
        spread_gap=first_gap(*(term.spread_gap for term in terms)),
        freedom=quotient(np.ones_like(variance), np.asarray(inverse), 1.0),
    )


def interaction(both: Estimate, first: Estimate, second: Estimate, neither: Estimate) -> Contrast:
    """Whether two experiments act on each other: (both - first) - (second - neither).

    The cells hold the units that had the treatment of both experiments, of one of them and of
    neither. The contrast sets against the mean of `neither` the same mean plus the interaction,
    so its difference is the interaction and its lift the interaction as a share of that mean.
    Assumes four independent samples.
    """
    cells, signs = (both, first, second, neither), (1.0, -1.0, -1.0, 1.0)
    whole = linear(cells, signs)
    moved = linear(cells, (1.0, -1.0, -1.0, 2.0))
    return Contrast(neither, moved, 0.0, 2.0 * neither.variance, whole.freedom)
