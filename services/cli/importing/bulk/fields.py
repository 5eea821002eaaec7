"""What a file of events may hold: the columns of the event tables that a sender fills in."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pyarrow as pa

from shared.lake.layout import COMMON_COLUMNS, TABLES, Column

# What the service knows better than a file: they stand in its tables, and are passed over.
SERVICE_COLUMNS = frozenset(
    ("project", "day", "receive_time", "unit_key", "position", "content_digest")
)
UNITS = pa.list_(pa.struct([pa.field("type", pa.string()), pa.field("id", pa.string())]))
INSTANT = pa.timestamp("us", tz="UTC")


class Form(enum.Enum):
    """What a cell means: the Arrow type of its column when it is an event's."""

    TEXT = pa.string()
    NUMBER = pa.float64()
    INTEGER = pa.int64()
    INSTANT = INSTANT
    ACTION = pa.int32()
    UNITS = UNITS
    OBJECT = pa.binary()


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an event: the name of its column, and its path in the contract."""

    name: str
    form: Form
    path: str
    required: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event: the name of its table, that of its payload in the contract, its fields."""

    name: str
    payload: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        """The field of a name. Raises KeyError when the kind has none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)


def kind_of(table: str) -> Kind:
    """The kind of event that is in a table of the lake."""
    payload = _PAYLOADS[table]
    common = len(COMMON_COLUMNS)
    fields = [
        _field(column, _COMMON_PATHS.get(column.name, column.name))
        for column in COMMON_COLUMNS
        if column.name not in SERVICE_COLUMNS
    ]
    for column in TABLES[table].columns[common:]:
        path = _OWN_PATHS.get(column.name, column.name)
        fields.append(_field(column, f"{payload}.{path}"))
    return Kind(table, payload, tuple(fields))


_PAYLOADS = {
    "exposures": "exposure",
    "conversions": "conversion",
    "touchpoints": "touchpoint",
    "identifies": "identify",
    "evaluations": "evaluation",
}
_COMMON_PATHS = {"unit_type": "unit.type", "unit_id": "unit.id"}
_OWN_PATHS = {"other_unit_type": "other_unit.type", "other_unit_id": "other_unit.id"}
_SPECIAL = {"linked_units": Form.UNITS, "properties": Form.OBJECT, "action": Form.ACTION}


def _field(column: Column, path: str) -> Field:
    form = _SPECIAL.get(column.name) or Form(column.type)
    # Without an id of its own, an event's id follows from its place in the file.
    required = not column.optional and column.name != "event_id"
    return Field(column.name, form, path, required)
