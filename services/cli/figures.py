"""Numbers, times and enums as a person reads them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.results.v1 import results_pb2 as pb

from services.cli.rendering import Cell


def time_text(message: Any, field: str) -> str:
    """A timestamp field as ISO 8601 in UTC to the second; empty when it is absent."""
    if not message.HasField(field):
        return ""
    stamp: Timestamp = getattr(message, field)
    return f"{stamp.ToDatetime(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def enum_text(message: Any, field: str, prefix: str) -> str:
    """An enum field in lower case without its prefix: STATE_RUNNING is `running`."""
    described = message.DESCRIPTOR.fields_by_name[field]
    return enum_name(described.enum_type, getattr(message, field), prefix)


def enum_name(described: Any, number: int, prefix: str) -> str:
    """An enum value in lower case without its prefix; a value from a newer server as its number."""
    value = described.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix(prefix).lower()


def last_part(name: str) -> str:
    """The id at the end of a resource name."""
    return name.rpartition("/")[2]


def estimate(message: pb.Estimate) -> Cell:
    """The number, or the reason why there is none, or nothing when the server sent neither."""
    which = message.WhichOneof("result")
    if which == "value":
        return message.value
    if which is None:
        return None
    return enum_text(message, "not_estimable", "NOT_ESTIMABLE_").replace("_", " ")


def ends(message: pb.Interval, show: Callable[[float], str] = repr) -> tuple[Cell, Cell]:
    """The ends of an interval, one of which may be `-inf` or `inf`. What has no two ends is the
    same text twice: `outside (a, b)`, `unbounded`, or the reason why there is no interval.
    """
    reason = enum_text(message, "not_estimable", "NOT_ESTIMABLE_").replace("_", " ")
    if message.complement:
        return (f"outside ({show(message.low)}, {show(message.high)})",) * 2
    if message.low_unbounded and message.high_unbounded:
        return ("unbounded",) * 2
    if message.not_estimable and not (message.low_unbounded or message.high_unbounded):
        return reason, reason
    low: Cell = "-inf" if message.low_unbounded else message.low
    high: Cell = "inf" if message.high_unbounded else message.high
    return low, high


def span(low: Cell, high: Cell, show: Callable[[Cell], str]) -> Cell:
    """Both ends of an interval in one cell: `[a, b]`, or what stands there in their place."""
    if low is None or low == high:
        return low
    low_text, high_text = (
        show(end) if isinstance(end, int | float) else str(end) for end in (low, high)
    )
    return f"[{low_text}, {high_text}]"


def plain(cell: Cell) -> str:
    """A number with six digits."""
    assert isinstance(cell, int | float)
    return f"{cell:.6g}"


def percent(cell: Cell) -> str:
    """A fraction as a percentage with its sign."""
    assert isinstance(cell, int | float)
    return f"{cell:+.2%}"


def share(cell: Cell) -> str:
    """A fraction from 0 to 1 as a percentage."""
    assert isinstance(cell, int | float)
    return f"{cell:.1%}"


def p_value(cell: Cell) -> str:
    """A p-value: four decimals, or its exponent when it is small."""
    assert isinstance(cell, int | float)
    return f"{cell:.4f}" if cell >= 0.001 or cell == 0 else f"{cell:.1e}"


def probability(cell: Cell) -> str:
    """A probability; never shown as certain, which none is that comes from data."""
    assert isinstance(cell, int | float)
    if cell < 0.0005:
        return "<0.1%"
    if cell > 0.9995:
        return ">99.9%"
    return f"{cell:.1%}"


def count(cell: Cell) -> str:
    """A whole number with its thousands apart."""
    assert isinstance(cell, int | float)
    return f"{cell:,.0f}"
