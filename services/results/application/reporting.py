"""From what was seen to a report: each metric by itself, then all of them together."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from touchstone_statistics.health import sample_ratio

from services.results.application.observing import Observed
from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan, StoredPlan
from services.results.domain.choice import Choice, Reason, Traffic, choose, require_end
from services.results.domain.look import Look, LookKey
from services.results.domain.measure import Measure
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.beliefs import Believing, CountedBelief, Prior
from services.results.domain.reading.deciding import Standing, decisions
from services.results.domain.reading.families import correct
from services.results.domain.reading.looking import Looking, Place
from services.results.domain.reading.measured import all_units, measured
from services.results.domain.reading.novelty import CourseOfEffect, read_course
from services.results.domain.reading.report import (
    Asked,
    ExperimentReport,
    Failure,
    How,
    InSpan,
    MetricReport,
    Settled,
    Span,
)
from services.results.domain.reading.revenue import not_revenue, read_revenue
from services.results.domain.reading.rules import Rule
from services.results.domain.reading.single import report_metric
from services.results.domain.reading.single_look import at_any_look
from services.results.domain.reading.together import Asking, answered, every
from shared.errors import DomainError
from shared.lake.watermark import ConsistencyToken

_LOG = logging.getLogger("touchstone.results")


@dataclass(frozen=True, slots=True)
class InSpanOf:
    """Metric number `index` in a span of days: its measure and what was seen of it."""

    index: int
    span: Span
    measure: Measure
    seen: tuple[Observation, int] | Failure


@dataclass(frozen=True, slots=True)
class Beside:
    """A further measure of a metric and what was seen of it; `measure` is None for a metric that
    it does not fit.
    """

    measure: Measure | None
    seen: tuple[Observation, int] | Failure | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a report is a function of, besides how it is read."""

    plan: ExperimentPlan
    stored: StoredPlan
    asked: tuple[Asked, ...]
    observed: Observed
    kept: Mapping[LookKey, Sequence[Look]]
    spans: tuple[InSpanOf, ...] = ()
    courses: tuple[Beside, ...] = ()
    """One a metric where spans were asked for: all of them at once."""
    revenues: tuple[Beside, ...] = ()
    """One a metric where the posterior of revenue was asked for."""
    choice: Choice = field(init=False)
    """The rule of record, which follows from the rest."""

    def __post_init__(self) -> None:
        base = self.observed.base
        read = ConsistencyToken.decode(base.cut.token).position if base.cut.token else 0
        taken = [
            look for looks in self.kept.values() for look in looks if look.cut.position <= read
        ]
        traffic = Traffic(sum(base.units), base.cut.data_time or base.cut.commit_time)
        found = choose(self.stored.plan, self.plan, taken, traffic)
        object.__setattr__(self, "choice", found)


@dataclass(frozen=True, slots=True)
class Terms:
    """How it is read: error probability, methods beside the plan's, belief, and where looks go.

    `learned` has priors of single metrics in place of `prior`.
    """

    alpha: float
    others: tuple[AnalysisMethod, ...]
    prior: Prior
    place: Place
    learned: Mapping[str, Prior] = field(default_factory=dict)


def report(inputs: Inputs, terms: Terms) -> tuple[ExperimentReport, tuple[Look, ...]]:
    """The report, and the looks that have to be kept before it is shown.

    Refuses methods beside the one of record that go towards an end where there is none.
    """
    plan, base = inputs.plan, inputs.observed.base
    choice = inputs.choice
    require_end(terms.others, choice)
    analysis = replace(choice.plan, alpha=terms.alpha)
    # Numbers beyond a double become infinite and are reported as such, not warned about.
    with np.errstate(all="ignore"):
        found = _every(inputs, terms)
        metrics = tuple(zip(inputs.asked, _settled(inputs.asked, found, analysis), strict=True))
        check = sample_ratio(np.array(base.drawn, dtype=np.float64), plan.weights)
        standing = Standing(
            units=sum(base.units),
            data_time=base.cut.data_time or base.cut.commit_time,
            planned_end=plan.planned_end,
            sample_ratio_alert=check.alert,
            forecast=choice.reason is Reason.FORECAST,
        )
        whole = ExperimentReport(
            plan=plan,
            analysis=replace(inputs.stored, plan=choice.plan),
            choice=choice,
            alpha=terms.alpha,
            observation=base,
            metrics=metrics,
            sample_ratio=check,
            decisions=decisions(plan, analysis, metrics, standing),
            prior=terms.prior,
            spans=tuple(_spans(inputs, terms, index) for index in range(len(inputs.asked))),
            courses=tuple(_course(inputs, terms, one) for one in inputs.courses),
            revenues=tuple(_revenue(inputs, terms, n) for n in range(len(inputs.revenues))),
        )
    read = [one for one in found if isinstance(one, MetricReport)]
    return whole, tuple(look for one in read for look in one.looked.new)


def _every(inputs: Inputs, terms: Terms) -> list[MetricReport | Failure]:
    """Every metric; what goes wrong with one is its own."""
    places = range(len(inputs.asked))
    made = answered([_one(inputs, terms, index) for index in places])
    return [
        _failure(inputs.asked[index], one) if isinstance(one, Exception) else one
        for index, one in enumerate(made)
    ]


def _one(inputs: Inputs, terms: Terms, index: int) -> Asking[MetricReport | Failure]:
    asked, seen = inputs.asked[index], inputs.observed.of[index]
    if isinstance(seen, Failure):
        return seen
    how = _how(inputs, terms, asked)
    return (yield from report_metric(asked, seen, inputs.plan, how, inputs.kept))


def _failure(asked: Asked, error: Exception) -> Failure:
    if isinstance(error, DomainError):
        return Failure(error.code.value, error.reason, error.message)
    # A defect in the reading of one metric must not take the others away.
    metric = asked.metric.metric_id
    _LOG.error("the metric could not be read", extra={"metric": metric}, exc_info=error)
    message = "the metric could not be read; the log of the service says why"
    return Failure("INTERNAL", "INTERNAL", message)


def _spans(inputs: Inputs, terms: Terms, index: int) -> tuple[InSpan, ...]:
    how = _how(inputs, terms, inputs.asked[index])
    found = []
    for one in (span for span in inputs.spans if span.index == index):
        if isinstance(one.seen, Failure):
            found.append(InSpan(one.span, one.seen))
            continue
        observation, place = one.seen
        seen = measured(one.measure, place, observation)
        (beside,) = every([at_any_look(how, all_units(seen.contrast(inputs.plan)))])
        found.append(InSpan(one.span, (seen.arms[0], beside)))
    return tuple(found)


def _course(inputs: Inputs, terms: Terms, one: Beside) -> CourseOfEffect | Failure | None:
    if one.measure is None or one.seen is None or isinstance(one.seen, Failure):
        return one.seen if isinstance(one.seen, Failure) else None
    observation, place = one.seen
    try:
        return read_course(one.measure, place, observation, inputs.plan, terms.alpha)
    except DomainError as error:
        return Failure(error.code.value, error.reason, error.message)


def _revenue(inputs: Inputs, terms: Terms, index: int) -> CountedBelief | Failure:
    one, asked = inputs.revenues[index], inputs.asked[index]
    if one.measure is None or one.seen is None:
        return not_revenue(inputs.plan)
    if isinstance(one.seen, Failure):
        return one.seen
    observation, place = one.seen
    how = _how(inputs, terms, asked).believing
    return read_revenue(place, observation, inputs.plan, how, asked.increase)


def _how(inputs: Inputs, terms: Terms, asked: Asked) -> How:
    choice = inputs.choice
    analysis = choice.plan
    rule = rule_of(inputs.plan, analysis)
    return How(
        looking=Looking(
            rule=replace(rule, early=choice.early, over=choice.over),
            alpha=terms.alpha,
            place=replace(terms.place, metric_id=asked.metric.metric_id),
        ),
        others=terms.others,
        believing=Believing(
            terms.learned.get(asked.metric.metric_id, terms.prior),
            terms.alpha,
            analysis.practical_equivalence,
        ),
    )


def rule_of(plan: ExperimentPlan, analysis: AnalysisPlan) -> Rule:
    """The rule of record, with the share of all units that each treatment and the control have."""
    total, control = plan.weights.sum(), plan.weights[plan.control_index]
    shares = tuple(float((control + plan.weights[arm]) / total) for arm in plan.treatments)
    return Rule(analysis.rule, analysis, shares)


def _settled(
    asked: Sequence[Asked], found: Sequence[MetricReport | Failure], analysis: AnalysisPlan
) -> list[Settled | Failure]:
    """Families over the metrics that could be read."""
    read = [one for one in found if isinstance(one, MetricReport)]
    roles = [
        one.role for one, made in zip(asked, found, strict=True) if isinstance(made, MetricReport)
    ]
    corrected = iter(
        correct(
            [one.looked.reading.p_value for one in read],
            [one.looked.reading.gap for one in read],
            roles,
            analysis,
        )
    )
    settled = iter(every([one.settled(next(corrected)) for one in read]))
    return [one if isinstance(one, Failure) else next(settled) for one in found]
