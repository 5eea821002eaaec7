"""Normal posterior of a contrast: chance to beat the control, expected loss, credible sets."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray, GapArray
from touchstone_statistics.interval import Fraction, Interval, Side, around, fieller


@dataclass(frozen=True, slots=True)
class LiftPrior:
    """Normal prior belief about a lift before any data, the same for each treatment.

    0 and 0.3 say: most changes do little, and two thirds of them move a metric by less than
    thirty per cent. A flat prior would call 46 % of A/A tests decided within 28 daily looks.
    """

    mean: float = 0.0
    std_dev: float = 0.3

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and np.isfinite(self.std_dev) and self.std_dev > 0):
            raise ValueError(
                f"the prior has mean {self.mean} and standard deviation {self.std_dev}; "
                "both must be finite and the latter above zero"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Belief about a treatment after the data, in the shape of the contrast.

    `probability_to_beat` and `expected_loss` follow the direction of the metric: better is
    higher or, for a metric that should fall, lower. The loss is what choosing the treatment
    is expected to cost, in units of the metric. Where `gap` is not NONE nothing is known.
    """

    mean: FloatArray
    std_dev: FloatArray
    probability_to_beat: FloatArray
    expected_loss: FloatArray
    difference: Interval
    lift: Interval
    gap: GapArray


@dataclass(frozen=True, slots=True)
class Bayes:
    """Normal likelihood and a normal prior on the lift; credible sets of mass `1 - alpha`."""

    prior: LiftPrior = LiftPrior()
    alpha: float = 0.05

    def read(self, contrast: Contrast, increase_is_better: bool = True) -> Posterior:
        """Conjugate update of the difference.

        Source: Gelman et al. (2013), "Bayesian Data Analysis", equations 2.11 and 2.12. The
        prior on the lift becomes one on the difference by the size of the control mean. The
        expected loss is the unit normal loss of Raiffa and Schlaifer (1961), section 5.2.4.
        """
        gap = contrast.lift_spread_gap
        size = np.where(gap == 0, np.abs(contrast.control.value), 1.0)
        variance = np.where(gap == 0, contrast.variance, 1.0)
        prior_mean = (self.prior.mean - contrast.null_lift) * size
        prior_variance = (self.prior.std_dev * size) ** 2
        weight = prior_variance / (prior_variance + variance)
        mean = prior_mean + weight * (contrast.difference - prior_mean)
        std_dev = np.sqrt(weight * variance)
        gain = mean / std_dev if increase_is_better else -mean / std_dev
        loss = std_dev * np.exp(-0.5 * gain**2) / np.sqrt(2 * np.pi) - (
            std_dev * gain * special.ndtr(-gain)
        )
        critical = np.full(mean.shape, -special.ndtri(self.alpha / 2))
        return Posterior(
            mean=mean,
            std_dev=std_dev,
            probability_to_beat=np.asarray(special.ndtr(gain)),
            expected_loss=np.maximum(loss, 0.0),
            difference=around(mean, critical * std_dev, Side.TWO_SIDED),
            lift=fieller(_posterior_fraction(contrast, mean, weight), critical, Side.TWO_SIDED),
            gap=gap,
        )


def _posterior_fraction(contrast: Contrast, mean: FloatArray, weight: FloatArray) -> Fraction:
    """Joint posterior of difference and control mean, flat in the latter.

    The normal prior moves the difference; the control mean follows by its regression on it
    (conditional normal, Gelman et al. 2013, equation 3.3). So the credible set of the lift
    excludes zero exactly when that of the difference does.
    """
    variance = np.where(contrast.spread_gap == 0, contrast.variance, 1.0)
    control = contrast.control
    slope = contrast.control_covariance / variance
    moved = control.value + slope * (mean - contrast.difference)
    sign = np.where(moved < 0, -1.0, 1.0)
    return Fraction(
        numerator=mean,
        denominator=np.abs(moved),
        numerator_variance=weight * variance,
        denominator_variance=control.variance
        - slope * contrast.control_covariance * (1.0 - weight),
        covariance=sign * weight * contrast.control_covariance,
        offset=contrast.null_lift,
    )
