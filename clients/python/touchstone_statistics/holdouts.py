"""What a campaign, a journey or a programme has done, measured by those who were kept out of it.

A control group takes part in nothing. Each treated wave is compared with it, and so are all
waves together: the rate, the difference, the lift, the ratio, and how much was gained in total.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimand, Estimate, estimate
from touchstone_statistics.family import Adjusted, Correction, Method, correct
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap, quotient
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interval import Fraction, Interval, Side, fieller
from touchstone_statistics.moments import Moments
from touchstone_statistics.proportions import Proportions
from touchstone_statistics.shared_control import Rivals, loadings, simultaneous


@dataclass(frozen=True, slots=True)
class Reach:
    """How waves are read: level, side, and the correction for there being several.

    Without a `method` the waves are corrected by what they share, the control group
    (Dunnett 1955), which is the sharpest that keeps all intervals true at once. With `rates` the
    metrics are shares of units, and small cells are read by the score test.
    """

    alpha: float = 0.05
    side: Side = Side.TWO_SIDED
    method: Method | None = None
    rates: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 0.5:
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and at most 0.5")

    def inference(self, alpha: float | FloatArray) -> Fixed | Proportions:
        return Proportions(alpha, self.side) if self.rates else Fixed(alpha, self.side)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Waves against one control; arrays have the waves on the last axis.

    `reading` has p-values of each wave alone, and intervals at the level that the correction
    leaves, so that they exclude no effect exactly when `adjusted.p_value` is below alpha.
    `ratio` is the mean of a wave over that of the control ("x1.96"), one more than the lift; its
    interval has the gap of the lift's, as rates may bound a ratio that has no estimate;
    `gained` is the difference times the units of the wave: what would not have been without it.
    """

    control: Estimate
    waves: Estimate
    reading: Reading
    adjusted: Adjusted
    ratio: FloatArray
    ratio_interval: Interval
    ratio_gap: GapArray
    gained: FloatArray
    gained_interval: Interval


def evaluate(control: Estimate, waves: Estimate, reach: Reach = Reach()) -> Evaluation:
    """Compare each wave with the control group.

    `waves` has the waves on the last axis, in front of it any batch (metrics); `control` has a last
    axis of one. Estimands: the ratio and the difference of means, by Fieller (1954) and Welch
    (1947), or by the score test for rates in small cells. Assumes that membership of the control
    group is random and lasting, that a wave is as random a part of the rest as the control, and
    independent units. A wave that chose its members by what they did is no longer comparable with
    the whole control group: give the control that would have been chosen, too.
    """
    contrast = Contrast(control, waves)
    alone = reach.inference(reach.alpha).read(contrast)
    if reach.method is None:
        rivals = Rivals(loadings(contrast), alone.gap == Gap.NONE, reach.side)
        adjusted = simultaneous(alone.p_value, alone.gap, rivals, reach.alpha)
    else:
        correction = Correction(reach.method, reach.alpha)
        adjusted = correct(alone.p_value, alone.gap, correction)
    reading = reach.inference(adjusted.alpha).read(contrast)
    # A ratio of means of different sign, or to a mean below zero, says nothing.
    negative = np.where(control.value < 0, Gap.NOT_APPLICABLE, Gap.NONE).astype(np.uint8)
    return Evaluation(
        control=control,
        waves=waves,
        reading=reading,
        adjusted=adjusted,
        ratio=1.0 + contrast.lift,
        ratio_interval=_shifted(reading.lift),
        ratio_gap=first_gap(contrast.lift_gap, np.broadcast_to(negative, reading.gap.shape)),
        gained=contrast.difference * waves.units,
        gained_interval=_scaled(reading.difference, waves.units),
    )


def pooled(waves: Moments, estimand: Estimand, axis: int = -1) -> Estimate:
    """All waves as one, with a last axis of one, to be evaluated like a wave.

    The waves must not share units; a unit of several waves belongs to the first.
    """
    merged = estimate(waves.total(axis), estimand)
    return merged[..., None]


def _shifted(interval: Interval) -> Interval:
    return Interval(1.0 + interval.low, 1.0 + interval.high, interval.shape)


def _scaled(interval: Interval, factor: FloatArray) -> Interval:
    # An open end stays open when there is nobody to be affected.
    low, high = (
        np.where(np.isfinite(end), np.where(np.isfinite(end), end, 0.0) * factor, end)
        for end in (interval.low, interval.high)
    )
    return Interval(low, high, interval.shape)


@dataclass(frozen=True, slots=True)
class Population:
    """What an effect is set against: how many units the change would reach if all had it, and
    the total of the metric that comes from everybody else.
    """

    eligible_units: float
    total_elsewhere: float

    def __post_init__(self) -> None:
        if not (self.eligible_units >= 0.0 and self.total_elsewhere >= 0.0):
            raise ValueError(
                f"eligible_units is {self.eligible_units} and total_elsewhere "
                f"{self.total_elsewhere}; neither may be negative"
            )

    @classmethod
    def of_experiment(cls, units: float, share: float, total: float, within: float) -> "Population":
        """From an experiment on a share of those eligible (0 < share <= 1).

        `units` and `within` are the units of all its arms and their total of the metric,
        `total` is that of everybody. Those eligible but not in the experiment are as good as
        its units.
        """
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share is {share}; it must be above 0 and at most 1")
        return cls(units / share, max(total - within / share, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class GlobalEffect:
    """An effect over everybody: `lift` of the whole total, and `coverage`, the share of that
    total which comes from those eligible. The lift is the coverage times the lift among them.
    """

    gained: FloatArray
    lift: FloatArray
    lift_interval: Interval
    coverage: FloatArray
    gap: GapArray


def global_effect(contrast: Contrast, population: Population, alpha: float = 0.05) -> GlobalEffect:
    """What the total of the metric would gain if all eligible units had the treatment.

    Estimand: N (mT - mC) / (E + N mC) with N eligible units and a total E elsewhere, which is
    taken as known. The totals of both arms at full exposure are X_T / (t p_T) and
    X_C / (t (1 - p_T)) for totals X in an experiment on a share t with treated share p_T.
    Interval by Fieller (1954), since numerator and denominator share the control mean: it
    excludes zero exactly when the test of equal means rejects.
    """
    n, control = population.eligible_units, contrast.control
    size = population.total_elsewhere + n * control.value
    shape = contrast.difference.shape
    known = contrast.spread_gap == Gap.NONE
    dof = np.where(known, contrast.dof, 1.0)
    fraction = Fraction(
        numerator=n * contrast.difference,
        denominator=np.broadcast_to(size, shape),
        numerator_variance=n**2 * contrast.variance,
        denominator_variance=np.broadcast_to(n**2 * control.variance, shape),
        covariance=np.broadcast_to(n**2 * contrast.control_covariance, shape),
    )
    critical = np.asarray(-special.stdtrit(dof, alpha / 2.0), dtype=np.float64)
    empty = np.where(size <= 0, Gap.ZERO_DENOMINATOR, Gap.NONE).astype(np.uint8)
    return GlobalEffect(
        gained=n * contrast.difference,
        lift=quotient(n * contrast.difference, np.broadcast_to(size, shape), 0.0),
        lift_interval=fieller(fraction, critical, Side.TWO_SIDED),
        coverage=np.broadcast_to(quotient(n * control.value, size, 0.0), shape),
        gap=first_gap(contrast.spread_gap, np.broadcast_to(empty, shape)),
    )
