"""Compute what an experiment shows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.health import sample_ratio

from services.results.application.find_metric import get_metric
from services.results.domain.metric import Metric
from services.results.domain.observation import ExperimentPlan, Question
from services.results.domain.report import ExperimentReport, Method, report_metric
from services.results.ports import ExperimentSource, MetricReader, MetricStore, MomentsSource
from shared.errors import limit_exceeded
from shared.identity.belonging import Stitching

MAX_METRICS = 200


@dataclass(frozen=True, slots=True)
class GetResults:
    """Which experiment, which metrics (none: its own), and how to read them."""

    project: str
    experiment_id: str
    metric_ids: tuple[str, ...]
    method: Method
    stitching: Stitching = Stitching.RETROACTIVE


@dataclass(frozen=True, slots=True)
class Sources:
    """Where plans, definitions and data come from."""

    experiments: ExperimentSource
    metrics: MetricReader
    moments: MomentsSource


def get_results(command: GetResults, sources: Sources) -> ExperimentReport:
    """Every metric of every arm, from one cut of the event log.

    NOT_FOUND for an experiment or a metric that the project does not have; RESOURCE_EXHAUSTED
    for more metrics than one answer holds.
    """
    plan = sources.experiments.experiment(command.project, command.experiment_id)
    with sources.metrics.read() as store:
        metrics = tuple(_wanted(command, plan, store))
    if len(metrics) > MAX_METRICS:
        raise limit_exceeded("metrics in one result", len(metrics), MAX_METRICS)
    measures = tuple(metric.definition.measure for metric in metrics)
    question = Question(command.project, plan, measures, command.stitching)
    observation = sources.moments.observe(question)
    # Numbers beyond a double become infinite and are reported as such, not warned about.
    with np.errstate(all="ignore"):
        return ExperimentReport(
            plan=plan,
            observation=observation,
            metrics=tuple(
                report_metric(metric, index, plan, observation, command.method)
                for index, metric in enumerate(metrics)
            ),
            sample_ratio=sample_ratio(np.array(observation.units, dtype=float), plan.weights),
            method=command.method,
        )


def _wanted(command: GetResults, plan: ExperimentPlan, store: MetricStore) -> Iterator[Metric]:
    """The metrics asked for, else those of the experiment, else all that are not archived."""
    if wanted := command.metric_ids or plan.metric_ids:
        return (get_metric(command.project, metric, store) for metric in wanted)
    return iter(store.page(command.project, "", MAX_METRICS + 1, show_archived=False))
