"""Filters between messages and the domain."""

import math
from collections.abc import Iterable

from google.protobuf.struct_pb2 import Value
from touchstone.common.v1 import filter_pb2 as pb

from shared.errors import FieldViolation
from shared.filters.filter import AllOf, AnyOf, Comparison, Filter, Literal, Negated, Operator

OPERATORS = {
    pb.FILTER_OPERATOR_IS_SET: Operator.IS_SET,
    pb.FILTER_OPERATOR_EQUAL: Operator.EQUAL,
    pb.FILTER_OPERATOR_IN: Operator.IN,
    pb.FILTER_OPERATOR_LESS: Operator.LESS,
    pb.FILTER_OPERATOR_LESS_OR_EQUAL: Operator.LESS_OR_EQUAL,
    pb.FILTER_OPERATOR_GREATER: Operator.GREATER,
    pb.FILTER_OPERATOR_GREATER_OR_EQUAL: Operator.GREATER_OR_EQUAL,
    pb.FILTER_OPERATOR_CONTAINS: Operator.CONTAINS,
    pb.FILTER_OPERATOR_STARTS_WITH: Operator.STARTS_WITH,
    pb.FILTER_OPERATOR_ENDS_WITH: Operator.ENDS_WITH,
    pb.FILTER_OPERATOR_MATCHES: Operator.MATCHES,
}
OPERATOR_OF = {operator: number for number, operator in OPERATORS.items()}
_CONSTANT = "text, a finite number, true or false"


def decode_filter(message: pb.Filter, path: str, faults: list[FieldViolation]) -> Filter:
    """The filter; constants that are none are added to `faults`. How deep a message may be is
    bounded where it is parsed.
    """
    kind = message.WhichOneof("kind")
    if kind == "negated":
        return Negated(decode_filter(message.negated, f"{path}.negated", faults))
    if kind == "compare":
        return _comparison(message.compare, f"{path}.compare", faults)
    parts = tuple(
        decode_filter(part, f"{path}.{kind}.filters[{index}]", faults)
        for index, part in enumerate(getattr(message, str(kind)).filters)
    )
    return AllOf(parts) if kind == "all" else AnyOf(parts)


def _comparison(message: pb.FieldComparison, path: str, faults: list[FieldViolation]) -> Comparison:
    values = []
    for index, value in enumerate(message.values):
        constant = _literal(value)
        if constant is None:
            said = f"is {value.WhichOneof('kind') or 'nothing'}; allowed: {_CONSTANT}"
            faults.append(FieldViolation(f"{path}.values[{index}]", said))
        else:
            values.append(constant)
    return Comparison(message.field, OPERATORS[message.operator], tuple(values))


def _literal(value: Value) -> Literal | None:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return str(value.string_value)
    if kind == "bool_value":
        return bool(value.bool_value)
    if kind == "number_value" and math.isfinite(value.number_value):
        return float(value.number_value)
    return None


def encode_filter(filter_: Filter) -> pb.Filter:
    """The message of a filter."""
    match filter_:
        case Comparison(field, operator, values):
            constants = [_value(constant) for constant in values]
            compare = pb.FieldComparison(
                field=field, operator=OPERATOR_OF[operator], values=constants
            )
            return pb.Filter(compare=compare)
        case Negated(part):
            return pb.Filter(negated=encode_filter(part))
        case AllOf(parts):
            return pb.Filter(all=_list(parts))
        case AnyOf(parts):
            return pb.Filter(any=_list(parts))


def _list(parts: Iterable[Filter]) -> pb.FilterList:
    return pb.FilterList(filters=[encode_filter(part) for part in parts])


def _value(constant: Literal) -> Value:
    if isinstance(constant, str):
        return Value(string_value=constant)
    if isinstance(constant, bool):
        return Value(bool_value=constant)
    return Value(number_value=constant)
