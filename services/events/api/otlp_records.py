"""From OpenTelemetry log records to events, by the rule in docs/how-to/otlp.md."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from services.events.api.otlp_wire import Run
from services.events.domain.flag_evaluation import (
    CONTEXT_ID,
    EVENT_NAME,
    KEY,
    NAMES,
    UNIT_TYPE,
    FlagEvaluation,
    event_id,
    is_exposure,
    read_error_message,
    read_evaluation,
    read_value,
)

_NANOS = 1_000_000_000
_RESOURCE_NAMES = frozenset(
    {
        "service.name",
        "service.instance.id",
        "telemetry.sdk.language",
        "telemetry.sdk.version",
        UNIT_TYPE,
    }
)
NO_KEY = f"without {KEY}: name the flag"
NO_CONTEXT = f"without {CONTEXT_ID}: set a targeting key in the evaluation context"
NO_TIME = "without a time: set time_unix_nano or observed_time_unix_nano"
# The limits of the contract, in bytes, of what describes an event and does not identify it.
_SOURCE, _REASON, _EVALUATOR, _FLAG_SET, _ERROR_TYPE, _MESSAGE = 128, 64, 128, 128, 128, 1024
# A resource is written into each of its events; so long a type is none, and is rejected as it is.
_UNIT_TYPE, _INSTANCE = 64, 4096
_ATTRIBUTES = 256
"""So many of a record or resource are read; OpenTelemetry's own limit is half of that."""


@dataclass(frozen=True, slots=True)
class RecordRule:
    """What is not in the records themselves."""

    unit_type: str
    """The type of the units, where neither record nor resource names one."""
    reasons: frozenset[str]
    """The reasons, in lower case, that make an evaluation an exposure."""


@dataclass(slots=True)
class ReadRecords:
    """The events of some records, and what became of the others."""

    request: events_service_pb2.LogEventsRequest
    exposures: int = 0
    evaluations: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    """What is wrong with the record of an event that cannot be stored, by the event's place."""
    ignored: int = 0
    """Log records of other things."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """What the records of one resource and scope have in common."""

    source: str
    instance: str
    sdk: str
    unit_type: str
    evaluators: dict[str, str] = field(default_factory=dict)
    """What is written for each provider."""

    def evaluator(self, provider: str) -> str:
        """The provider, and the library that told of it with its version."""
        found = self.evaluators.get(provider)
        if found is None:
            parts = (provider, f"({self.sdk})" if self.sdk else "")
            found = clipped(" ".join(part for part in parts if part), _EVALUATOR)
            self.evaluators[provider] = found
        return found


def read_records(body: bytes, runs: Sequence[Run], rule: RecordRule) -> ReadRecords:
    """Some of the records of an export. Raises DecodeError when they are none."""
    read = ReadRecords(events_service_pb2.LogEventsRequest())
    encoded: bytes | None = None
    resource: Mapping[str, object] = {}
    for run in runs:
        if run.resource is not encoded:
            encoded = run.resource
            found = logs_pb2.ResourceLogs.FromString(encoded).resource
            resource = _attributes(found.attributes, _RESOURCE_NAMES)
        scope = logs_pb2.ScopeLogs.FromString(run.scope).scope
        origin = _origin(resource, scope, rule)
        for record in logs_pb2.ScopeLogs.FromString(body[run.start : run.end]).log_records:
            _read_record(record, origin, rule, read)
    return read


def _origin(
    resource: Mapping[str, object], scope: common_pb2.InstrumentationScope, rule: RecordRule
) -> _Origin:
    def text(name: str) -> str:
        value = resource.get(name)
        return value if isinstance(value, str) else ""

    name, version = scope.name, scope.version
    if not version:
        name, version = text("telemetry.sdk.language"), text("telemetry.sdk.version")
    return _Origin(
        source=clipped(text("service.name"), _SOURCE),
        instance=clipped(text("service.instance.id") or text("service.name"), _INSTANCE),
        sdk=f"{name} {version}".strip(),
        unit_type=clipped(text(UNIT_TYPE), _UNIT_TYPE) or rule.unit_type,
    )


def _read_record(
    record: logs_pb2.LogRecord, origin: _Origin, rule: RecordRule, read: ReadRecords
) -> None:
    name = record.event_name
    if name and name != EVENT_NAME:
        read.ignored += 1
        return
    attributes = _attributes(record.attributes, NAMES)
    if not name and attributes.get("event.name") != EVENT_NAME:
        read.ignored += 1
        return
    evaluation = read_evaluation(attributes)
    time_ns = record.time_unix_nano or record.observed_time_unix_nano
    events = read.request.events
    wrong = _wrong(evaluation, time_ns)
    if wrong:
        # The event lacks what its contract demands, so that it is rejected, and kept as such.
        read.refused[len(events)] = wrong
    event = events.add()
    _fill_event(event, evaluation, origin, time_ns, record.span_id)
    if UNIT_TYPE in attributes:
        event.unit.type = str(attributes[UNIT_TYPE])
    if is_exposure(evaluation, rule.reasons):
        read.exposures += not wrong
        _fill_exposure(event, evaluation, origin)
    else:
        read.evaluations += not wrong
        _fill_evaluation(event, evaluation, origin)
        body = _python(record.body) if record.HasField("body") else None
        event.evaluation.value_json = read_value(attributes, body)
        if message := read_error_message(attributes):
            _note(event, "error_message", clipped(message, _MESSAGE))


def _wrong(evaluation: FlagEvaluation, time_ns: int) -> str:
    if not evaluation.key:
        return NO_KEY
    if not evaluation.context_id:
        return NO_CONTEXT
    return "" if time_ns else NO_TIME


def _fill_event(
    event: event_pb2.Event,
    evaluation: FlagEvaluation,
    origin: _Origin,
    time_ns: int,
    span_id: bytes,
) -> None:
    key, context_id, variant, reason = evaluation[:4]
    event.event_id = event_id(
        time_ns, (origin.instance, key, context_id, variant, reason, span_id.hex())
    )
    if time_ns:
        event.event_time.seconds, event.event_time.nanos = divmod(time_ns, _NANOS)
    event.unit.type, event.unit.id = origin.unit_type, context_id
    event.source = origin.source


def _fill_exposure(event: event_pb2.Event, evaluation: FlagEvaluation, origin: _Origin) -> None:
    version = evaluation.config_version
    exposure = event.exposure
    exposure.experiment, exposure.variant = evaluation.key, evaluation.variant
    exposure.config_version = version
    exposure.reason = clipped(evaluation.reason, _REASON)
    exposure.evaluator = origin.evaluator(evaluation.provider)
    if evaluation.flag_set:
        _note(event, "flag_set", clipped(evaluation.flag_set, _FLAG_SET))
    if evaluation.version and not version:
        _note(event, "version", clipped(evaluation.version, _FLAG_SET))


def _fill_evaluation(event: event_pb2.Event, evaluation: FlagEvaluation, origin: _Origin) -> None:
    found = event.evaluation
    found.flag, found.variant = evaluation.key, evaluation.variant
    found.reason = clipped(evaluation.reason, _REASON)
    found.evaluator = origin.evaluator(evaluation.provider)
    found.flag_set = clipped(evaluation.flag_set, _FLAG_SET)
    found.version = clipped(evaluation.version, _FLAG_SET)
    found.error_type = clipped(evaluation.error_type, _ERROR_TYPE)


def _note(event: event_pb2.Event, name: str, text: str) -> None:
    event.properties.fields[name].string_value = text


def clipped(text: str, max_bytes: int) -> str:
    """The text, cut at a whole character where it takes more bytes."""
    if len(text) * 4 <= max_bytes:
        return text
    return text.encode()[:max_bytes].decode(errors="ignore")


def _attributes(pairs: Iterable[common_pb2.KeyValue], names: frozenset[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in islice(pairs, _ATTRIBUTES):
        key = pair.key
        if key in names:
            value = pair.value
            # Nearly all of them are texts, of which a service reads a million a second.
            found[key] = value.string_value or _python(value)
    return found


def _python(value: common_pb2.AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_python(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _python(pair.value) for pair in value.kvlist_value.values}
    found: object = getattr(value, kind)
    return found
