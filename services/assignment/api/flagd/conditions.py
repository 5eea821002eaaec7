"""Targeting as JsonLogic, as far as the engines of flagd agree with ours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from touchstone.assignment.v1 import condition_pb2 as pb
from touchstone.assignment.v1 import ruleset_pb2
from touchstone_assignment.values import plain

from services.assignment.api.flagd.logic import (
    InexpressibleError,
    Logic,
    is_any_text,
    is_no_truth,
    is_number,
    variable,
)

Audiences = Mapping[str, ruleset_pb2.AudienceRule]
_MAX_DEPTH = 40
Build = Callable[[Logic, Sequence[Any]], Logic]


def condition_logic(condition: pb.Condition, audiences: Audiences, depth: int = 0) -> Logic:
    """Whether the condition is true; InexpressibleError when an engine may say otherwise."""
    if depth > _MAX_DEPTH:
        raise InexpressibleError("targeting is nested too deeply")
    kind = condition.WhichOneof("kind")
    if kind == "compare":
        return _comparison(condition.compare)
    if kind == "all":
        return {"and": [condition_logic(c, audiences, depth + 1) for c in condition.all.conditions]}
    if kind == "any":
        return {"or": [condition_logic(c, audiences, depth + 1) for c in condition.any.conditions]}
    if kind == "negated":
        return {"!": [condition_logic(condition.negated, audiences, depth + 1)]}
    return _audience(condition.audience, audiences, depth)


def _audience(audience_id: str, audiences: Audiences, depth: int) -> Logic:
    rule = audiences.get(audience_id)
    if rule is None:
        raise InexpressibleError(f"audience {audience_id!r} is not there")
    if rule.unit_type:
        raise InexpressibleError(f"audience {audience_id!r} is a list of ids")
    return condition_logic(rule.condition, audiences, depth + 1)


def _comparison(compare: pb.Comparison) -> Logic:
    build = _BUILD.get(compare.operator)
    if build is None:
        name = pb.Operator.Name(compare.operator).removeprefix("OPERATOR_")
        raise InexpressibleError(f"the engines of flagd do not agree on operator {name}")
    return build(variable(compare.attribute), [plain(value) for value in compare.values])


def _is_set(found: Logic, _values: Sequence[Any]) -> Logic:
    return {"!==": [found, None]}


def _equal(found: Logic, values: Sequence[Any]) -> Logic:
    (value,) = values
    same = {"===": [found, value]}
    if isinstance(value, bool):
        return {"and": [{"in": [{"cat": [found]}, ["true", "True", "false", "False"]]}, same]}
    return {"and": [is_no_truth(found), same]} if value in (0, 1) else same


def _one_of(found: Logic, values: Sequence[Any]) -> Logic:
    texts = [value for value in values if isinstance(value, str)]
    others = [value for value in values if not isinstance(value, str)]
    return {"or": [{"in": [found, texts]}, *(_equal(found, [value]) for value in others)]}


def _number(operator: str) -> Build:
    def build(found: Logic, values: Sequence[Any]) -> Logic:
        return {"and": [is_number(found), {operator: [found, values[0]]}]}

    return build


def _contains(found: Logic, values: Sequence[Any]) -> Logic:
    return {"and": [is_any_text(found), {"or": [{"in": [value, found]} for value in values]}]}


def _text(operator: str) -> Build:
    def build(found: Logic, values: Sequence[Any]) -> Logic:
        return {"or": [{operator: [found, value]} for value in values]}

    return build


_BUILD: Mapping[int, Build] = {
    pb.OPERATOR_IS_SET: _is_set,
    pb.OPERATOR_EQUAL: _equal,
    pb.OPERATOR_IN: _one_of,
    pb.OPERATOR_LESS: _number("<"),
    pb.OPERATOR_LESS_OR_EQUAL: _number("<="),
    pb.OPERATOR_GREATER: _number(">"),
    pb.OPERATOR_GREATER_OR_EQUAL: _number(">="),
    pb.OPERATOR_CONTAINS: _contains,
    pb.OPERATOR_STARTS_WITH: _text("starts_with"),
    pb.OPERATOR_ENDS_WITH: _text("ends_with"),
}
