"""From metrics to messages."""

from touchstone.results.v1 import metric_pb2

from services.results.domain.metric import Metric
from services.results.wire.metric_decode import DIRECTIONS, KINDS, ROLES
from shared.resource_names import resource_name

KIND_OF = {kind: number for number, kind in KINDS.items()}
DIRECTION_OF = {direction: number for number, direction in DIRECTIONS.items()}
ROLE_OF = {role: number for number, role in ROLES.items()}


def encode_metric(metric: Metric) -> metric_pb2.Metric:
    """A metric as its owner sees it."""
    definition = metric.definition
    message = metric_pb2.Metric(
        name=resource_name(metric.project, "metrics", metric.metric_id),
        display_name=definition.display_name,
        description=definition.description,
        kind=KIND_OF[definition.kind],
        event_name=definition.event_name,
        direction=DIRECTION_OF[definition.direction],
        role=ROLE_OF[definition.role],
        currency=definition.currency,
        version=metric.version,
        etag=metric.etag,
    )
    message.create_time.FromDatetime(metric.create_time)
    message.update_time.FromDatetime(metric.update_time)
    if definition.window is not None:
        message.conversion_window.FromTimedelta(definition.window)
    if metric.archive_time is not None:
        message.archive_time.FromDatetime(metric.archive_time)
    return message
