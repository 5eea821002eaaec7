"""Columns of a file as columns of events: each form of field with its own rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.cli.importing import cells
from services.cli.importing.bulk.fields import UNITS, Form
from services.cli.importing.bulk.instants import InstantRules, instants
from services.cli.importing.bulk.loops import Wrong, each, no_utf8
from services.cli.importing.bulk.properties import encoded_properties
from services.cli.importing.bulk.text_columns import as_text, empty, is_text
from services.cli.importing.cells import RowError
from shared.errors import shown

_ACTIONS = {"": 0, "link": 1, "unlink": 2}


class Cast(NamedTuple):
    """A column of exactly the type of its form, null where a cell is empty or wrong."""

    column: pa.Array
    wrong: Sequence[Wrong]


def cast(form: Form, column: pa.Array, rules: InstantRules) -> Cast:
    """The column of a file as an event's. Raises TypeError when its type cannot be meant."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if form is Form.INSTANT:
        return Cast(*instants(column, rules))
    return _CASTS[form](column)


def _texts(column: pa.Array) -> Cast:
    texts, bad = as_text(column)
    return Cast(texts, no_utf8(bad))


def _numbers(column: pa.Array) -> Cast:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _finite(column, column.cast(pa.float64(), safe=False))
    texts, wrong = _filled(column, "a number")
    try:
        return _finite(texts, texts.cast(pa.float64()), wrong)
    except pa.ArrowInvalid:
        return Cast(*each(texts, lambda cell: cells.number(cell, ""), pa.float64(), wrong))


def _finite(given: pa.Array, numbers: pa.Array, wrong: Sequence[Wrong] = ()) -> Cast:
    finite = pc.is_finite(numbers)
    if pc.all(finite).as_py() is not False:
        return Cast(numbers, wrong)
    found = list(wrong)
    for place in np.flatnonzero(~np.asarray(finite.fill_null(True))):
        value = shown(given[int(place)].as_py())
        found.append(Wrong(int(place), f"is {value}; allowed: a finite number such as 12.5"))
    return Cast(pc.if_else(finite, numbers, None), found)


def _integers(column: pa.Array) -> Cast:
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        column, wrong = _filled(column, "a whole number")
    else:
        wrong = ()
    try:
        return Cast(column.cast(pa.int64()), wrong)
    except pa.ArrowInvalid:
        return Cast(*each(column, _integer, pa.int64(), wrong))


def _integer(cell: object) -> int:
    value = cells.number(cell, "")
    if not value.is_integer() or abs(value) >= 2**63:
        raise RowError("", cell, f"is {shown(cell)}; allowed: a whole number of 64 bits")
    return int(value)


def _actions(column: pa.Array) -> Cast:
    texts, wrong = _filled(column, "link or unlink")
    codes = pc.index_in(texts.fill_null(""), pa.array(list(_ACTIONS)))
    if not codes.null_count:
        return Cast(codes, wrong)
    return Cast(*each(texts, _action, pa.int32(), wrong))


def _action(cell: object) -> int:
    code = _ACTIONS.get(str(cell))
    if code is None:
        raise RowError("", cell, f"is {shown(cell)}; allowed: link, unlink or nothing")
    return code


def _units(column: pa.Array) -> Cast:
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        one = column.type.value_type
        if not pa.types.is_struct(one) or {part.name for part in one} != {"type", "id"}:
            raise TypeError(f"is of the type {column.type}; allowed: {UNITS}")
        return Cast(column.cast(UNITS), ())
    texts, wrong = _filled(column, 'a list of {"type", "id"}, or such a list as JSON')
    return Cast(*each(texts, _unit_list, UNITS, wrong))


def _unit_list(cell: object) -> list[dict[str, str]]:
    problem = RowError(
        "", cell, f'is {shown(cell)}; allowed: JSON such as [{{"type": "device", "id": "d1"}}]'
    )
    try:
        units = json.loads(str(cell))
    except (ValueError, RecursionError) as error:
        raise problem from error
    if not isinstance(units, list) or not all(map(_is_unit, units)):
        raise problem
    return units


def _is_unit(unit: Any) -> bool:
    return (
        isinstance(unit, dict)
        and unit.keys() == {"type", "id"}
        and all(isinstance(part, str) and part.isprintable() for part in unit.values())
    )


def _filled(column: pa.Array, allowed: str) -> Cast:
    """A column of text, null where it holds nothing."""
    if not is_text(column.type):
        raise TypeError(f"is of the type {column.type}; allowed: {allowed}")
    texts, bad = as_text(column)
    return Cast(pc.if_else(empty(texts), None, texts), no_utf8(bad))


def _objects(column: pa.Array) -> Cast:
    if is_text(column.type):
        column, wrong = _filled(column, "a JSON object")
    else:
        wrong = ()
    return Cast(*encoded_properties(column, wrong))


_CASTS: dict[Form, Callable[[pa.Array], Cast]] = {
    Form.TEXT: _texts,
    Form.NUMBER: _numbers,
    Form.INTEGER: _integers,
    Form.ACTION: _actions,
    Form.UNITS: _units,
    Form.OBJECT: _objects,
}
