"""From metrics to messages."""

from touchstone.results.v1 import metric_pb2 as pb

from services.results.domain.measure import Cap, Measure, MetricKind, Source
from services.results.domain.metric import Metric, MetricDefinition
from services.results.domain.metric_rules import LOOKING_BACK, WITH_AGGREGATION
from services.results.wire.metric_names import AGGREGATION_OF, DIRECTION_OF, KIND_OF, ROLE_OF
from shared.filters.wire import encode_filter
from shared.resource_names import resource_name


def encode_metric(metric: Metric) -> pb.Metric:
    """A metric as its owner sees it."""
    message = encode_definition(metric.definition)
    message.name = resource_name(metric.project, "metrics", metric.metric_id)
    message.version = metric.version
    message.etag = metric.etag
    message.create_time.FromDatetime(metric.create_time)
    message.update_time.FromDatetime(metric.update_time)
    if metric.archive_time is not None:
        message.archive_time.FromDatetime(metric.archive_time)
    return message


def encode_version(
    project: str, metric_id: str, version: int, definition: MetricDefinition
) -> pb.Metric:
    """A definition as it was, which cannot be written back: no etag, no times."""
    message = encode_definition(definition)
    message.name = resource_name(project, "metrics", metric_id)
    message.version = version
    return message


def encode_definition(definition: MetricDefinition) -> pb.Metric:
    """What the owner decides, with every default that was taken."""
    measure = definition.measure
    message = pb.Metric(
        display_name=definition.display_name,
        description=definition.description,
        kind=KIND_OF[measure.kind],
        direction=DIRECTION_OF[definition.direction],
        role=ROLE_OF[definition.role],
        margin=definition.margin,
        minimum_effect=definition.minimum_effect,
        quantile=measure.quantile or 0.0,
        of_events=measure.of_events,
        complete_only=measure.complete_only,
        cap=_cap(measure.cap),
        denominator=_source(measure.denominator) if measure.denominator else None,
        steps=[_step(step) for step in measure.steps],
        variance_reduction=_variance_reduction(measure),
    )
    if measure.kind is not MetricKind.FUNNEL:
        _own_source(measure, message)
    if measure.window is not None:
        message.conversion_window.FromTimedelta(measure.window)
    if measure.delay:
        message.delay.FromTimedelta(measure.delay)
    if measure.retention is not None:
        message.retention.first_day = measure.retention.first_day
        message.retention.last_day = measure.retention.last_day
        message.retention.SetInParent()
    return message


def _own_source(measure: Measure, message: pb.Metric) -> None:
    message.event_name = measure.event_name
    message.currency = measure.currency
    if measure.filter is not None:
        message.filter.CopyFrom(encode_filter(measure.filter))
    if measure.kind in WITH_AGGREGATION and not measure.of_events:
        message.aggregation = AGGREGATION_OF[measure.aggregation]


def _source(source: Source) -> pb.Source:
    return pb.Source(
        event_name=source.event_name,
        filter=encode_filter(source.filter) if source.filter else None,
        aggregation=AGGREGATION_OF[source.aggregation],
        currency=source.currency,
    )


def _step(step: Source) -> pb.Source:
    filter_ = encode_filter(step.filter) if step.filter else None
    return pb.Source(event_name=step.event_name, filter=filter_)


def _cap(cap: Cap | None) -> pb.Cap | None:
    if cap is None:
        return None
    if cap.absolute is not None:
        return pb.Cap(absolute=cap.absolute)
    return pb.Cap(percentile=cap.percentile or 0.0, ignore_zeros=cap.ignore_zeros)


def _variance_reduction(measure: Measure) -> pb.VarianceReduction | None:
    if measure.lookback is None:
        return pb.VarianceReduction(disabled=True) if measure.kind in LOOKING_BACK else None
    message = pb.VarianceReduction(covariates=[_source(each) for each in measure.covariates])
    message.lookback_window.FromTimedelta(measure.lookback)
    return message
