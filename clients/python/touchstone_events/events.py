"""What is sent, and its bytes. The fields are those of touchstone/events/v1/event.proto.

Named tuples: a product makes them in its request path.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from touchstone_events.contract import EVENTS_TAG, Contract

_NANOSECONDS = 1_000_000_000
_ONE_BYTE = 0x80


class Unit(NamedTuple):
    """A customer, a device: the kind of id, such as "user", and the id within its kind."""

    type: str
    id: str


class Exposure(NamedTuple):
    """The unit met a variant of an experiment: it saw it, not merely was assigned to it."""

    experiment: str
    variant: str
    config_version: int = 0
    reason: str = ""
    evaluator: str = ""


class Conversion(NamedTuple):
    """The unit did something that is measured; `value` None counts it without a value."""

    event_name: str
    value: float | None = None
    currency: str = ""


class Touchpoint(NamedTuple):
    """The unit was reached through a channel; `cost` None means that it is not known."""

    channel: str
    campaign_source: str = ""
    medium: str = ""
    campaign: str = ""
    content: str = ""
    term: str = ""
    interaction: str = ""
    cost: float | None = None
    currency: str = ""


class Identify(NamedTuple):
    """The event's unit and the other one belong together; with `unlink`, they do not."""

    other: Unit
    unlink: bool = False


Payload = Exposure | Conversion | Touchpoint | Identify


class About(NamedTuple):
    """What any event may say besides. `time` is aware; None is now. `event_id` None makes one."""

    time: dt.datetime | None = None
    event_id: str | None = None
    linked_units: Sequence[Unit] = ()
    properties: Mapping[str, Any] | None = None


NOTHING_MORE = About()


def encode(made: Contract, unit: Unit, payload: Payload, about: About, stamp: Stamp) -> bytes:
    """The event as an item of a LogEventsRequest: requests are made by putting items together.

    TypeError or ValueError when a value cannot be sent at all. Every other rule is the service's.
    """
    event = made.event()
    event.event_id = about.event_id if about.event_id is not None else stamp.event_id
    event.source = stamp.source
    event.unit.type, event.unit.id = unit
    time_ns = stamp.time_ns if about.time is None else _nanoseconds(about.time)
    event.event_time.seconds, event.event_time.nanos = divmod(time_ns, _NANOSECONDS)
    for linked in about.linked_units:
        event.linked_units.add(type=linked[0], id=linked[1])
    if about.properties is not None:
        event.properties.update(about.properties)
    _set_payload(made, event, payload)
    data: bytes = event.SerializeToString()
    return EVENTS_TAG + _varint(len(data)) + data


class Stamp(NamedTuple):
    """What the sender itself says of an event."""

    event_id: str
    time_ns: int
    source: str


def _set_payload(made: Contract, event: Any, payload: Payload) -> None:
    if isinstance(payload, Exposure):
        it = event.exposure
        it.experiment, it.variant, it.config_version, it.reason, it.evaluator = payload
    elif isinstance(payload, Conversion):
        it = event.conversion
        it.event_name, it.currency = payload.event_name, payload.currency
        if payload.value is not None:
            it.value = payload.value
    elif isinstance(payload, Touchpoint):
        it = event.touchpoint
        for name, value in zip(payload._fields, payload, strict=True):
            if value is not None:
                setattr(it, name, value)
    elif isinstance(payload, Identify):
        it = event.identify
        it.other_unit.type, it.other_unit.id = payload.other
        if payload.unlink:
            it.action = made.unlink
    else:
        raise TypeError(
            f"the payload is {type(payload).__name__}; allowed: Exposure, Conversion, Touchpoint "
            "and Identify"
        )


def _nanoseconds(time: dt.datetime) -> int:
    if time.tzinfo is None:
        raise ValueError(f"the event time {time} has no time zone; give an aware datetime")
    since = time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since.days * 86_400 + since.seconds) * _NANOSECONDS + since.microseconds * 1000


def _varint(number: int) -> bytes:
    if number < _ONE_BYTE:
        return bytes((number,))
    digits = bytearray()
    while number >= _ONE_BYTE:
        digits.append(number & 0x7F | _ONE_BYTE)
        number >>= 7
    digits.append(number)
    return bytes(digits)
