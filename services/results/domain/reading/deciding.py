"""What to do with each treatment, from the readings of record."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from touchstone_statistics.decide import Decision, MetricVerdict, Situation, decide, levels
from touchstone_statistics.gaps import Gap
from touchstone_statistics.inference import Reading

from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.families import ROLE_OF
from services.results.domain.reading.report import Asked, Failure, Settled


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the experiment stands: its units, the time of the data, its planned end, its health."""

    units: int
    data_time: dt.datetime | None
    planned_end: dt.datetime | None
    sample_ratio_alert: bool

    def at_end(self, plan: AnalysisPlan) -> bool:
        """Whether the planned end is reached, by number of units or else by time."""
        if plan.planned_units:
            return self.units >= plan.planned_units
        ends = plan.planned_end or self.planned_end
        return ends is not None and self.data_time is not None and self.data_time >= ends


def decisions(
    plan: ExperimentPlan,
    analysis: AnalysisPlan,
    metrics: Sequence[tuple[Asked, Settled | Failure]],
    standing: Standing,
) -> tuple[Decision, ...]:
    """One decision a treatment, by the rule of Schultzberg, Ankargren and Frånberg (2024).

    A primary metric is superior when its corrected comparison is rejected in the right direction;
    the correction of the plan decides what that is worth. Guardrails without a margin and
    secondary metrics can only stand in the way by deteriorating.
    """
    at_end = standing.at_end(analysis)
    holds = at_end or analysis.rule is not AnalysisMethod.FIXED
    worse = _deteriorated_at(analysis, metrics, len(plan.treatments))
    found = []
    for index, arm in enumerate(plan.treatments):
        verdicts = [
            _failed(asked, holds)
            if isinstance(one, Failure)
            else _verdict(asked, one, index, holds, worse[asked.metric.metric_id])
            for asked, one in metrics
        ]
        situation = Situation(at_end, standing.sample_ratio_alert)
        found.append(decide(plan.arms[arm].variant, verdicts, situation))
    return tuple(found)


def _deteriorated_at(
    analysis: AnalysisPlan,
    metrics: Sequence[tuple[Asked, Settled | Failure]],
    treatments: int,
) -> dict[str, Reading]:
    """Every metric read at the level of the tests for deterioration.

    These tests are one-sided; a two-sided interval of twice the level has the same end.
    """
    read = [(asked, one) for asked, one in metrics if isinstance(one, Settled)]
    roles = [ROLE_OF[asked.role] for asked, _ in read]
    if not read:
        return {}
    level = levels(roles, treatments, analysis.alpha, analysis.power).deterioration
    return {
        asked.metric.metric_id: one.report.looked.at_level(
            one.corrected.level * 0.0 + min(2.0 * level, 0.5)
        )
        for asked, one in read
    }


def _verdict(asked: Asked, one: Settled, index: int, holds: bool, worse: Reading) -> MetricVerdict:
    report = one.report
    gap = Gap(int(report.looked.reading.gap[index]))
    rises = bool(report.looked.contrast.difference[index] > 0)
    better = rises is asked.increase
    below = bool(worse.difference.excludes(0.0)[index])
    guarded = report.guarded
    passes = guarded is not None and bool(
        guarded.p_value[index] < report.looked.rule.plan.alpha and not guarded.gap[index]
    )
    # Without a margin a guardrail is only watched for getting worse.
    watched = not asked.margin
    return MetricVerdict(
        metric=asked.metric.metric_id,
        role=ROLE_OF[asked.role],
        holds=holds,
        superior=bool(one.corrected.rejected[index]) and better and gap is Gap.NONE,
        non_inferior=watched or passes,
        deteriorated=below and not better and gap is Gap.NONE,
        gap=gap,
    )


def _failed(asked: Asked, holds: bool) -> MetricVerdict:
    return MetricVerdict(
        metric=asked.metric.metric_id,
        role=ROLE_OF[asked.role],
        holds=holds,
        gap=Gap.NOT_APPLICABLE,
    )
