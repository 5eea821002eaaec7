"""What an event says, computed from its name alone: clients send it and the model expects it.

A name is a project, an event id and a take. Takes of one id differ: all but one of them conflict.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

BAD = "bad-"
"""Ids that begin like this name events that break a rule."""
EARLIEST_S, SPREAD_S = 1_790_000_000, 400_000

Row = tuple[str, tuple[object, ...]]
"""A table, and the values of a row of it."""


class Name(NamedTuple):
    """Which event."""

    project: str
    event_id: str
    take: int = 0


def event_of(name: Name) -> event_pb2.Event:
    """The event as a client sends it: the same bytes in every repetition."""
    dice = hashlib.blake2b(repr(name).encode(), digest_size=16).digest()
    event = event_pb2.Event(event_id=name.event_id)
    event.unit.type = ("user", "device", "account")[dice[0] % 3]
    event.unit.id = f"u{int.from_bytes(dice[1:3], 'little')}.{name.take}"
    event.event_time.seconds = EARLIEST_S + int.from_bytes(dice[3:6], "little") % SPREAD_S
    event.event_time.nanos = dice[6] * 1_000
    if dice[7] < 64:
        event.source = f"checkout {dice[8]}"
    if dice[9] < 48:
        event.linked_units.append(unit_pb2.UnitId(type="login", id=f"l{dice[10]} \u00e9"))
    if dice[11] < 64:
        event.properties.update({"n": dice[12], "deep": {"list": [1.5, None, "\u4e16"]}})
    _PAYLOADS[dice[13] % len(_PAYLOADS)](event, dice)
    if name.event_id.startswith(BAD):
        _BREAKS[dice[14] % len(_BREAKS)](event)
    return event


def row_of(event: event_pb2.Event) -> Row:
    """The row that a good event becomes, without what the service adds."""
    kind = event.WhichOneof("payload")
    assert kind is not None
    table, fields = _TABLES[kind]
    time = event.event_time
    linked = [{"type": unit.type, "id": unit.id} for unit in event.linked_units]
    properties = _plain(event.properties) if event.HasField("properties") else None
    common = (
        event.event_id,
        time.seconds * 1_000_000 + time.nanos // 1_000,
        event.unit.type,
        event.unit.id,
        json.dumps(linked, sort_keys=True) if linked else None,
        event.source or None,
        None if properties is None else json.dumps(properties, sort_keys=True),
    )
    return table, common + _payload(getattr(event, kind), fields)


def stored_row(table: str, values: dict[str, Any]) -> Row:
    """A row as readers see it, in the same form."""
    _, fields = next(entry for entry in _TABLES.values() if entry[0] == table)
    common = (
        values["event_id"],
        values["event_time"],
        values["unit_type"],
        values["unit_id"],
        _again(values["linked_units"]),
        values["source"] or None,
        _again(values["properties"]),
    )
    own = tuple(_absent(values[column]) for column in fields)
    return table, common + own


def columns_of(table: str) -> list[str]:
    """The columns that `stored_row` needs."""
    _, fields = next(entry for entry in _TABLES.values() if entry[0] == table)
    common = [
        "event_id",
        "event_time",
        "unit_type",
        "unit_id",
        "linked_units",
        "source",
        "properties",
    ]
    return [*common, *fields]


def _exposure(event: event_pb2.Event, dice: bytes) -> None:
    event.exposure.experiment = f"exp-{dice[15] % 7}"
    event.exposure.variant = ("control", "treatment")[dice[12] % 2]
    event.exposure.config_version = dice[10]
    event.exposure.reason = "SPLIT"


def _conversion(event: event_pb2.Event, dice: bytes) -> None:
    event.conversion.event_name = ("purchase", "visit", "refund")[dice[15] % 3]
    if dice[12] < 200:
        event.conversion.value = int.from_bytes(dice[8:12], "little") / 97
        event.conversion.currency = "EUR"


def _touchpoint(event: event_pb2.Event, dice: bytes) -> None:
    event.touchpoint.channel = ("Paid Search", "email")[dice[15] % 2]
    event.touchpoint.campaign_source = "s"
    event.touchpoint.campaign = f"c{dice[12]}"
    if dice[8] < 128:
        event.touchpoint.cost = dice[10] / 7


def _identify(event: event_pb2.Event, dice: bytes) -> None:
    event.identify.other_unit.type = "login"
    event.identify.other_unit.id = f"l{dice[15]}"
    if dice[12] < 30:
        event.identify.action = event_pb2.IDENTIFY_ACTION_UNLINK


def _evaluation(event: event_pb2.Event, dice: bytes) -> None:
    event.evaluation.flag = f"flag {dice[15]}"
    event.evaluation.variant = "on"
    event.evaluation.value_json = "true"
    event.evaluation.reason = "static"


_PAYLOADS = (_exposure, _conversion, _touchpoint, _identify, _evaluation)


def _no_payload(event: event_pb2.Event) -> None:
    event.ClearField(event.WhichOneof("payload") or "exposure")


def _not_a_number(event: event_pb2.Event) -> None:
    event.conversion.event_name = "purchase"
    event.conversion.value = float("nan")


def _far_ahead(event: event_pb2.Event) -> None:
    event.event_time.seconds = 253_402_300_799


def _no_unit(event: event_pb2.Event) -> None:
    event.ClearField("unit")


def _too_large(event: event_pb2.Event) -> None:
    event.properties.update({"text": "x" * 17_000})


_BREAKS = (_no_payload, _not_a_number, _far_ahead, _no_unit, _too_large)

_TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "exposure": (
        "exposures",
        {k: k for k in ("experiment", "variant", "config_version", "reason", "evaluator")},
    ),
    "conversion": ("conversions", {k: k for k in ("event_name", "value", "currency")}),
    "touchpoint": (
        "touchpoints",
        {k: k for k in ("channel", "campaign_source", "campaign", "cost", "currency")},
    ),
    "identify": (
        "identifies",
        {
            "other_unit_type": "other_unit.type",
            "other_unit_id": "other_unit.id",
            "action": "action",
        },
    ),
    "evaluation": (
        "evaluations",
        {k: k for k in ("flag", "variant", "reason", "evaluator", "flag_set", "value_json")},
    ),
}
TABLES = tuple(table for table, _ in _TABLES.values())


def _payload(message: Any, fields: dict[str, str]) -> tuple[object, ...]:
    values: list[object] = []
    for path in fields.values():
        value = message
        for step in path.split("."):
            present = step not in {"value", "cost"} or value.HasField(step)
            value = getattr(value, step) if present else None
        if path == "action":
            value = "unlink" if value == event_pb2.IDENTIFY_ACTION_UNLINK else None
        values.append(value if isinstance(value, float) else value or None)
    return tuple(values)


def _absent(value: object) -> object:
    """Zero and an empty text are not told from nothing, except where a number counts."""
    if value == "link":
        return None
    return value if isinstance(value, float) else value or None


def _again(text: str | None) -> str | None:
    return json.dumps(json.loads(text), sort_keys=True) if text else None


def _plain(value: Any) -> Any:
    """A Struct as the JSON that it stands for; whole numbers are whole."""
    if hasattr(value, "fields"):
        return {key: _plain(item) for key, item in value.fields.items()}
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _plain(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "null_value":
        return None
    found = getattr(value, kind)
    return int(found) if kind == "number_value" and found.is_integer() else found
