"""The properties of events, each encoded as the contract's field."""

from __future__ import annotations

import datetime as dt
import decimal
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.struct_pb2 import Struct
from touchstone.events.v1.event_pb2 import Event

from services.cli.importing.bulk.flat_properties import flat_properties
from services.cli.importing.bulk.loops import Wrong, each
from services.cli.importing.bulk.text_columns import is_text
from services.cli.importing.cells import RowError
from shared.errors import shown


def encoded_properties(
    column: pa.Array, wrong: Sequence[Wrong]
) -> tuple[pa.Array, Sequence[Wrong]]:
    """What a serialized event needs at its end to have these properties; null for none.

    The column holds JSON objects as text, or structs or maps. A field of a struct that is null is
    absent. Raises TypeError for another type.
    """
    kind = column.type
    if not (is_text(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind)):
        raise TypeError(f"is of the type {kind}; allowed: JSON objects as text, structs or maps")
    if not is_text(kind):
        return each(column, lambda cell: _encoded(_plain(cell, kind), cell), pa.binary(), wrong)
    flat = flat_properties().encoded(column)
    rest = pc.and_(flat.is_null(), column.is_valid())
    if not pc.any(rest).as_py():
        return flat, wrong
    places = np.flatnonzero(np.asarray(rest))
    others, bad = each(
        column.filter(rest), lambda cell: _encoded(_parsed(str(cell)), cell), pa.binary()
    )
    told = [*wrong, *(Wrong(int(places[place]), reason) for place, reason in bad)]
    return pc.replace_with_mask(flat, rest, others), told


def _parsed(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _problem(text) from error


def _encoded(value: object, cell: object) -> bytes:
    if not isinstance(value, dict):
        raise _problem(cell)
    properties = Struct()
    try:
        properties.update(value)
        return Event(properties=properties).SerializeToString()
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _problem(cell) from error


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value of Arrow as one of JSON."""
    if pa.types.is_map(kind):
        return {str(key): _plain(item, kind.item_type) for key, item in value or ()}
    if pa.types.is_struct(kind) and value is not None:
        return {
            field.name: _plain(value[field.name], field.type)
            for field in kind
            if value[field.name] is not None
        }
    if pa.types.is_list(kind) and value is not None:
        return [_plain(item, kind.value_type) for item in value]
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return value


def _problem(cell: object) -> RowError:
    return RowError("", cell, f"is {shown(cell)}; allowed: a JSON object with finite numbers")


def _refuse(name: str) -> object:
    raise ValueError(name)
