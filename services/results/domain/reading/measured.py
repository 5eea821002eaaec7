"""The arms of one metric as estimates: of record, without covariates, without the cap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.adjust import Adjusted, adjust
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimand, Estimate, Mean, Ratio, estimate
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.moments import Moments
from touchstone_statistics.quantile import quantile_estimate

from services.results.domain.exact import Cell, Sums
from services.results.domain.measure import Column, ColumnRole, Measure, MetricKind
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.clusters import Clusters
from shared.errors import Code, DomainError, failed_precondition

VALUE_BITS = 53
"""The largest value of an event has so many bits of steps."""
MEAN_STEPS, SPREAD_STEPS = 2**20, 64
"""Numbers are lost where their mean and their standard deviation are fewer steps."""
_OF_VALUES = (MetricKind.MEAN, MetricKind.RATIO, MetricKind.QUANTILE)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One metric over slices and arms; estimates have the axes slices, arms.

    `plain` has no covariates; `adjusted` is None where none were used. `uncapped` is None where
    the metric has no cap. `totals` has the axes slices, arms and is the sum of the value column,
    None for a quantile, which has no sum. `clusters` is None where units count by themselves;
    otherwise all estimates are those over clusters, and `moments` are still over units.
    """

    measure: Measure
    moments: Moments
    plain: Estimate
    adjusted: Adjusted | None
    uncapped: Estimate | None
    totals: FloatArray | None
    clusters: Clusters | None = None

    @property
    def arms(self) -> Estimate:
        """The estimates of record."""
        return self.plain if self.adjusted is None else self.adjusted.joint.arms

    def contrast(self, plan: ExperimentPlan, null_lift: float = 0.0) -> Contrast:
        """Each treatment against the control, of record; axes slices, treatments."""
        if self.adjusted is not None:
            return self.adjusted.joint.contrast(plan.control_index, null_lift)
        if self.clusters is not None:
            return self.compared(of_record(self.measure), plan, null_lift)[1]
        return replace(plain_contrast(self.plain, plan), null_lift=null_lift)

    def compared(
        self, estimand: Estimand, plan: ExperimentPlan, null_lift: float = 0.0
    ) -> tuple[Estimate, Contrast]:
        """An estimand of the columns without covariates, and each treatment against the control."""
        if self.clusters is not None:
            joint = self.clusters.arms(estimand)
            return joint.arms, joint.contrast(plan.control_index, null_lift)
        arms = self.plain if self.measure.quantile is not None else estimate(self.moments, estimand)
        return arms, replace(plain_contrast(arms, plan), null_lift=null_lift)

    @property
    def uncapped_estimand(self) -> Estimand:
        """What is estimated of each arm without the cap."""
        return _estimand(self.measure, False)


def all_units(contrast: Contrast) -> Contrast:
    """The first slice, with one axis of treatments."""
    shape = contrast.difference.shape
    return replace(
        contrast,
        control=contrast.control[0],
        treatment=contrast.treatment[0],
        covariance=np.broadcast_to(contrast.covariance, shape)[0],
        null_lift=np.broadcast_to(contrast.null_lift, shape)[0],
        freedom=None if contrast.freedom is None else np.broadcast_to(contrast.freedom, shape)[0],
    )


def plain_contrast(arms: Estimate, plan: ExperimentPlan) -> Contrast:
    """Each treatment against the control, of independent arms."""
    control = plan.control_index
    return Contrast(arms[..., control : control + 1], arms[..., list(plan.treatments)])


def measured(measure: Measure, index: int, observation: Observation) -> Measured:
    """The arms of the measure that was number `index` of the question."""
    sums = observation.sums[index]
    _require_fine(measure, sums)
    if observation.clusters:
        if measure.quantile is not None:
            raise failed_precondition(
                "NOT_FOR_CLUSTERS",
                "a quantile is not read by clusters of units: leave the metric out, or take the "
                "clusters out of the analysis plan",
            )
        clusters = Clusters.of(observation.clusters[index])
        return _of_clusters(measure, sums.moments, sums.totals[..., 0], clusters)
    if measure.quantile is None:
        return of_moments(measure, sums.moments, sums.totals[..., 0])
    ranked = observation.ranked[index] if observation.ranked else None
    if ranked is None:
        raise ValueError("the observation has no ranked values of a quantile")
    arms = quantile_estimate(ranked.counts, measure.quantile)
    return Measured(measure, sums.moments, arms, None, None, None)


def _require_fine(measure: Measure, sums: Sums) -> None:
    """Refuses numbers that were lost beside a far larger value. Values are counted in steps of the
    largest of their event in the project that the metrics count, be it of a unit that is not here:
    one absurd event would otherwise make the numbers of all others alike, or 0, and nobody would
    know.
    """
    exponent = sums.exponents[0]
    if measure.kind not in _OF_VALUES or exponent == 0:
        return  # Counts, flags and times have steps of their own.
    if any(_is_lost(cell, exponent) for cell in sums.cells[0]):
        raise DomainError(
            Code.RESOURCE_EXHAUSTED,
            "LIMIT_EXCEEDED",
            f"an event {measure.event_name} of the project has a value of "
            f"{math.ldexp(1.0, exponent + VALUE_BITS - 1):.0e} or more, beside which the others "
            "are lost; leave it out by the filter of the metric, or erase the unit that it is of",
        )


def _is_lost(cell: Cell, exponent: int) -> bool:
    """Whether an arm's numbers differ by so few steps that rounding shows, in whole numbers."""
    units, total = cell.units, cell.sums[0]
    if units < 2 or abs(total) >= MEAN_STEPS * units:
        return False
    if total == 0 and exponent < 0:
        return False  # They may well be 0.
    spread = units * cell.products[0] - total * total
    return spread < SPREAD_STEPS**2 * units * (units - 1)


def of_moments(measure: Measure, moments: Moments, totals: FloatArray) -> Measured:
    """The arms of a measure from the moments of its columns; arms on the last axis."""
    own = of_record(measure)
    plain = estimate(moments, own)
    covariates = covariates_of(measure)
    adjusted = adjust(moments, own, covariates) if covariates else None
    if adjusted is not None and not adjusted.used.any():
        adjusted = None
    uncapped = None if measure.cap is None else estimate(moments, _estimand(measure, False))
    return Measured(measure, moments, plain, adjusted, uncapped, totals)


def _of_clusters(
    measure: Measure, moments: Moments, totals: FloatArray, clusters: Clusters
) -> Measured:
    own = of_record(measure)
    return Measured(
        measure=measure,
        moments=moments,
        plain=clusters.arms(own).arms,
        adjusted=clusters.adjusted(own, covariates_of(measure)),
        uncapped=None if measure.cap is None else clusters.arms(_estimand(measure, False)).arms,
        totals=totals,
        clusters=clusters,
    )


def of_record(measure: Measure) -> Estimand:
    """What is estimated of each arm: capped where the metric has a cap."""
    return _estimand(measure, measure.cap is not None)


def _estimand(measure: Measure, capped: bool) -> Estimand:
    if measure.kind is MetricKind.FUNNEL:
        return Mean(place(measure, Column(ColumnRole.STEP, len(measure.steps) - 1)))
    above = ColumnRole.CAPPED_VALUE if capped else ColumnRole.VALUE
    value = place(measure, Column(above))
    if measure.denominator is None:
        return Mean(value)
    below = ColumnRole.CAPPED_DENOMINATOR if capped else ColumnRole.DENOMINATOR
    return Ratio(value, place(measure, Column(below)))


def covariates_of(measure: Measure) -> Sequence[Estimand]:
    """What is known of a unit from before its exposure, as estimands of its columns.

    The covariate of a ratio is the same ratio before (Deng, Xu, Kohavi and Walker 2013).
    """
    columns = [c for c in measure.columns if c.role is ColumnRole.COVARIATE]
    places = [place(measure, column) for column in columns]
    if measure.denominator is None or not places:
        return [Mean(one) for one in places]
    above, below, *further = places
    return [Ratio(above, below), *(Mean(one) for one in further)]


def place(measure: Measure, column: Column) -> int:
    """Where a column of the measure stands among its columns."""
    return measure.columns.index(column)
