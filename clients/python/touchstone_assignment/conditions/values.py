"""The constants of a comparison, read from messages into what a predicate compares with."""

import math
from typing import TYPE_CHECKING

from touchstone_assignment.conditions.limits import LIMITS

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value

Scalar = str | float | bool


def scalar(value: "Value") -> object:
    """What the value holds: text, a number or a truth value; anything else as it stands."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        return value.number_value
    if kind == "bool_value":
        return value.bool_value
    return None if kind in (None, "null_value") else value


def read_scalar(value: object) -> Scalar:
    """Text, a finite number, or a truth value."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return read_text(value, empty=True)
    if isinstance(value, float):
        return read_finite(value)
    raise ValueError("text, a finite number, true or false")


def read_text(value: object, *, empty: bool = False) -> str:
    """Text of bounded length; by default not empty, because every text holds the empty one."""
    if not isinstance(value, str) or not (value or empty):
        raise ValueError("text" if empty else "text of at least one character")
    size = len(value.encode())
    if size > LIMITS.text_bytes:
        raise ValueError(f"text of at most {LIMITS.text_bytes} bytes; this has {size}")
    return value


def read_finite(value: object) -> float:
    """A number that is neither infinite nor NaN."""
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError("a finite number")
    return value
