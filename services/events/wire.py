"""Between the contract's messages and the domain."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from google.protobuf import struct_pb2
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from services.events.application.log_events import Logged
from services.events.domain.event import Event, Value
from services.events.domain.limits import MICROSECONDS, Limits
from services.events.domain.rejection import Reason, Rejection
from shared.errors import FieldViolation

_NANOS_PER_SECOND = 1_000_000_000


def decode_items(
    events: Iterable[event_pb2.Event],
    violations: Mapping[int, Sequence[FieldViolation]],
    limits: Limits,
) -> list[Event | Rejection]:
    """Each item of a batch, parsed, or the first thing that is wrong with it."""
    items: list[Event | Rejection] = []
    for place, event in enumerate(events):
        wrong = violations.get(place)
        if wrong:
            first = wrong[0]
            items.append(_invalid(event, first.field, first.description))
        else:
            items.append(_decode(event, limits))
    return items


def encode_logged(logged: Logged, token: str) -> events_service_pb2.LogEventsResponse:
    """The reply to a batch."""
    return events_service_pb2.LogEventsResponse(
        accepted=logged.accepted,
        duplicates=len(logged.duplicates),
        duplicate_items=logged.duplicates,
        rejected=[
            events_service_pb2.RejectedItem(
                item=place,
                event_id=why.event_id,
                reason=events_service_pb2.RejectionReason.Value(
                    f"REJECTION_REASON_{why.reason.value}"
                ),
                field=why.field,
                message=why.message,
            )
            for place, why in logged.rejected
        ],
        consistency_token=token,
    )


def _decode(event: event_pb2.Event, limits: Limits) -> Event | Rejection:
    time = event.event_time
    if not 0 <= time.nanos < _NANOS_PER_SECOND:
        return _invalid(event, "event_time.nanos", f"is {time.nanos}; allowed: 0 to 999999999")
    properties: str | None = None
    if event.HasField("properties"):
        checked = _properties(event, limits)
        if isinstance(checked, Rejection):
            return checked
        properties = checked
    kind = event.WhichOneof("payload")
    assert kind is not None  # the contract requires one
    table, payload_of = _KINDS[kind]
    return Event(
        event.event_id,
        time.seconds * MICROSECONDS + time.nanos // 1000,
        event.unit.type,
        event.unit.id,
        _linked(event.linked_units) if event.linked_units else None,
        event.source or None,
        properties,
        table,
        payload_of(event),
    )


def _exposure(event: event_pb2.Event) -> tuple[Value, ...]:
    it = event.exposure
    return (
        it.experiment,
        it.variant,
        it.config_version or None,
        it.reason or None,
        it.evaluator or None,
    )


def _conversion(event: event_pb2.Event) -> tuple[Value, ...]:
    it = event.conversion
    return (it.event_name, it.value if it.HasField("value") else None, it.currency or None)


def _touchpoint(event: event_pb2.Event) -> tuple[Value, ...]:
    it = event.touchpoint
    return (
        it.channel,
        it.campaign_source or None,
        it.medium or None,
        it.campaign or None,
        it.content or None,
        it.term or None,
        it.interaction or None,
        it.cost if it.HasField("cost") else None,
        it.currency or None,
    )


def _identify(event: event_pb2.Event) -> tuple[Value, ...]:
    it = event.identify
    unlink = it.action == event_pb2.IDENTIFY_ACTION_UNLINK
    return (it.other_unit.type, it.other_unit.id, "unlink" if unlink else None)


def _evaluation(event: event_pb2.Event) -> tuple[Value, ...]:
    it = event.evaluation
    return (
        it.flag,
        it.variant or None,
        it.reason or None,
        it.evaluator or None,
        it.flag_set or None,
        it.version or None,
        it.value_json or None,
        it.error_type or None,
    )


_KINDS: dict[str, tuple[str, Callable[[event_pb2.Event], tuple[Value, ...]]]] = {
    "exposure": ("exposures", _exposure),
    "conversion": ("conversions", _conversion),
    "touchpoint": ("touchpoints", _touchpoint),
    "identify": ("identifies", _identify),
    "evaluation": ("evaluations", _evaluation),
}


def _linked(units: Iterable[unit_pb2.UnitId]) -> str:
    return json.dumps([{"type": unit.type, "id": unit.id} for unit in units], ensure_ascii=False)


def _properties(event: event_pb2.Event, limits: Limits) -> str | Rejection:
    size = event.properties.ByteSize()
    if size > limits.properties_bytes:
        return Rejection(
            event.event_id,
            Reason.TOO_LARGE,
            "properties",
            f"take {size} bytes; at most {limits.properties_bytes}: send less, or a reference",
        )
    try:
        value = _struct(event.properties)
    except ValueError as error:
        return _invalid(event, "properties", str(error))
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _struct(struct: struct_pb2.Struct) -> dict[str, object]:
    return {key: _value(value) for key, value in struct.fields.items()}


def _value(value: struct_pb2.Value) -> object:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return _number(value.number_value)
    if kind == "struct_value":
        return _struct(value.struct_value)
    if kind == "list_value":
        return [_value(item) for item in value.list_value.values]
    if kind is None or kind == "null_value":
        return None
    return getattr(value, kind)


def _number(number: float) -> float | int:
    if not math.isfinite(number):
        raise ValueError(f"hold the number {number}; allowed: finite numbers")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _invalid(event: event_pb2.Event, field: str, message: str) -> Rejection:
    return Rejection(event.event_id[:128], Reason.INVALID_FIELD, field, message)
