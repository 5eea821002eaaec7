"""Typed filters as options state them: FIELD, FIELD=VALUE, FIELD>=VALUE and the like."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from google.protobuf import struct_pb2
from touchstone.common.v1 import filter_pb2 as pb

from services.cli.credit.fields import require_valid, wrong

HELP = (
    "FIELD=VALUE, or with !=, <, <=, >, >=; FIELD alone: it is there. Repeat it: all of them hold."
)
_COMPARISON = re.compile(r"\s*([^=!<>]+?)\s*(?:(!=|<=|>=|=|<|>)\s*(.*))?", re.DOTALL)
_OPERATORS = {
    "=": pb.FILTER_OPERATOR_EQUAL,
    "!=": pb.FILTER_OPERATOR_EQUAL,
    "<": pb.FILTER_OPERATOR_LESS,
    "<=": pb.FILTER_OPERATOR_LESS_OR_EQUAL,
    ">": pb.FILTER_OPERATOR_GREATER,
    ">=": pb.FILTER_OPERATOR_GREATER_OR_EQUAL,
}


def read_filters(texts: Sequence[str], option: str) -> pb.Filter:
    """One filter that all of the texts fulfil."""
    each = [read_filter(text, option) for text in texts]
    return each[0] if len(each) == 1 else pb.Filter(all=pb.FilterList(filters=each))


def read_filter(text: str, option: str) -> pb.Filter:
    """A comparison. A value is the JSON that it is, otherwise text: 10 is a number, "10" is not."""
    found = _COMPARISON.fullmatch(text)
    if found is None or found[3] == "":
        raise wrong(option, text, "allowed: FIELD, or FIELD, one of = != < <= > >=, and a value")
    name, operator, value = found[1], found[2], found[3]
    if operator is None:
        compare = pb.FieldComparison(field=name, operator=pb.FILTER_OPERATOR_IS_SET)
    else:
        compare = pb.FieldComparison(field=name, operator=_OPERATORS[operator])
        try:
            compare.values.add().CopyFrom(_value(value))
        except ValueError as error:
            raise wrong(option, text, "allowed: text, a finite number, true or false") from error
    made = pb.Filter(compare=compare)
    if operator == "!=":
        made = pb.Filter(negated=made)
    require_valid(option, text, made)
    return made


def _value(text: str) -> struct_pb2.Value:
    try:
        found = json.loads(text, parse_constant=_not_finite)
    except json.JSONDecodeError:
        return struct_pb2.Value(string_value=text)
    match found:
        case bool():
            return struct_pb2.Value(bool_value=found)
        case int() | float() if math.isfinite(found):
            return struct_pb2.Value(number_value=found)
        case str():
            return struct_pb2.Value(string_value=found)
    raise ValueError(text)


def _not_finite(text: str) -> float:
    raise ValueError(text)
