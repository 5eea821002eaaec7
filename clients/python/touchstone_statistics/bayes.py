"""Normal posterior of a contrast: chance to beat the control, expected loss, credible sets."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray, GapArray
from touchstone_statistics.interval import Fraction, Interval, Side, around, fieller


class Prior(Protocol):
    """Normal belief about the difference from the control, before any data."""

    @property
    def relative(self) -> bool:
        """Whether it is about the lift, and so needs a control mean that is not zero."""
        ...

    def of_difference(self, control: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the difference, given the value of the control."""
        ...


def _check_prior(mean: float, std_dev: float) -> None:
    if not (np.isfinite(mean) and np.isfinite(std_dev) and std_dev > 0):
        raise ValueError(
            f"the prior has mean {mean} and standard deviation {std_dev}; "
            "both must be finite and the latter above zero"
        )


@dataclass(frozen=True, slots=True)
class LiftPrior:
    """Normal prior belief about a lift before any data, the same for each treatment.

    0 and 0.3 say: most changes do little, and two thirds of them move a metric by less than
    thirty per cent. A flat prior would call 46 % of A/A tests decided within 28 daily looks;
    `touchstone_statistics.peeking` says what others do.
    """

    mean: float = 0.0
    std_dev: float = 0.3

    def __post_init__(self) -> None:
        _check_prior(self.mean, self.std_dev)

    @property
    def relative(self) -> bool:
        return True

    def of_difference(self, control: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Scaled by the size of the control mean."""
        size = np.abs(control)
        return self.mean * size, (self.std_dev * size) ** 2


@dataclass(frozen=True, slots=True)
class DifferencePrior:
    """Normal prior belief about a difference, in units of the metric."""

    mean: float
    std_dev: float

    def __post_init__(self) -> None:
        _check_prior(self.mean, self.std_dev)

    @property
    def relative(self) -> bool:
        return False

    def of_difference(self, control: FloatArray) -> tuple[FloatArray, FloatArray]:
        """As it is."""
        return np.full_like(control, self.mean), np.full_like(control, self.std_dev**2)


@dataclass(frozen=True, slots=True)
class Region:
    """Effects that are too small to matter: a region of practical equivalence.

    Source: Kruschke (2018), "Rejecting or accepting parameter values in Bayesian estimation".
    `relative` says that the ends are lifts; otherwise they are in units of the metric.
    """

    low: float
    high: float
    relative: bool = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"the region is {self.low} to {self.high}; both must be finite, low below high"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Belief about a treatment after the data, in the shape of the contrast.

    `mean` and `std_dev` are of the difference. `probability_to_beat` and the losses follow the
    direction of the metric: better is higher or, for a metric that should fall, lower. The loss
    is what choosing the treatment is expected to cost, in units of the metric, `loss_of_control`
    what keeping the control is. With a null lift in the contrast, `probability_to_beat` is that
    of doing better than it: the chance to be not inferior by a margin; nothing else depends on it.
    `two_sided` is twice the belief in the less likely direction: below alpha exactly when the
    credible sets exclude zero, or the null lift. `within_region` is the mass of the region, if
    one was given. Where `gap` is not NONE nothing is known; `lift_gap` is the same for the lift.
    The posterior is normal, so its equal-tailed sets are also those of highest density.
    """

    mean: FloatArray
    std_dev: FloatArray
    probability_to_beat: FloatArray
    expected_loss: FloatArray
    difference: Interval
    lift: Interval
    gap: GapArray
    loss_of_control: FloatArray
    two_sided: FloatArray
    lift_gap: GapArray
    within_region: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Bayes:
    """Normal likelihood and a normal prior; credible sets of mass `1 - alpha`.

    Estimand: difference and lift of means. Assumes independent units and enough of them for the
    mean of each arm to be nearly normal with a known variance. Acting on it at every look is not
    free: see `touchstone_statistics.peeking`.
    """

    prior: Prior = LiftPrior()
    alpha: float = 0.05
    region: Region | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and below 1")

    def read(self, contrast: Contrast, increase_is_better: bool = True) -> Posterior:
        """Conjugate update of the difference.

        Source: Gelman et al. (2013), "Bayesian Data Analysis", equations 2.11 and 2.12. The
        prior on the lift becomes one on the difference by the size of the control mean. The
        expected loss is the unit normal loss of Raiffa and Schlaifer (1961), section 5.2.4.
        """
        gap = contrast.lift_spread_gap if self.prior.relative else contrast.spread_gap
        joint = _updated(contrast, self.prior, gap)
        std_dev = np.sqrt(joint.numerator_variance)
        gain = joint.numerator / std_dev
        beyond = _score(joint, contrast.null_lift)
        better = beyond if increase_is_better else -beyond
        losses = unit_loss(gain) * std_dev, unit_loss(-gain) * std_dev
        critical = np.full(gain.shape, -special.ndtri(self.alpha / 2))
        return Posterior(
            mean=joint.numerator,
            std_dev=std_dev,
            probability_to_beat=np.asarray(special.ndtr(better)),
            expected_loss=losses[0] if increase_is_better else losses[1],
            difference=around(joint.numerator, critical * std_dev, Side.TWO_SIDED),
            lift=fieller(joint, critical, Side.TWO_SIDED),
            gap=gap,
            loss_of_control=losses[1] if increase_is_better else losses[0],
            two_sided=np.asarray(2.0 * special.ndtr(-np.abs(beyond))),
            lift_gap=contrast.lift_spread_gap,
            within_region=None if self.region is None else _inside(joint, self.region),
        )


def unit_loss(gain: FloatArray) -> FloatArray:
    """E[(-X)+] for a normal X of mean `gain` and variance 1; never negative.

    Source: Raiffa and Schlaifer (1961), section 5.2.4: phi(g) - g Phi(-g). Where g is large the two
    cancel; there Mills' ratio M = Phi(-g) / phi(g) has the answer phi (1 - g M), whose bracket is
    taken from its asymptotic series (Abramowitz and Stegun 1964, 26.2.12).
    """
    density = np.exp(-0.5 * gain**2) / np.sqrt(2.0 * np.pi)
    plain = density - gain * special.ndtr(-gain)
    far = 1.0 / np.maximum(gain, 25.0) ** 2
    series = density * far * (1.0 - far * (3.0 - far * (15.0 - far * 105.0)))
    return np.asarray(np.where(gain > 25.0, series, np.maximum(plain, 0.0)))


def _updated(contrast: Contrast, prior: Prior, gap: GapArray) -> Fraction:
    """Joint posterior of the difference and the size of the control mean, flat in the latter.

    The normal prior moves the difference; the control mean follows by its regression on it
    (conditional normal, Gelman et al. 2013, equation 3.3). So the credible set of the lift
    excludes zero exactly when that of the difference does.
    """
    plain, control = replace(contrast, null_lift=0.0), contrast.control
    known = gap == 0
    variance = np.where(known, plain.variance, 1.0)
    difference = np.where(known, plain.difference, 0.0)
    centre = np.where(known, control.value, 1.0)
    prior_mean, prior_variance = prior.of_difference(centre)
    weight = prior_variance / (prior_variance + variance)
    mean = prior_mean + weight * (difference - prior_mean)
    shared = np.where(known, plain.control_covariance, 0.0)
    slope = shared / variance
    moved = centre + slope * (mean - difference)
    sign = np.where(moved < 0, -1.0, 1.0)
    return Fraction(
        numerator=mean,
        denominator=np.abs(moved),
        numerator_variance=weight * variance,
        denominator_variance=control.variance - slope * shared * (1.0 - weight),
        covariance=sign * weight * shared,
    )


def _score(joint: Fraction, lift: FloatArray | float) -> FloatArray:
    """How many standard deviations the difference is above `lift` times the control."""
    above = joint.numerator - lift * joint.denominator
    variance = (
        joint.numerator_variance
        - 2.0 * lift * joint.covariance
        + np.square(lift) * joint.denominator_variance
    )
    return np.asarray(above / np.sqrt(variance))


def _inside(joint: Fraction, region: Region) -> FloatArray:
    """Mass between the ends of a region; from whichever tail keeps its digits."""
    if region.relative:
        over_low, over_high = _score(joint, region.low), _score(joint, region.high)
    else:
        std_dev = np.sqrt(joint.numerator_variance)
        over_low = (joint.numerator - region.low) / std_dev
        over_high = (joint.numerator - region.high) / std_dev
    upper = special.ndtr(over_low) - special.ndtr(over_high)
    lower = special.ndtr(-over_high) - special.ndtr(-over_low)
    return np.maximum(np.where(over_low + over_high > 0, lower, upper), 0.0)
