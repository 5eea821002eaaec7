"""One event message at a time: what is wrong with it, or its values."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf import struct_pb2
from touchstone.events.v1 import event_pb2

from services.events.batch import linked_units_json
from services.events.domain.event import Event, Value
from services.events.domain.instant import rfc3339
from services.events.domain.limits import MICROSECONDS, Limits
from services.events.domain.rejection import Reason, Rejection
from shared.lake.layout import COMMON_COLUMNS, TABLES

FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Year 1 to 9999, as every Timestamp should be."""
_NANOS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event: the table that it goes to and where its values stand in the message."""

    table: str
    values: Callable[[event_pb2.Event], tuple[Value, ...]]
    leaves: tuple[tuple[str, ...], ...]
    """The path within the payload of each column that only this kind has."""

    @property
    def null_for_empty(self) -> frozenset[str]:
        """The columns in which an empty value stands for one that was not given."""
        optional = {column.name for column in TABLES[self.table].columns if column.optional}
        return frozenset(optional - _WITH_PRESENCE)


_WITH_PRESENCE = {"value", "cost", "linked_units", "properties"}


def decode_event(event: event_pb2.Event, limits: Limits) -> Event | Rejection:
    """The values of an event that keeps the rules of the contract, or what else is wrong."""
    time = event.event_time
    if not 0 <= time.nanos < _NANOS_PER_SECOND:
        return invalid(event, "event_time.nanos", f"is {time.nanos}; allowed: 0 to 999999999")
    if not FIRST_SECOND <= time.seconds <= LAST_SECOND:
        return _no_date(event)
    properties: str | None = None
    if event.HasField("properties"):
        checked = _properties(event, limits)
        if isinstance(checked, Rejection):
            return checked
        properties = checked
    kind = event.WhichOneof("payload")
    assert kind is not None  # the contract requires one
    table, payload_of = KINDS[kind].table, KINDS[kind].values
    return Event(
        event.event_id,
        time.seconds * MICROSECONDS + time.nanos // 1000,
        event.unit.type,
        event.unit.id,
        linked_units_json([(unit.type, unit.id) for unit in event.linked_units])
        if event.linked_units
        else None,
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


def _kind(table: str, values: Callable[[event_pb2.Event], tuple[Value, ...]]) -> Kind:
    own = TABLES[table].columns[len(COMMON_COLUMNS) :]
    return Kind(table, values, tuple(_PATHS.get(column.name, (column.name,)) for column in own))


_PATHS = {
    "other_unit_type": ("other_unit", "type"),
    "other_unit_id": ("other_unit", "id"),
}
KINDS = {
    "exposure": _kind("exposures", _exposure),
    "conversion": _kind("conversions", _conversion),
    "touchpoint": _kind("touchpoints", _touchpoint),
    "identify": _kind("identifies", _identify),
    "evaluation": _kind("evaluations", _evaluation),
}
"""The kinds of event by the name of their payload in the contract."""


def properties_json(encoded: bytes) -> str:
    """The JSON text of an encoded Struct; ValueError where it holds what JSON cannot."""
    return _json(struct_pb2.Struct.FromString(encoded))


def _properties(event: event_pb2.Event, limits: Limits) -> str | Rejection | None:
    size = event.properties.ByteSize()
    if size > limits.properties_bytes:
        return Rejection(
            event.event_id,
            Reason.TOO_LARGE,
            "properties",
            f"take {size} bytes; at most {limits.properties_bytes}: send less, or a reference",
        )
    if not size:
        return None
    try:
        return _json(event.properties)
    except ValueError as error:
        return invalid(event, "properties", str(error))


def _json(struct: struct_pb2.Struct) -> str:
    return json.dumps(_struct(struct), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


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


def invalid(event: event_pb2.Event, field: str, message: str) -> Rejection:
    """A field of the event is wrong."""
    return Rejection(event.event_id[:128], Reason.INVALID_FIELD, field, message)


def _no_date(event: event_pb2.Event) -> Rejection:
    seconds = event.event_time.seconds
    meant = ""
    if FIRST_SECOND <= seconds // 1000 <= LAST_SECOND:
        meant = f" (as milliseconds it is {rfc3339(seconds * 1000)})"
    return Rejection(
        event.event_id,
        Reason.EVENT_TIME_OUT_OF_RANGE,
        "event_time",
        f"is {seconds} s after 1970, in no year from 1 to 9999{meant}; allowed: from {rfc3339(0)} "
        "to 25 hours after it is received: send the time when it happened, in UTC and in seconds",
    )
