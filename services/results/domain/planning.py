"""What an experiment would need and could find, from what units did before."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.decide import levels
from touchstone_statistics.detection import AtHorizon, AtLooks, PlannedTest, Rule, anytime
from touchstone_statistics.family import Role
from touchstone_statistics.gaps import Gap
from touchstone_statistics.interval import Side
from touchstone_statistics.plan import (
    Design,
    Detectable,
    History,
    NotReachable,
    Obstacle,
    Running,
    Size,
    detectable,
    running_time,
    sample_size,
    smallest_margin,
)

from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.measure import MetricKind
from services.results.domain.metric import Direction, Metric, MetricRole
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.measured import Measured, measured
from shared.filters.filter import Filter

MOST_DAYS = 49
WEEK = 7
_SHARES = (MetricKind.PROPORTION, MetricKind.FUNNEL, MetricKind.RETENTION)
_ROLE_OF = {
    MetricRole.PRIMARY: Role.PRIMARY,
    MetricRole.SECONDARY: Role.SECONDARY,
    MetricRole.GUARDRAIL: Role.GUARDRAIL,
}


@dataclass(frozen=True, slots=True)
class Population:
    """Units of a type from their first event of a name within a span on, its end left out."""

    unit_type: str
    event_name: str
    filter: Filter | None
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, slots=True)
class Past:
    """What was seen of the units that stand for those to come; `units_per_day` has no gaps."""

    plan: ExperimentPlan
    observation: Observation
    units_per_day: tuple[int, ...]

    @property
    def later_units_per_day(self) -> float:
        """The mean of the last week, so that no single day stands for all to come."""
        last = self.units_per_day[-WEEK:]
        return sum(last) / len(last) if last else 0.0

    @property
    def arriving(self) -> tuple[float, ...]:
        """New units of each coming day; the last entry goes on for ever."""
        return (*map(float, self.units_per_day), self.later_units_per_day)

    def units_in(self, days: int) -> int:
        """New units in the first days."""
        known = self.units_per_day[:days]
        return int(sum(known) + max(days - len(known), 0) * self.later_units_per_day)


@dataclass(frozen=True, slots=True)
class Split:
    """How the experiment is to be split and read; the control is the first of `weights`."""

    weights: tuple[int, ...] = (1, 1)
    method: AnalysisMethod = AnalysisMethod.GROUP_SEQUENTIAL
    looks: int = 28
    alpha: float = 0.05
    power: float = 0.8

    @property
    def rule(self) -> Rule:
        """When the planned test rejects."""
        match self.method:
            case AnalysisMethod.FIXED:
                return AtHorizon()
            case AnalysisMethod.ANYTIME:
                return anytime()
            case AnalysisMethod.HYBRID:
                return HalfAtHorizon()
            case AnalysisMethod.GROUP_SEQUENTIAL:
                return AtLooks(self.looks)


@dataclass(frozen=True, slots=True)
class HalfAtHorizon:
    """The test at the end of a hybrid, which has half of alpha; what the looks before it find with
    the other half comes on top.
    """

    def power(self, expected_z: float, test: PlannedTest) -> float:
        """See Rule."""
        return AtHorizon().power(expected_z, replace(test, alpha=test.alpha / 2.0))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found: a lift, for metrics that state none, or anything with these units.

    0 is not asked.
    """

    lift: float = 0.0
    units: int = 0


@dataclass(frozen=True, slots=True)
class Needed:
    """Units and days for a lift; one or both may have no answer."""

    lift: float
    size: Size | NotReachable
    running: Running | NotReachable


@dataclass(frozen=True, slots=True)
class Forecast:
    """One metric: `history` is None where it tells nothing, `needed` and `found` where nothing was
    asked. `found` is a margin for a guardrail that has one.
    """

    metric: Metric
    units: int
    history: History | None
    design: Design
    needed: Needed | None
    found: Detectable | float | NotReachable | None


def forecasts(
    metrics: Sequence[Metric], past: Past, split: Split, wanted: Wanted
) -> list[Forecast]:
    """Every metric with the level and the power that the rule of decision gives it.

    Levels are those of `decide.levels` (Schultzberg, Ankargren and Frånberg 2024), two-sided where
    a metric may move either way.
    """
    return [
        _forecast(metric, _known(metric, index, past), design_of(metric, metrics, split), wanted)
        for index, metric in enumerate(metrics)
    ]


def design_of(metric: Metric, metrics: Sequence[Metric], split: Split) -> Design:
    """How one metric is tested among the others."""
    definition = metric.definition
    roles = [_ROLE_OF[one.definition.role] for one in metrics]
    treatments = len(split.weights) - 1
    same = sum(one.definition.role is definition.role for one in metrics)
    power = levels(roles, treatments, split.alpha, split.power).power
    design = Design(tuple(map(float, split.weights)), split.alpha, power, rule=split.rule)
    if definition.role is not MetricRole.GUARDRAIL:
        return replace(design, comparisons=same * treatments)
    design = replace(design, comparisons=treatments)
    if not definition.margin:
        return design
    rising = definition.direction is Direction.INCREASE
    margin = -definition.margin if rising else definition.margin
    return replace(design, side=Side.GREATER if rising else Side.LESS, null_lift=margin)


def _known(metric: Metric, index: int, past: Past) -> tuple[int, History | None]:
    """What is known of the metric, and of how many units.

    The variance of a quantile follows from the density of the values around it (Bloch and Gastwirth
    1968), which more units do not change.
    """
    found = measured(metric.definition.measure, index, past.observation)
    arm = found.plain[0, past.plan.control_index]
    units = int(arm.units)
    unknown = Gap(int(arm.spread_gap)) not in (Gap.NONE, Gap.ZERO_VARIANCE) or units < 2
    if unknown or not np.isfinite([arm.value, arm.variance * units]).all():
        return units, None
    history = History(
        mean=float(arm.value),
        variance=float(arm.variance) * units,
        units_per_day=past.arriving,
        r_squared=_explained(found),
        binary=metric.definition.kind in _SHARES,
    )
    return units, history


def _explained(found: Measured) -> float:
    if found.adjusted is None:
        return 0.0
    return min(max(float(found.adjusted.r_squared[0]), 0.0), 1.0 - 1e-9)


def _forecast(
    metric: Metric, known: tuple[int, History | None], design: Design, wanted: Wanted
) -> Forecast:
    units, history = known
    if history is None:
        return Forecast(metric, units, None, design, None, None)
    needed = _needed(metric, history, design, wanted)
    found = _found(history, design, wanted.units) if wanted.units else None
    return Forecast(metric, units, history, design, needed, found)


def _needed(metric: Metric, history: History, design: Design, wanted: Wanted) -> Needed | None:
    if design.null_lift:
        lift, difference = design.null_lift, 0.0
    else:
        lift = metric.definition.minimum_effect or wanted.lift
        if metric.definition.direction is Direction.DECREASE:
            lift = -lift
        difference = history.difference_of(lift)
    if not lift:
        return None
    if history.mean == 0.0:
        vague = NotReachable(Obstacle.CONTROL_TOO_VAGUE)
        return Needed(lift, vague, vague)
    size = sample_size(history, difference, design)
    return Needed(lift, size, running_time(history, difference, design))


def _found(history: History, design: Design, units: int) -> Detectable | float | NotReachable:
    if design.null_lift:
        return smallest_margin(history, float(units), design)
    return detectable(history, float(units), design)
