"""Compute what an experiment shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from touchstone_statistics.bayes import LiftPrior

from services.results.application.find_metric import get_metric
from services.results.application.observing import observe
from services.results.application.removals import removed_since
from services.results.application.reporting import Beside, Inputs, InSpanOf, Terms, report
from services.results.domain.analysis_plan import AnalysisMethod, StoredPlan
from services.results.domain.look import Cut, Look, LookKey
from services.results.domain.measure import Days
from services.results.domain.metric import Metric
from services.results.domain.observation import ExperimentPlan, Observation, Question
from services.results.domain.reading.beliefs import Prior
from services.results.domain.reading.learning import learned
from services.results.domain.reading.looking import Place
from services.results.domain.reading.novelty import course_measure
from services.results.domain.reading.report import Asked, ExperimentReport, Span, measure_of
from services.results.domain.reading.revenue import revenue_measure
from services.results.ports import (
    ExperimentSource,
    MetricReader,
    MetricStore,
    MomentsSource,
    PlanReader,
)
from shared.clock import Clock
from shared.errors import limit_exceeded, overloaded
from shared.identity.belonging import Stitching
from shared.lake.watermark import ConsistencyToken

MAX_METRICS = 200
ROUNDS = 5
"""So often a result is computed anew because somebody took a look meanwhile."""


@dataclass(frozen=True, slots=True)
class GetResults:
    """Which experiment, which metrics (none: its own), and how to read them.

    `alpha` None is that of the analysis plan; `others` are methods beside the plan's. With
    `as_of`, the watermark of earlier results, what was known then is shown again.
    """

    project: str
    experiment_id: str
    metric_ids: tuple[str, ...]
    alpha: float | None = None
    others: tuple[AnalysisMethod, ...] = ()
    as_of: str = ""
    dimensions: tuple[str, ...] = ()
    """None: those of the analysis plan."""
    spans: tuple[Span, ...] = ()
    """Spans of days since the first exposure in which metrics are also shown."""
    hurdle: bool = False
    """Whether the posterior of revenue is wanted, where a metric is one."""
    stitching: Stitching = Stitching.RETROACTIVE
    keep_looks: bool = True
    """Whether looks that are due are taken."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where experiments, plans, definitions and data come from, and what is believed of lifts
    where nothing else is said.
    """

    experiments: ExperimentSource
    plans: PlanReader
    metrics: MetricReader
    moments: MomentsSource
    clock: Clock
    prior: LiftPrior


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a report needs, of one cut of the event log."""

    inputs: Inputs

    def report(
        self, command: GetResults, sources: Sources
    ) -> tuple[ExperimentReport, tuple[Look, ...]]:
        """The report, and the looks that have to be kept before it is shown."""
        base = self.inputs.observed.base
        return report(self.inputs, _terms(command, self.inputs.stored, base, sources))


def prepare(command: GetResults, sources: Sources) -> Prepared:
    """Read plans, looks and definitions, and ask the event log; errors as for `asked_about`."""
    question, stored, asked = asked_about(command, sources)
    with sources.plans.read() as store:
        kept = store.looks(command.project, command.experiment_id)
    places = [
        (index, span, measure)
        for index, whole in enumerate(question.measures)
        for span in command.spans
        if (measure := span.of(whole)) is not None
    ]
    days = [Days(span.first_day, span.last_day) for span in command.spans]
    courses = [course_measure(whole, days) for whole in question.measures] if days else []
    revenues = [revenue_measure(whole) for whole in question.measures] if command.hurdle else []
    more = [measure for _, _, measure in places]
    more += [measure for measure in (*courses, *revenues) if measure is not None]
    observed = observe(replace(question, measures=(*question.measures, *more)), sources.moments)
    own = len(question.measures)
    seen = iter(observed.of[own:])
    return Prepared(
        Inputs(
            plan=question.plan,
            stored=stored,
            asked=asked,
            observed=replace(observed, of=observed.of[:own]),
            kept=kept,
            spans=tuple(InSpanOf(index, span, one, next(seen)) for index, span, one in places),
            courses=tuple(Beside(one, next(seen) if one else None) for one in courses),
            revenues=tuple(Beside(one, next(seen) if one else None) for one in revenues),
        )
    )


def asked_about(
    command: GetResults, sources: Sources
) -> tuple[Question, StoredPlan, tuple[Asked, ...]]:
    """What has to be asked of the event log, under which plan, and for which metrics.

    NOT_FOUND for an experiment or a metric that the project does not have; RESOURCE_EXHAUSTED for
    more metrics than one answer holds.
    """
    plan = sources.experiments.experiment(command.project, command.experiment_id)
    with sources.plans.read() as store:
        stored = store.current(command.project, command.experiment_id).for_design(plan)
    asked = _asked(command, plan, stored, sources)
    return _question(command, plan, stored, asked), stored, asked


def metric_ids(command: GetResults, sources: Sources) -> tuple[str, ...]:
    """The ids of the metrics that are wanted; errors as for `asked_about`."""
    _, _, asked = asked_about(command, sources)
    return tuple(one.metric.metric_id for one in asked)


def get_results(command: GetResults, sources: Sources) -> ExperimentReport:
    """Every metric of every arm, from one cut of the event log; takes the looks that are due.

    A metric that fails says why, and the others are there. Errors as for `prepare`. Says what the
    cut has lost since results were first read at it.
    """
    made = _computed(command, sources)
    token = made.observation.cut.token
    removed = removed_since(command.project, token, command.as_of, sources.plans, sources.moments)
    return replace(made, removed=removed)


def _computed(command: GetResults, sources: Sources) -> ExperimentReport:
    prepared = prepare(command, sources)
    for _ in range(ROUNDS):
        made, new = prepared.report(command, sources)
        inputs = prepared.inputs
        if (
            command.as_of
            or not command.keep_looks
            or not new
            or _keep(command, inputs, new, sources)
        ):
            return made
        # Somebody else took a look meanwhile: it counts for this one.
        stored, looks = _plan_and_looks(command, inputs.plan, sources)
        prepared = Prepared(replace(inputs, stored=stored, kept=looks))
    raise overloaded("others take looks at this experiment all the time; call again", 1.0)


def _plan_and_looks(
    command: GetResults, plan: ExperimentPlan, sources: Sources
) -> tuple[StoredPlan, Mapping[LookKey, Sequence[Look]]]:
    with sources.plans.read() as store:
        stored = store.current(command.project, command.experiment_id).for_design(plan)
        return stored, store.looks(command.project, command.experiment_id)


def _keep(command: GetResults, inputs: Inputs, new: Sequence[Look], sources: Sources) -> bool:
    """Keep new looks, unless the plan or the looks that they follow from have changed."""
    with sources.plans.begin() as store:
        store.lock(command.project, command.experiment_id)
        if store.current(command.project, command.experiment_id).version != inputs.stored.version:
            return False
        now = store.looks(command.project, command.experiment_id)
        if any(len(now.get(look.key, ())) != len(inputs.kept.get(look.key, ())) for look in new):
            return False
        store.add_looks(new)
        return True


def _asked(
    command: GetResults, plan: ExperimentPlan, stored: StoredPlan, sources: Sources
) -> tuple[Asked, ...]:
    with sources.metrics.read() as store:
        metrics = tuple(_wanted(command, plan, store))
    if len(metrics) > MAX_METRICS:
        raise limit_exceeded("metrics in one result", len(metrics), MAX_METRICS)
    return tuple(asked_of(metric, stored) for metric in metrics)


def asked_of(metric: Metric, stored: StoredPlan) -> Asked:
    """The metric with its role and margin as the plan has them, or else its definition."""
    own = stored.plan.of_metric(metric.metric_id)
    definition = metric.definition
    return Asked(
        metric,
        definition.role if own.role is None else own.role,
        definition.margin if own.margin is None else own.margin,
    )


def _wanted(command: GetResults, plan: ExperimentPlan, store: MetricStore) -> Iterator[Metric]:
    """The metrics asked for, else those of the experiment, else all that are not archived."""
    if wanted := command.metric_ids or plan.metric_ids:
        return (get_metric(command.project, metric, store) for metric in wanted)
    return iter(store.page(command.project, "", MAX_METRICS + 1, show_archived=False))


def _question(
    command: GetResults, plan: ExperimentPlan, stored: StoredPlan, asked: Sequence[Asked]
) -> Question:
    reduced = stored.plan.variance_reduction
    return Question(
        project=command.project,
        plan=plan,
        measures=tuple(measure_of(one, reduced) for one in asked),
        stitching=command.stitching,
        dimensions=command.dimensions or stored.plan.dimensions,
        as_of=command.as_of,
        multiple_exposures=stored.plan.multiple_exposures,
        clustering=stored.plan.clustering,
    )


def _terms(command: GetResults, stored: StoredPlan, base: Observation, sources: Sources) -> Terms:
    token = base.cut.token
    cut = ConsistencyToken.decode(token) if token else ConsistencyToken("", 0)
    place = Place(
        project=command.project,
        experiment_id=command.experiment_id,
        metric_id="",
        cut=Cut(cut.journal_id, cut.position),
        plan_version=stored.version,
        time=sources.clock.now(),
    )
    alpha = stored.plan.alpha if command.alpha is None else command.alpha
    prior = prior_of(stored, sources)
    return Terms(alpha, command.others, prior, place, _learned(stored, prior, place, sources))


def _learned(
    stored: StoredPlan, prior: Prior, place: Place, sources: Sources
) -> Mapping[str, Prior]:
    """Priors from experiments that had ended before the cut; none where the plan has its own."""
    if stored.plan.prior is not None:
        return {}
    with sources.plans.read() as store:
        finished = store.finished(place.project, place.cut)
    return learned(finished, place.experiment_id, prior)


def prior_of(stored: StoredPlan, sources: Sources) -> Prior:
    """What is believed of a lift: as the plan says, or else by default."""
    if stored.plan.prior is not None:
        return Prior(stored.plan.prior, "the analysis plan")
    return Prior(sources.prior, "the default of the service")
