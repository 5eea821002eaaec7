"""Change a metric, or put it away."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.results.application.find_metric import get_metric
from services.results.domain.metric import Metric, MetricDefinition
from services.results.ports import MetricStore
from shared import errors
from shared.resource_names import resource_name


@dataclass(frozen=True, slots=True)
class MetricToChange:
    """Which metric, and in which state the caller saw it (empty etag: in any)."""

    project: str
    metric_id: str
    etag: str


Patch = Callable[[MetricDefinition], MetricDefinition]


def update_metric(
    target: MetricToChange, patch: Patch, store: MetricStore, now: dt.datetime
) -> Metric:
    """Keeps the patched definition as the next version.

    FAILED_PRECONDITION when the metric is archived, ABORTED when its etag is another one.
    """
    old = _current(target, store, "UpdateMetric")
    new = replace(old, definition=patch(old.definition), version=old.version + 1, update_time=now)
    store.replace(old, new)
    return new


def archive_metric(target: MetricToChange, store: MetricStore, now: dt.datetime) -> Metric:
    """Takes the metric out of results that do not ask for it by name; its id stays taken."""
    old = _current(target, store, "ArchiveMetric")
    new = replace(old, update_time=now, archive_time=now)
    store.replace(old, new)
    return new


def _current(target: MetricToChange, store: MetricStore, verb: str) -> Metric:
    metric = get_metric(target.project, target.metric_id, store)
    name = resource_name(target.project, "metrics", target.metric_id)
    if target.etag and target.etag != metric.etag:
        raise errors.stale_etag(name, target.etag, metric.etag)
    if metric.archive_time is not None:
        raise errors.wrong_state(name, "ARCHIVED", verb, "a metric that is not archived")
    return metric
