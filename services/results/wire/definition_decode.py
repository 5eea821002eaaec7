"""From the message of a metric to its definition, with everything that is wrong at once."""

import datetime as dt

from google.protobuf.duration_pb2 import Duration
from touchstone.results.v1 import metric_pb2 as pb

from services.results.domain.measure import Cap, Measure, MetricKind, Retention, Source
from services.results.domain.metric import DEFAULT_LOOKBACK, MetricDefinition
from services.results.domain.metric_rules import (
    LOOKING_BACK,
    PATH,
    definition_faults,
)
from services.results.wire.metric_names import AGGREGATIONS, DIRECTIONS, KINDS, ROLES
from shared.errors import FieldViolation, invalid_fields
from shared.filters.wire import decode_filter

MOST_BYTES = 64 * 1024

_Faults = list[FieldViolation]


def decode_definition(metric: pb.Metric) -> MetricDefinition:
    """The definition; INVALID_ARGUMENT with every field that is wrong."""
    size = metric.ByteSize()
    if size > MOST_BYTES:
        said = f"has {size} bytes; allowed: at most {MOST_BYTES}"
        raise invalid_fields([FieldViolation(PATH, said)])
    faults: _Faults = []
    definition = MetricDefinition(
        measure=_measure(metric, faults),
        direction=DIRECTIONS[metric.direction],
        role=ROLES[metric.role],
        margin=metric.margin,
        minimum_effect=metric.minimum_effect,
        display_name=metric.display_name,
        description=metric.description,
    )
    faults += definition_faults(definition)
    if faults:
        raise invalid_fields(faults)
    return definition


def _measure(metric: pb.Metric, faults: _Faults) -> Measure:
    kind = KINDS[metric.kind]
    own = _own_source(metric, kind, faults)
    steps = tuple(
        _source(step, f"{PATH}.steps[{index}]", faults) for index, step in enumerate(metric.steps)
    )
    if kind is MetricKind.FUNNEL and steps:
        own = steps[0]
    lookback, covariates = _variance_reduction(metric, kind, faults)
    return Measure(
        kind=kind,
        event_name=own.event_name,
        window=_span(metric.conversion_window, f"{PATH}.conversion_window", faults)
        if metric.HasField("conversion_window")
        else None,
        filter=own.filter,
        aggregation=own.aggregation,
        currency=own.currency,
        delay=_span(metric.delay, f"{PATH}.delay", faults),
        denominator=_source(metric.denominator, f"{PATH}.denominator", faults)
        if metric.HasField("denominator")
        else None,
        steps=steps,
        retention=Retention(metric.retention.first_day, metric.retention.last_day)
        if metric.HasField("retention")
        else None,
        quantile=metric.quantile or None,
        of_events=metric.of_events,
        cap=_cap(metric.cap) if metric.HasField("cap") else None,
        lookback=lookback,
        covariates=covariates,
        complete_only=metric.complete_only,
    )


def _own_source(metric: pb.Metric, kind: MetricKind, faults: _Faults) -> Source:
    """What the metric itself reads; a funnel says all of that in its steps."""
    if kind is MetricKind.FUNNEL:
        for field in ("event_name", "filter", "aggregation", "currency"):
            if _is_given(metric, field):
                said = f"is given for kind {kind.name}; allowed: none, its steps say their own"
                faults.append(FieldViolation(f"{PATH}.{field}", said))
    elif not metric.event_name:
        said = f"is missing; kind {kind.name} needs it: the conversion events that it reads"
        faults.append(FieldViolation(f"{PATH}.event_name", said))
    return Source(
        metric.event_name,
        decode_filter(metric.filter, f"{PATH}.filter", faults)
        if metric.HasField("filter")
        else None,
        AGGREGATIONS[metric.aggregation],
        metric.currency,
    )


def _is_given(metric: pb.Metric, field: str) -> bool:
    return any(found.name == field for found, _ in metric.ListFields())


def _source(source: pb.Source, path: str, faults: _Faults) -> Source:
    filter_ = None
    if source.HasField("filter"):
        filter_ = decode_filter(source.filter, f"{path}.filter", faults)
    return Source(source.event_name, filter_, AGGREGATIONS[source.aggregation], source.currency)


def _cap(cap: pb.Cap) -> Cap:
    if cap.WhichOneof("most") == "absolute":
        return Cap(absolute=cap.absolute, ignore_zeros=cap.ignore_zeros)
    return Cap(percentile=cap.percentile, ignore_zeros=cap.ignore_zeros)


def _variance_reduction(
    metric: pb.Metric, kind: MetricKind, faults: _Faults
) -> tuple[dt.timedelta | None, tuple[Source, ...]]:
    """How far is looked back, and at what else; where nothing is said, what suits the kind."""
    said = metric.variance_reduction
    path = f"{PATH}.variance_reduction"
    if not metric.HasField("variance_reduction"):
        return (DEFAULT_LOOKBACK if kind in LOOKING_BACK else None), ()
    if said.disabled:
        if said.HasField("lookback_window") or said.covariates:
            description = "is true beside what it switches off; keep one of them"
            faults.append(FieldViolation(f"{path}.disabled", description))
        return None, ()
    lookback = DEFAULT_LOOKBACK
    if said.HasField("lookback_window"):
        lookback = _span(said.lookback_window, f"{path}.lookback_window", faults)
    covariates = tuple(
        _source(covariate, f"{path}.covariates[{index}]", faults)
        for index, covariate in enumerate(said.covariates)
    )
    return lookback, covariates


def _span(span: Duration, path: str, faults: _Faults) -> dt.timedelta:
    if span.nanos % 1000:
        said = f"is {span.ToJsonString()}; allowed: whole microseconds"
        faults.append(FieldViolation(path, said))
    return dt.timedelta(seconds=span.seconds, microseconds=span.nanos // 1000)
