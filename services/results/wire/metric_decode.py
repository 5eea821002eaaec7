"""From requests about metrics to commands."""

from touchstone.results.v1 import metric_pb2, metric_service_pb2

from services.results.application.change_metric import MetricToChange, Patch
from services.results.application.create_metric import CreateMetric
from services.results.application.find_metric import ListMetrics, ListMetricVersions
from services.results.domain.metric import MetricDefinition
from services.results.wire.definition_decode import decode_definition
from services.results.wire.metric_encode import encode_definition
from shared import errors
from shared.resource_names import require_id, require_parent
from shared.state.paging import read_page

_SET_BY_THE_SERVICE = ("name", "version", "etag", "create_time", "update_time", "archive_time")
UPDATABLE = tuple(
    field.name
    for field in metric_pb2.Metric.DESCRIPTOR.fields
    if field.name not in (*_SET_BY_THE_SERVICE, "kind")
)
"""What an update mask may name."""


def decode_patch(metric: metric_pb2.Metric, paths: list[str]) -> Patch:
    """The change that an update asks for; INVALID_ARGUMENT for a field that cannot change.

    The changed definition is judged as a whole.
    """
    allowed = f"one or more of {', '.join(UPDATABLE)}"
    if not paths:
        raise errors.invalid("update_mask", "", allowed)
    for path in paths:
        if path not in UPDATABLE:
            raise errors.invalid("update_mask", path, allowed)

    def patch(definition: MetricDefinition) -> MetricDefinition:
        merged, changes = encode_definition(definition), metric_pb2.Metric()
        changes.CopyFrom(metric)
        for field in metric_pb2.Metric.DESCRIPTOR.fields_by_name:
            # What the mask names is taken from the request, also when it is empty there.
            (merged if field in paths else changes).ClearField(field)  # type: ignore[arg-type]
        merged.MergeFrom(changes)
        return decode_definition(merged)

    return patch


def decode_create(request: metric_service_pb2.CreateMetricRequest, project: str) -> CreateMetric:
    """What CreateMetric asks for."""
    require_parent(request.parent, project)
    return CreateMetric(project, request.metric_id, decode_definition(request.metric))


def decode_target(name: str, etag: str, project: str) -> MetricToChange:
    """Which metric a change is about."""
    return MetricToChange(project, require_id(name, project, "metrics"), etag)


def decode_list_versions(
    request: metric_service_pb2.ListMetricVersionsRequest, project: str
) -> ListMetricVersions:
    """Which page ListMetricVersions asks for."""
    metric_id = require_id(request.name, project, "metrics")
    return ListMetricVersions.of(project, metric_id, read_page(request, project))


def decode_list(request: metric_service_pb2.ListMetricsRequest, project: str) -> ListMetrics:
    """Which page ListMetrics asks for."""
    require_parent(request.parent, project)
    return ListMetrics(project, read_page(request, project), request.show_archived)
