"""Judge one event by a filter, as the engine of the event tables judges a column of them."""

from collections.abc import Callable, Mapping

from touchstone_assignment.conditions.patterns import read_pattern

from shared.filters.filter import AllOf, AnyOf, Comparison, Filter, Literal, Negated, Operator
from shared.filters.rules import PROPERTIES

Event = Mapping[str, object]
"""The fields of an event by name, those not sent None, and under "properties" those by key."""


def fulfils(event: Event, condition: Filter) -> bool:
    """Whether the event fulfils the filter."""
    match condition:
        case Comparison():
            return _compared(event, condition)
        case Negated(part):
            return not fulfils(event, part)
        case AllOf(parts):
            return all(fulfils(event, part) for part in parts)
        case AnyOf(parts):
            return any(fulfils(event, part) for part in parts)


def _compared(event: Event, comparison: Comparison) -> bool:
    found = _field(event, comparison.field)
    if comparison.operator is Operator.IS_SET:
        return found is not None
    return any(_holds(found, comparison.operator, value) for value in comparison.values)


def _field(event: Event, field: str) -> object:
    if not field.startswith(PROPERTIES):
        return event.get(field)
    properties = event.get("properties")
    key = field.removeprefix(PROPERTIES)
    return properties.get(key) if isinstance(properties, Mapping) else None


def _holds(found: object, operator: Operator, value: Literal) -> bool:
    if isinstance(value, str) and isinstance(found, str):
        return operator in _OF_TEXT and _OF_TEXT[operator](found, value)
    if isinstance(value, bool) or isinstance(found, bool):
        same = isinstance(value, bool) and found is value
        return same and operator in (Operator.EQUAL, Operator.IN)
    if isinstance(value, float) and isinstance(found, int | float):
        return operator in _OF_NUMBERS and _OF_NUMBERS[operator](float(found), value)
    return False


_OF_NUMBERS: Mapping[Operator, Callable[[float, float], bool]] = {
    Operator.EQUAL: lambda found, value: found == value,
    Operator.IN: lambda found, value: found == value,
    Operator.LESS: lambda found, value: found < value,
    Operator.LESS_OR_EQUAL: lambda found, value: found <= value,
    Operator.GREATER: lambda found, value: found > value,
    Operator.GREATER_OR_EQUAL: lambda found, value: found >= value,
}
_OF_TEXT: Mapping[Operator, Callable[[str, str], bool]] = {
    Operator.EQUAL: lambda found, value: found == value,
    Operator.IN: lambda found, value: found == value,
    Operator.CONTAINS: lambda found, value: value in found,
    Operator.STARTS_WITH: lambda found, value: found.startswith(value),
    Operator.ENDS_WITH: lambda found, value: found.endswith(value),
    Operator.MATCHES: lambda found, value: read_pattern(value)(found),
}
