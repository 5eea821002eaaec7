"""Every fault of a condition at once: where it stands, what it is, and what is allowed."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from touchstone_assignment.conditions.attribute_type import AttributeType
from touchstone_assignment.conditions.limits import LIMITS
from touchstone_assignment.conditions.operators import RULES, Operator, Rule
from touchstone_assignment.conditions.values import scalar

if TYPE_CHECKING:
    from touchstone.assignment.v1.condition_pb2 import Comparison, Condition

Fault = tuple[str, str]
"""The path of a field, and `is <value>; allowed: <what>`."""

_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_SHOWN = 320
# What a constant must be for the attribute to be equal to it. An instant may be written both ways.
_EQUAL_TO: Mapping[AttributeType, tuple[type, ...]] = {
    AttributeType.STRING: (str,),
    AttributeType.NUMBER: (float,),
    AttributeType.BOOLEAN: (bool,),
    AttributeType.VERSION: (str,),
    AttributeType.INSTANT: (str, float),
    AttributeType.ADDRESS: (str,),
}
_WORDS: Mapping[type, str] = {str: "text", float: "a number", bool: "true or false"}


def faults(
    condition: "Condition",
    attribute_types: Mapping[str, str],
    field: str,
    audiences: Container[str] | None = None,
) -> list[Fault]:
    """All faults of a condition that stands at `field`; none means that it compiles.

    `attribute_types` are the names of the types that the project declares, by attribute; none
    declared: any attribute may be asked for.
    `audiences` are the ids that it may ask for; None: any. What only shows with all audiences in
    view (a circle, the size in full) is not judged here: compiling says it.
    """
    return list(_Judge(attribute_types, audiences).condition(condition, field, 1))


class _Judge:
    def __init__(self, types: Mapping[str, str], audiences: Container[str] | None) -> None:
        self._types = types
        self._audiences = audiences
        self._nodes = 0

    def condition(self, condition: "Condition", field: str, level: int) -> Iterator[Fault]:
        self._nodes += 1
        if level > LIMITS.levels:
            yield _fault(field, f"{level} levels deep", f"at most {LIMITS.levels} levels")
            return
        if self._nodes == LIMITS.nodes + 1:
            yield _fault(field, f"condition {LIMITS.nodes + 1}", f"at most {LIMITS.nodes} in all")
        if self._nodes > LIMITS.nodes:
            return
        kind = condition.WhichOneof("kind")
        if kind == "compare":
            yield from self._comparison(condition.compare, f"{field}.compare")
        elif kind == "all":
            yield from self._parts(condition.all.conditions, f"{field}.all", level)
        elif kind == "any":
            yield from self._parts(condition.any.conditions, f"{field}.any", level)
        elif kind == "negated":
            yield from self.condition(condition.negated, f"{field}.negated", level + 1)
        elif kind == "audience":
            yield from self._audience(condition.audience, f"{field}.audience")
        else:
            yield _fault(field, "empty", "one of all, any, negated, compare and audience")

    def _parts(self, parts: Sequence["Condition"], field: str, level: int) -> Iterator[Fault]:
        if not parts:
            yield _fault(f"{field}.conditions", "empty", "1 to 100 conditions")
        for index, part in enumerate(parts):
            yield from self.condition(part, f"{field}[{index}]", level + 1)

    def _audience(self, audience: str, field: str) -> Iterator[Fault]:
        if self._audiences is not None and audience not in self._audiences:
            yield _fault(field, _shown(audience), "an audience of this project; create it first")

    def _comparison(self, compare: "Comparison", field: str) -> Iterator[Fault]:
        if _ATTRIBUTE.fullmatch(compare.attribute) is None:
            allowed = "1 to 64 characters: a letter or '_', then letters, digits, '_', '.' and '-'"
            yield _fault(f"{field}.attribute", _shown(compare.attribute), allowed)
        declared = self._declared(compare.attribute)
        if self._types and declared is None:
            allowed = f"an attribute that the project declares: {', '.join(sorted(self._types))}"
            yield _fault(f"{field}.attribute", _shown(compare.attribute), _cut(allowed))
        try:
            chosen = Operator(compare.operator)
        except ValueError:
            yield _fault(f"{field}.operator", str(compare.operator), "an operator of the contract")
            return
        if declared is not None and declared not in RULES[chosen].fits:
            yield _fault(
                f"{field}.operator",
                chosen.name,
                f"operators for {declared}, the type of attribute {compare.attribute!r}: "
                f"{', '.join(_names_for(declared))}",
            )
            declared = None
        yield from _values(compare, chosen, declared, f"{field}.values")

    def _declared(self, attribute: str) -> AttributeType | None:
        declared = self._types.get(attribute)
        return None if declared is None else AttributeType(declared)


def _values(
    compare: "Comparison", chosen: Operator, declared: AttributeType | None, field: str
) -> Iterator[Fault]:
    rule = RULES[chosen]
    values = [scalar(value) for value in compare.values]
    if not rule.min_values <= len(values) <= rule.max_values:
        yield _fault(field, f"{len(values)} values", f"{_count(rule)} for {chosen.name}")
        return
    same_type = declared if chosen in (Operator.EQUAL, Operator.IN) else None
    for index, value in enumerate(values):
        place = f"{field}[{index}]"
        try:
            rule.read(value)
        except ValueError as error:
            yield _fault(place, _shown(value), str(error))
            continue
        if same_type is not None and not isinstance(value, _EQUAL_TO[same_type]):
            words = " or ".join(_WORDS[kind] for kind in _EQUAL_TO[same_type])
            allowed = f"{words}, as attribute {compare.attribute!r} is of type {same_type}"
            yield _fault(place, _shown(value), allowed)


def _count(rule: Rule) -> str:
    if rule.min_values == rule.max_values:
        return {0: "none", 1: "exactly one"}[rule.max_values]
    return f"{rule.min_values} to {rule.max_values:,}"


def _names_for(declared: AttributeType) -> list[str]:
    return [operator.name for operator, rule in RULES.items() if declared in rule.fits]


def _fault(field: str, value: str, allowed: str) -> Fault:
    return field, f"is {value}; allowed: {allowed}"


def _shown(value: object) -> str:
    if value is not None and not isinstance(value, (str, float, bool)):
        return "a list or an object"
    return _cut("null" if value is None else ascii(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
