"""Whether the data of an experiment can be trusted, and what it could show by now."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.exclusion import Exclusions, exclusions, largest_bias
from touchstone_statistics.gaps import FloatArray, Gap, NotEstimable
from touchstone_statistics.health import (
    SampleRatioByValue,
    Skewness,
    sample_ratio_by_value,
    skewness,
)
from touchstone_statistics.imbalance import Imbalance, imbalance
from touchstone_statistics.plan import (
    Design,
    Detectable,
    History,
    NotReachable,
    days_left,
    detectable,
    power,
)
from touchstone_statistics.sequential_ratio import SequentialRatio

from services.results.domain.analysis_plan import AnalysisPlan
from services.results.domain.measure import ColumnRole
from services.results.domain.metric import MetricRole
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.beliefs import is_share
from services.results.domain.reading.measured import Measured
from services.results.domain.reading.planned import planned_rule
from services.results.domain.reading.report import Asked

Known = float | NotEstimable


@dataclass(frozen=True, slots=True, eq=False)
class DimensionRatio:
    """The sample ratio in the values of a dimension; `places` are those of the slices."""

    name: str
    places: tuple[int, ...]
    found: SampleRatioByValue


@dataclass(frozen=True, slots=True)
class Outlook:
    """What could be found of one treatment by now."""

    detectable_lift: Known
    power: Known | None
    days_left: int | None


@dataclass(frozen=True, slots=True, eq=False)
class MetricHealth:
    """One metric: imbalance before the exposure, skewness, completeness, bias, outlook.

    `imbalance` is None without covariates, `skewness` for a quantile, `bias` where the metric has
    no bounds (one entry a treatment), `complete` where no unit has to wait.
    """

    asked: Asked
    imbalance: Imbalance | None
    skewness: Skewness | None
    complete: FloatArray | None
    bias: FloatArray | None
    outlook: tuple[Outlook, ...]


def sequential_p_value(plan: ExperimentPlan, units: Sequence[int]) -> Known:
    """One over the evidence against the weights as it is now, which holds at every look."""
    if np.count_nonzero(plan.weights) < 2:
        return NotEstimable(Gap.NOT_APPLICABLE)
    if not sum(units):
        return NotEstimable(Gap.NO_UNITS)
    return float(SequentialRatio(plan.weights).read(np.array(units, dtype=np.float64)).p_value)


def ratios_by_dimension(plan: ExperimentPlan, seen: Observation) -> tuple[DimensionRatio, ...]:
    """The sample ratio within every value of every dimension; none where arms were drawn for
    clusters, which values of units do not follow.
    """
    if seen.assigned:
        return ()
    names = dict.fromkeys(one.dimension for one in seen.slices[1:])
    made = []
    for name in names:
        places = tuple(i for i, one in enumerate(seen.slices) if i and one.dimension == name)
        units = np.array([seen.slices[place].units for place in places], dtype=np.float64)
        made.append(DimensionRatio(name, places, sample_ratio_by_value(units, plan.weights)))
    return tuple(made)


def excluded(seen: Observation) -> Exclusions:
    """Units that saw several variants, by the one that they saw first."""
    return exclusions(
        np.array(seen.units, dtype=np.float64), np.array(seen.multiply_exposed, dtype=np.float64)
    )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Units so far and how many come a day."""

    units: int
    per_day: float


def metric_health(
    asked: Asked,
    found: Measured,
    place: tuple[Observation, int],
    plans: tuple[ExperimentPlan, AnalysisPlan],
    traffic: Traffic,
) -> MetricHealth:
    """Everything about one metric; `place` is its observation and its number there."""
    (seen, index), (plan, analysis) = place, plans
    return MetricHealth(
        asked=asked,
        imbalance=_imbalance(found),
        skewness=_skewness(found, seen, index),
        complete=_complete(found, seen, index),
        bias=_bias(found, seen, plan),
        outlook=_outlook(asked, found, plan, analysis, traffic),
    )


def _imbalance(found: Measured) -> Imbalance | None:
    columns = [i for i, c in enumerate(found.measure.columns) if c.role is ColumnRole.COVARIATE]
    if not columns or (found.clusters is not None and found.clusters.is_mixed):
        return None
    arms = found.moments if found.clusters is None else found.clusters.by_arm
    return imbalance(arms[0].select(columns))


def _skewness(found: Measured, seen: Observation, index: int) -> Skewness | None:
    """Of the first column; the third moment follows from the exact sums of its cubes. None for a
    quantile, which has no mean that skewness could mislead.
    """
    if found.measure.quantile is not None:
        return None
    moments = found.moments[0]
    # In units of the standard deviation, whose third power may be beyond a double.
    variance = np.where(moments.covariance[..., 0, 0] > 0.0, 1.0, 0.0)
    return skewness(moments.units, variance, seen.sums[index].skewness[0] * variance)


def _complete(found: Measured, seen: Observation, index: int) -> FloatArray | None:
    if not seen.incomplete:
        return None
    waiting = np.array(seen.incomplete[index], dtype=np.float64)
    units = np.asarray(found.plain.units[0], dtype=np.float64)
    total = units + waiting
    return np.where(total > 0, units / np.maximum(total, 1.0), 1.0) if waiting.any() else None


def _bias(found: Measured, seen: Observation, plan: ExperimentPlan) -> FloatArray | None:
    """Of shares of units, which lie between 0 and 1 whatever was left out."""
    if not is_share(found) or not any(seen.multiply_exposed):
        return None
    order = [plan.control_index, *plan.treatments]
    share = excluded(seen).share[order]
    return largest_bias(found.plain.value[0][order], share, 0.0, 1.0)


def _outlook(
    asked: Asked,
    found: Measured,
    plan: ExperimentPlan,
    analysis: AnalysisPlan,
    traffic: Traffic,
) -> tuple[Outlook, ...]:
    """One entry a treatment; the design is that of two arms with their shares of all units.

    Variances are those seen so far, effects only those that were planned for: to wait for the
    effect that is seen would be peeking.
    """
    control = found.arms[0][plan.control_index]
    weights = plan.weights
    made = []
    for arm in plan.treatments:
        pair = weights[[plan.control_index, arm]]
        if control.spread_gap or not pair.all():
            gap = Gap(int(control.spread_gap)) if control.spread_gap else Gap.NOT_APPLICABLE
            made.append(Outlook(NotEstimable(gap), None, None))
            continue
        if not np.isfinite([control.value, control.variance * control.units]).all():
            made.append(Outlook(np.inf, None, None))
            continue
        part = float(pair.sum() / weights.sum())
        history = History.of_estimate(control, (traffic.per_day * part,))
        design = Design(
            weights=(float(pair[0]), float(pair[1])),
            alpha=analysis.alpha,
            power=analysis.power,
            comparisons=len(plan.treatments) if asked.role is MetricRole.PRIMARY else 1,
            rule=planned_rule(analysis, part),
        )
        made.append(_of_pair(asked, history, design, traffic.units * part))
    return tuple(made)


def _of_pair(asked: Asked, history: History, design: Design, units: float) -> Outlook:
    found = detectable(history, units, design) if units >= 4 else None
    known: Known = NotEstimable(Gap.TOO_FEW_UNITS)
    if isinstance(found, Detectable):
        known = NotEstimable(Gap.ZERO_CONTROL_MEAN) if found.lift is None else found.lift
    wanted = asked.metric.definition.minimum_effect
    if not wanted:
        return Outlook(known, None, None)
    difference = history.difference_of(wanted if asked.increase else -wanted)
    left = days_left(history, difference, design, units)
    return Outlook(
        known,
        power(history, difference, units, design),
        None if isinstance(left, NotReachable) else left.days,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """Everything that was checked of an experiment."""

    sequential_p_value: Known
    dimensions: tuple[DimensionRatio, ...]
    exclusions: Exclusions
    metrics: tuple[MetricHealth, ...]
    age: dt.timedelta | None
    failed: Mapping[str, str]
    """The metrics that could not be read, and why."""
