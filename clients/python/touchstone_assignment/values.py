"""From the values of a ruleset to plain Python ones."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct, Value

_EXACT = 2.0**53


def plain(value: "Value") -> object:
    """None, bool, int, float, str, list or dict, as a JSON reader gives them.

    A whole number is an int where a double holds every int, as in JSON text without a point.
    """
    kind = value.WhichOneof("kind")
    return None if kind is None else _READ[kind](value)


def plain_struct(struct: "Struct") -> dict[str, object]:
    """The fields of a JSON object."""
    return {key: plain(value) for key, value in struct.fields.items()}


def _number(value: "Value") -> int | float:
    number = value.number_value
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


_READ: dict[str, Callable[["Value"], object]] = {
    "null_value": lambda _value: None,
    "number_value": _number,
    "string_value": lambda value: value.string_value,
    "bool_value": lambda value: value.bool_value,
    "struct_value": lambda value: plain_struct(value.struct_value),
    "list_value": lambda value: [plain(item) for item in value.list_value.values],
}
