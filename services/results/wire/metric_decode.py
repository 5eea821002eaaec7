"""From requests about metrics to commands."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from google.protobuf.duration_pb2 import Duration
from touchstone.results.v1 import metric_pb2, metric_service_pb2

from services.results.application.change_metric import MetricToChange, Patch
from services.results.application.create_metric import CreateMetric
from services.results.application.find_metric import ListMetrics
from services.results.domain.measure import MetricKind
from services.results.domain.metric import Direction, MetricDefinition, MetricRole
from shared import errors
from shared.resource_names import require_id, require_parent
from shared.state.paging import read_page

KINDS = {
    metric_pb2.METRIC_KIND_PROPORTION: MetricKind.PROPORTION,
    metric_pb2.METRIC_KIND_MEAN: MetricKind.MEAN,
}
DIRECTIONS = {
    metric_pb2.DIRECTION_UNSPECIFIED: Direction.INCREASE,
    metric_pb2.DIRECTION_INCREASE: Direction.INCREASE,
    metric_pb2.DIRECTION_DECREASE: Direction.DECREASE,
}
ROLES = {
    metric_pb2.METRIC_ROLE_UNSPECIFIED: MetricRole.SECONDARY,
    metric_pb2.METRIC_ROLE_PRIMARY: MetricRole.PRIMARY,
    metric_pb2.METRIC_ROLE_SECONDARY: MetricRole.SECONDARY,
    metric_pb2.METRIC_ROLE_GUARDRAIL: MetricRole.GUARDRAIL,
}


def _window(metric: metric_pb2.Metric) -> dt.timedelta | None:
    if not metric.HasField("conversion_window"):
        return None
    window: Duration = metric.conversion_window
    return dt.timedelta(seconds=window.seconds, microseconds=window.nanos // 1000)


# What an update mask may name, with the field of the definition and how it is read.
UPDATABLE: Mapping[str, tuple[str, Callable[[metric_pb2.Metric], Any]]] = {
    "display_name": ("display_name", lambda metric: metric.display_name),
    "description": ("description", lambda metric: metric.description),
    "event_name": ("event_name", lambda metric: metric.event_name),
    "direction": ("direction", lambda metric: DIRECTIONS[metric.direction]),
    "role": ("role", lambda metric: ROLES[metric.role]),
    "conversion_window": ("window", _window),
    "currency": ("currency", lambda metric: metric.currency),
}


def decode_definition(metric: metric_pb2.Metric) -> MetricDefinition:
    """The definition that a new metric brings."""
    fields = {field: read(metric) for field, read in UPDATABLE.values()}
    return MetricDefinition(kind=KINDS[metric.kind], **fields)


def decode_patch(metric: metric_pb2.Metric, paths: list[str]) -> Patch:
    """The change that an update asks for; INVALID_ARGUMENT for a field that cannot change."""
    if not paths:
        raise errors.invalid("update_mask", "", f"one or more of {', '.join(UPDATABLE)}")
    for path in paths:
        if path not in UPDATABLE:
            raise errors.invalid("update_mask", path, f"one or more of {', '.join(UPDATABLE)}")
    fields = {UPDATABLE[path][0]: UPDATABLE[path][1](metric) for path in paths}
    return lambda definition: replace(definition, **fields)


def decode_create(request: metric_service_pb2.CreateMetricRequest, project: str) -> CreateMetric:
    """What CreateMetric asks for."""
    require_parent(request.parent, project)
    return CreateMetric(project, request.metric_id, decode_definition(request.metric))


def decode_target(name: str, etag: str, project: str) -> MetricToChange:
    """Which metric a change is about."""
    return MetricToChange(project, require_id(name, project, "metrics"), etag)


def decode_list(request: metric_service_pb2.ListMetricsRequest, project: str) -> ListMetrics:
    """Which page ListMetrics asks for."""
    require_parent(request.parent, project)
    return ListMetrics(project, read_page(request, project), request.show_archived)
