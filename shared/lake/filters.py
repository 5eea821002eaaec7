"""Filters of events as expressions over the columns of the event tables."""

from functools import reduce
from operator import and_, or_
from typing import Any

import ibis
from ibis import ir

from shared.filters import rules
from shared.filters.filter import AllOf, AnyOf, Comparison, Filter, Literal, Negated, Operator

PROPERTIES = rules.PROPERTIES


def matches(events: ir.Table, condition: Filter) -> ir.BooleanValue:
    """Whether an event fulfils a filter; never null, so that a negation turns all of it round."""
    match condition:
        case Comparison():
            return _compared(events, condition)
        case Negated(part):
            return ~matches(events, part)
        case AllOf(parts):
            return reduce(and_, [matches(events, part) for part in parts], ibis.literal(value=True))
        case AnyOf(parts):
            return reduce(or_, [matches(events, part) for part in parts], ibis.literal(value=False))


def property_of(events: ir.Table, key: str) -> ir.JSONValue:
    """A property as JSON; null where the event does not have it."""
    # A JSON pointer takes every key as it is; a path would read dots and dollars in it.
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    return events.properties.cast("json")[pointer]


def _compared(events: ir.Table, comparison: Comparison) -> ir.BooleanValue:
    if comparison.operator is Operator.IS_SET:
        return _is_set(events, comparison.field)
    values = comparison.values
    each = [_compared_with(events, comparison, value) for value in values]
    return reduce(or_, each, ibis.literal(value=False))


def _is_set(events: ir.Table, field: str) -> ir.BooleanValue:
    if not field.startswith(PROPERTIES):
        return events[field].notnull()
    text = property_of(events, field.removeprefix(PROPERTIES)).cast("string")
    return (text != "null").fill_null(False)


def _compared_with(events: ir.Table, comparison: Comparison, value: Literal) -> ir.BooleanValue:
    column = _typed(events, comparison.field, value)
    if column is None:
        return ibis.literal(value=False)
    return _APPLY[comparison.operator](column, value).fill_null(False)


def _typed(events: ir.Table, field: str, value: Literal) -> ir.Value | None:
    """The field where it is of the type of the constant, else null; None if it never is."""
    kind = {bool: "boolean", str: "string"}.get(type(value), "float64")
    if field.startswith(PROPERTIES):
        return property_of(events, field.removeprefix(PROPERTIES)).unwrap_as(kind)
    own = "float64" if field in rules.NUMBERS else "string"
    return events[field] if own == kind else None


_APPLY: dict[Operator, Any] = {
    Operator.EQUAL: lambda column, value: column == value,
    Operator.IN: lambda column, value: column == value,
    Operator.LESS: lambda column, value: column < value,
    Operator.LESS_OR_EQUAL: lambda column, value: column <= value,
    Operator.GREATER: lambda column, value: column > value,
    Operator.GREATER_OR_EQUAL: lambda column, value: column >= value,
    Operator.CONTAINS: lambda column, value: column.contains(value),
    Operator.STARTS_WITH: lambda column, value: column.startswith(value),
    Operator.ENDS_WITH: lambda column, value: column.endswith(value),
    Operator.MATCHES: lambda column, value: column.re_search(value),
}
