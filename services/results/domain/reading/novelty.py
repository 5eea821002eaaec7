"""How an effect changes with the days since a unit was first exposed."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.estimand import Estimand, Mean, Ratio
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.moments import Moments
from touchstone_statistics.novelty import Change, Slope, TimedEffects, change, slope

from services.results.domain.measure import (
    Aggregation,
    Column,
    ColumnRole,
    Days,
    Measure,
    MetricKind,
)
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.clusters import Clusters
from services.results.domain.reading.measured import place
from shared.errors import failed_precondition

KINDS = (MetricKind.PROPORTION, MetricKind.MEAN, MetricKind.RATIO)
ADDED_UP = (Aggregation.SUM, Aggregation.COUNT, Aggregation.DISTINCT_DAYS)


@dataclass(frozen=True, slots=True, eq=False)
class CourseOfEffect:
    """The effects of one metric in spans of days, of the same units in all of them.

    Arrays of slope and change have one axis of treatments. With `per_day` the number of a unit in a
    span was divided by its days. `units` are those for which the last span is over.
    """

    slope: Slope
    change: Change
    per_day: bool
    units: tuple[int, ...]


def course_measure(measure: Measure, spans: Sequence[Days]) -> Measure | None:
    """The measure in all spans at once, of units for which all are over; None for fewer than two
    spans and for a kind that is not a share, a mean or a ratio.
    """
    if len(spans) < 2 or measure.kind not in KINDS:
        return None
    return replace(
        measure,
        delay=dt.timedelta(0),
        window=dt.timedelta(days=max(span.last_day for span in spans)),
        complete_only=True,
        lookback=None,
        covariates=(),
        cap=None,
        spans=tuple(spans),
    )


def read_course(
    measure: Measure, index: int, seen: Observation, plan: ExperimentPlan, alpha: float
) -> CourseOfEffect:
    """The slope of the effects over the days, at one look: Novelty is a slope towards zero.

    The same units are in all spans, so their effects covary: the moments hold by how much. Raises
    FAILED_PRECONDITION where clusters hold several arms.
    """
    per_day = measure.kind is MetricKind.MEAN and measure.aggregation in ADDED_UP
    days = np.array([one.last_day - one.first_day + 1.0 for one in measure.spans])
    effects = _effects(
        _of_arms(measure, index, seen), plan, days if per_day else np.ones_like(days)
    )
    middle = np.array([(one.first_day + one.last_day) / 2.0 for one in measure.spans])
    return CourseOfEffect(
        slope=slope(effects, middle, alpha),
        change=change(effects),
        per_day=per_day,
        units=tuple(cell.units for cell in seen.sums[index].cells[0]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Arms:
    """Moments of every arm, and what is estimated of them in each span."""

    moments: Moments
    estimands: Sequence[Estimand]


def _of_arms(measure: Measure, index: int, seen: Observation) -> _Arms:
    estimands = [_estimand(measure, span) for span in range(len(measure.spans))]
    if not seen.clusters:
        return _Arms(seen.sums[index].moments[0], estimands)
    clusters = Clusters.of(seen.clusters[index])
    if clusters.is_mixed:
        raise failed_precondition(
            "NOT_FOR_CLUSTERS",
            "the course of an effect is not read where clusters have units of several arms",
        )
    return _Arms(clusters.by_arm[0], [clusters.ratio_of(one) for one in estimands])


def _estimand(measure: Measure, span: int) -> Estimand:
    above = place(measure, Column(ColumnRole.SPAN, span))
    if measure.denominator is None:
        return Mean(above)
    return Ratio(above, place(measure, Column(ColumnRole.SPAN_DENOMINATOR, span)))


def _effects(arms: _Arms, plan: ExperimentPlan, days: FloatArray) -> TimedEffects:
    """Effects of each treatment, spans on the last axis, with their covariance g S g' / n."""
    moments = arms.moments
    found = [estimand.evaluate(moments.mean) for estimand in arms.estimands]
    value = np.stack([one[0] for one in found], axis=-1) / days
    gradient = np.stack([one[1] for one in found], axis=-2) / days[:, None]
    spread = np.einsum("aik,akl,ajl->aij", gradient, moments.covariance, gradient)
    spread /= np.maximum(moments.units, 1.0)[:, None, None]
    missing = np.stack([one[2] for one in found], axis=-1)
    few = np.where(moments.units < 1, Gap.NO_UNITS, Gap.ONE_UNIT)[:, None]
    missing = np.where((moments.units < 2)[:, None], few, missing)
    control, treated = plan.control_index, list(plan.treatments)
    covariance = spread[treated] + spread[control]
    flat = np.where(np.diagonal(covariance, axis1=-2, axis2=-1) <= 0, Gap.ZERO_VARIANCE, Gap.NONE)
    gap = np.where(missing[control] > 0, missing[control], missing[treated])
    gap = np.where(gap > 0, gap, flat).astype(np.uint8)
    return TimedEffects(value[treated] - value[control], covariance, gap)
