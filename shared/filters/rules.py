"""Which filters a query can be made of."""

from collections.abc import Iterator

from touchstone_assignment.conditions.patterns import read_pattern

from shared.errors import FieldViolation, shown
from shared.filters.filter import AllOf, AnyOf, Comparison, Filter, Negated, Operator

MOST_COMPARISONS = 100
MOST_DEEP = 10
LONGEST_TEXT = 1024

CONVERSION_FIELDS = frozenset(("value", "currency", "source"))
TOUCH_FIELDS = frozenset(
    (
        "channel",
        "campaign_source",
        "medium",
        "campaign",
        "content",
        "term",
        "interaction",
        "cost",
        "currency",
        "source",
    )
)
NUMBERS = frozenset(("value", "cost"))
PROPERTIES = "properties."

_ORDER = frozenset(
    (
        Operator.LESS,
        Operator.LESS_OR_EQUAL,
        Operator.GREATER,
        Operator.GREATER_OR_EQUAL,
    )
)
_PARTS_OF_TEXT = frozenset((Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH))
_OF_TEXT = _PARTS_OF_TEXT | {Operator.MATCHES}
_SEVERAL = _PARTS_OF_TEXT | {Operator.IN}


def filter_faults(
    filter_: Filter | None, path: str, fields: frozenset[str] = CONVERSION_FIELDS
) -> Iterator[FieldViolation]:
    """What is wrong with a filter; `path` is where the request has it, `fields` are those that the
    events have besides properties.
    """
    if filter_ is None:
        return
    comparisons = list(_comparisons(filter_, path, 1))
    deepest = max(depth for _, _, depth in comparisons)
    if deepest > MOST_DEEP:
        yield FieldViolation(path, f"is {deepest} levels deep; allowed: at most {MOST_DEEP}")
    if len(comparisons) > MOST_COMPARISONS:
        allowed = f"at most {MOST_COMPARISONS}"
        yield FieldViolation(path, f"has {len(comparisons)} comparisons; allowed: {allowed}")
        return
    for comparison, at, _ in comparisons:
        if comparison.field not in fields and not comparison.field.startswith(PROPERTIES):
            allowed = f"{', '.join(sorted(fields))}, or {PROPERTIES} and a key"
            said = f"is {shown(comparison.field)}; allowed here: {allowed}"
            yield FieldViolation(f"{at}.field", said)
        else:
            yield from _comparison_faults(comparison, at)


def _comparisons(filter_: Filter, path: str, depth: int) -> Iterator[tuple[Comparison, str, int]]:
    """Every comparison with its path and how deep it is."""
    match filter_:
        case Comparison():
            yield filter_, f"{path}.compare", depth
        case Negated(part):
            yield from _comparisons(part, f"{path}.negated", depth + 1)
        case AllOf(parts) | AnyOf(parts):
            name = "all" if isinstance(filter_, AllOf) else "any"
            for index, part in enumerate(parts):
                yield from _comparisons(part, f"{path}.{name}.filters[{index}]", depth + 1)


def _comparison_faults(comparison: Comparison, path: str) -> Iterator[FieldViolation]:
    operator, values = comparison.operator, comparison.values
    allowed = _wrong_count(operator, len(values))
    if allowed:
        said = f"are {len(values)} for {_name(operator)}; allowed: {allowed}"
        yield FieldViolation(f"{path}.values", said)
    if _never_true(comparison):
        kind = "a number" if comparison.field in NUMBERS else "text"
        said = f"is {_name(operator)}, and {comparison.field} is {kind}: it would never be true"
        yield FieldViolation(f"{path}.operator", said)
    for index, value in enumerate(values):
        what = _wrong_value(comparison, value)
        if what:
            said = f"is {shown(value)}; allowed: {what}"
            yield FieldViolation(f"{path}.values[{index}]", said)


def _wrong_count(operator: Operator, count: int) -> str:
    """How many values are allowed, when these are not that many."""
    if operator is Operator.IS_SET:
        return "none" if count else ""
    if operator in _SEVERAL:
        return "" if count else "1 to 1000"
    return "" if count == 1 else "1"


def _never_true(comparison: Comparison) -> bool:
    if comparison.field in NUMBERS:
        return comparison.operator in _OF_TEXT
    return not comparison.field.startswith(PROPERTIES) and comparison.operator in _ORDER


def _wrong_value(comparison: Comparison, value: str | float | bool) -> str:
    """What is allowed, when this value is not."""
    operator, field = comparison.operator, comparison.field
    number = isinstance(value, float)
    if operator in _ORDER or (field in NUMBERS and operator not in _OF_TEXT):
        return "" if number else "a number"
    of_text = operator in _OF_TEXT or not field.startswith(PROPERTIES)
    if of_text and not isinstance(value, str):
        return "text"
    if operator is Operator.MATCHES:
        return _wrong_pattern(value)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"at most {LONGEST_TEXT} characters"
    if operator in _PARTS_OF_TEXT and not value:
        return "text that is not empty"
    return ""


def _wrong_pattern(pattern: object) -> str:
    try:
        read_pattern(pattern)
    except ValueError as error:
        return str(error)
    return ""


def _name(operator: Operator) -> str:
    return operator.name
