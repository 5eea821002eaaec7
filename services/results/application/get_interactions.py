"""Say whether experiments that run at the same time act on each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.gaps import FloatArray

from services.results.application.find_metric import get_metric
from services.results.application.get_results import Sources
from services.results.application.removals import removed_since
from services.results.domain.metric import Metric
from services.results.domain.observation import DataCut, ExperimentPlan, Question
from services.results.domain.reading.crossing import Crossing, adjusted, cross
from services.results.domain.removed import Removed
from services.results.ports import CrossedSource, ExperimentCatalogue
from shared import errors
from shared.identity.belonging import Stitching

MOST_OTHERS = 10
"""So many other experiments are looked at, the newest first."""
MOST_VARIANTS = 40
"""Others with more variants are left out: their cells would be next to empty."""


@dataclass(frozen=True, slots=True)
class GetInteractions:
    """Of which experiment, by which metrics, with which error probability."""

    project: str
    experiment_id: str
    metric_ids: tuple[str, ...]
    alpha: float
    stitching: Stitching = Stitching.RETROACTIVE
    as_of: str = ""


@dataclass(frozen=True, slots=True)
class Beside:
    """Where other experiments and the units of both come from."""

    catalogue: ExperimentCatalogue
    crossed: CrossedSource


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Every other experiment; `adjusted` has their corrected p-values, experiments x metrics."""

    plan: ExperimentPlan
    alpha: float
    metrics: tuple[Metric, ...]
    crossings: tuple[Crossing, ...]
    adjusted: FloatArray
    left_out: int
    cut: DataCut
    removed: Removed | None


def get_interactions(command: GetInteractions, sources: Sources, beside: Beside) -> Interactions:
    """The experiment beside each other one that runs, from one cut of the event log.

    NOT_FOUND for an experiment or a metric that the project does not have, INVALID_ARGUMENT for a
    quantile, FAILED_PRECONDITION for an experiment that is read by clusters. Takes no look.
    """
    with sources.metrics.read() as store:
        metrics = tuple(get_metric(command.project, one, store) for one in command.metric_ids)
    for place, metric in enumerate(metrics):
        if metric.definition.measure.quantile is not None:
            raise errors.invalid(f"metrics[{place}]", metric.metric_id, "any but a quantile")
    plan = sources.experiments.experiment(command.project, command.experiment_id)
    with sources.plans.read() as plans:
        stored = plans.current(command.project, command.experiment_id).for_design(plan)
        if stored.plan.clustering is not None:
            raise errors.failed_precondition(
                "NOT_FOR_CLUSTERS",
                "interactions are not read by clusters of units, which the analysis plan names",
            )
    every = _comparable(beside.catalogue.running(command.project), plan)
    others = [one for one in every if len(one.arms) <= MOST_VARIANTS][:MOST_OTHERS]
    measures = tuple(
        replace(one.definition.measure, lookback=None, covariates=()) for one in metrics
    )
    question = Question(command.project, plan, measures, command.stitching, as_of=command.as_of)
    seen = beside.crossed.observe_crossed(question, others)
    with np.errstate(all="ignore"):
        found = tuple(cross(measures, seen, (plan, other), command.alpha) for other in others)
        corrected = adjusted(found, command.alpha) if found else np.zeros((0, len(metrics)))
    left_out = len(every) - len(others)
    removed = removed_since(
        command.project, seen.cut.token, command.as_of, sources.plans, sources.moments
    )
    return Interactions(plan, command.alpha, metrics, found, corrected, left_out, seen.cut, removed)


def _comparable(
    running: Sequence[ExperimentPlan], plan: ExperimentPlan
) -> Sequence[ExperimentPlan]:
    """The others on the same unit type."""
    return [
        one
        for one in running
        if one.experiment_id != plan.experiment_id and one.unit_type == plan.unit_type
    ]
