"""The parameters of a layer: values that code asks for, and that experiments set."""

import enum
import json
from dataclasses import dataclass


class JsonType(enum.StrEnum):
    """The type of a JSON value. Null has none: it could stand for any."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    ARRAY = "array"
    OBJECT = "object"


_TYPES: tuple[tuple[type, JsonType], ...] = (
    # A Python bool is an int as well, so it comes first.
    (bool, JsonType.BOOLEAN),
    (int, JsonType.NUMBER),
    (float, JsonType.NUMBER),
    (str, JsonType.STRING),
    (list, JsonType.ARRAY),
    (dict, JsonType.OBJECT),
)


def json_type(value: object) -> JsonType | None:
    """The type of a decoded JSON value, None for null."""
    return next((name for kind, name in _TYPES if isinstance(value, kind)), None)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A key with its default as canonical JSON; the default's type is that of every value."""

    key: str
    default: str
    description: str = ""

    @property
    def value(self) -> object:
        """The default, decoded."""
        return json.loads(self.default)

    @property
    def type(self) -> JsonType | None:
        """The type of every value, None when the default is null, which is not allowed."""
        return json_type(self.value)
