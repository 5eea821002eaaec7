"""What to do with each treatment, from the data that the readings of record come from."""

import datetime as dt
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.decide import (
    Decision,
    Levels,
    MetricVerdict,
    Situation,
    decide,
    levels,
)
from touchstone_statistics.findings import Findings, Goal, findings
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.inference import Reading
from touchstone_statistics.interval import Side
from touchstone_statistics.plan import Design, History, power

from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan
from services.results.domain.metric import MetricRole
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.families import ROLE_OF
from services.results.domain.reading.joining import concatenated, pieces, repeated
from services.results.domain.reading.looking import Looked
from services.results.domain.reading.planned import planned_rule
from services.results.domain.reading.report import Asked, Failure, Settled
from services.results.domain.reading.rules import Boundaries, Rule
from services.results.domain.reading.together import Asking, every


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the experiment stands: its units, the time of the data, its planned end, its health."""

    units: int
    data_time: dt.datetime | None
    planned_end: dt.datetime | None
    sample_ratio_alert: bool
    forecast: bool = False
    """The number of units is no plan: it was forecast from the planned end."""

    def at_end(self, plan: AnalysisPlan) -> bool:
        """Whether the planned end is reached, by number of units or else by time."""
        if plan.planned_units and self.units >= plan.planned_units:
            return True
        if plan.planned_units and not self.forecast:
            return False
        ends = plan.planned_end or self.planned_end
        return ends is not None and self.data_time is not None and self.data_time >= ends


@dataclass(frozen=True, slots=True)
class _AtLooks:
    """A one-sided test by the rule of record, at the looks that were taken."""

    rule: Rule
    boundaries: Boundaries
    level: float | FloatArray
    side: Side

    def read(self, contrast: Contrast) -> Reading:
        """See Inference."""
        return self.rule.read(contrast, self.boundaries, self.level, self.side)


@dataclass(frozen=True, slots=True, eq=False)
class _ToFind:
    """The tests behind the decisions on one metric."""

    looked: Looked
    goal: Goal
    shared: Levels

    @property
    def kind(self) -> Hashable:
        """See Wanted."""
        looked = self.looked
        own = looked.contrast.freedom is not None
        return (looked.rule, self.goal.increase_is_better, self.goal.margin, self.shared, own)

    @staticmethod
    def answers(alike: Sequence["_ToFind"]) -> list[Findings]:
        """See Wanted."""
        looked, first = [one.looked for one in alike], alike[0]
        rule = repeated(first.looked.rule, len(alike))
        boundaries = [taken for one in looked for taken in one.boundaries]
        found = findings(
            concatenated([one.contrast for one in looked]),
            first.goal,
            first.shared,
            lambda level, side: _AtLooks(rule, boundaries, level, side),
        )
        parts = pieces(found, [len(one.looks) for one in looked])
        return [replace(part, goal=one.goal) for part, one in zip(parts, alike, strict=True)]


def decisions(
    plan: ExperimentPlan,
    analysis: AnalysisPlan,
    metrics: Sequence[tuple[Asked, Settled | Failure]],
    standing: Standing,
) -> tuple[Decision, ...]:
    """One decision a treatment, by the rule of Schultzberg, Ankargren and Frånberg (2024).

    Its tests are one-sided, at levels that share alpha over primary metrics and treatments, so
    that a treatment is wrongly shipped with probability at most alpha, whatever correction the
    p-values of the report have. Guardrails without a margin, and secondary metrics, can only stand
    in the way by becoming worse.
    """
    at_end = standing.at_end(analysis)
    holds = at_end or analysis.rule is not AnalysisMethod.FIXED
    treatments = len(plan.treatments)
    roles = [ROLE_OF[asked.role] for asked, _ in metrics]
    shared = levels(roles, treatments, analysis.alpha, analysis.power)
    found = _found(metrics, shared)
    situation = Situation(at_end, standing.sample_ratio_alert)
    return tuple(
        decide(
            plan.arms[arm].variant,
            [
                _verdict(asked, one, tested, index, holds, shared)
                for (asked, one), tested in zip(metrics, found, strict=True)
            ],
            situation,
        )
        for index, arm in enumerate(plan.treatments)
    )


def _found(
    metrics: Sequence[tuple[Asked, Settled | Failure]], shared: Levels
) -> list[Findings | None]:
    def tests(asked: Asked, one: Settled | Failure) -> Asking[Findings | None]:
        if isinstance(one, Failure):
            return None
        goal = Goal(ROLE_OF[asked.role], asked.increase, asked.margin)
        found: Findings = yield _ToFind(one.report.looked, goal, shared)
        return found

    return every([tests(asked, one) for asked, one in metrics])


def _verdict(
    asked: Asked,
    one: Settled | Failure,
    tested: Findings | None,
    index: int,
    holds: bool,
    shared: Levels,
) -> MetricVerdict:
    metric = asked.metric.metric_id
    if isinstance(one, Failure) or tested is None:
        return MetricVerdict(metric, ROLE_OF[asked.role], holds, gap=Gap.NOT_APPLICABLE)
    powered = _powered(asked, one.report.looked, index, shared)
    verdict = tested.verdict(metric, holds, powered, (index,))
    watched = asked.role is MetricRole.GUARDRAIL and not asked.margin
    return replace(verdict, non_inferior=True) if watched else verdict


def _powered(asked: Asked, looked: Looked, index: int, shared: Levels) -> bool:
    """Whether what was planned for would be found by now: the minimum effect of a primary metric,
    the margin of a guardrail. True where nothing was planned.
    """
    control = looked.contrast.control
    place = index if control.value.size > 1 else 0
    wanted = asked.metric.definition.minimum_effect
    guard = asked.role is MetricRole.GUARDRAIL and asked.margin > 0
    if control.spread_gap[place] or not (guard or (asked.role is MetricRole.PRIMARY and wanted)):
        return True
    treated = looked.contrast.treatment
    units = (float(control.units[place]), float(treated.units[index]))
    spread = float(control.variance[place] * control.units[place])
    # Of a variance beyond a double nothing could be found.
    if min(units) < 2 or not np.isfinite([control.value[place], spread]).all():
        return False
    history = History.of_estimate(control[place])
    toward = 1.0 if asked.increase else -1.0
    design = Design(
        weights=units,
        alpha=shared.non_inferiority if guard else shared.superiority,
        side=Side.GREATER if asked.increase else Side.LESS,
        null_lift=-toward * asked.margin if guard else 0.0,
        rule=planned_rule(looked.rule.plan, looked.rule.shares[index]),
    )
    difference = 0.0 if guard else history.difference_of(toward * wanted)
    return power(history, difference, sum(units), design) >= shared.power
