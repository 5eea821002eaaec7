"""Define a metric."""

import datetime as dt
from dataclasses import dataclass

from services.results.domain.metric import Metric, MetricDefinition
from services.results.ports import MetricStore


@dataclass(frozen=True, slots=True)
class CreateMetric:
    """What to define, in which project."""

    project: str
    metric_id: str
    definition: MetricDefinition


def create_metric(command: CreateMetric, store: MetricStore, now: dt.datetime) -> Metric:
    """Keeps version 1 of a new metric; ALREADY_EXISTS when the id is taken."""
    metric = Metric(
        project=command.project,
        metric_id=command.metric_id,
        definition=command.definition,
        version=1,
        create_time=now,
        update_time=now,
    )
    store.insert(metric)
    return metric
