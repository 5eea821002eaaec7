"""JsonLogic of flagd as conditions, as far as both say the same of an attribute of one type."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import struct_pb2
from touchstone.assignment.v1 import condition_pb2 as pb

Found = Mapping[str, Any]
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+([-+].+)?")
_MAX_DEPTH = 20


class NotTakenError(Exception):
    """A flag cannot be taken; the text says why."""


def read_condition(rule: Any, evaluators: Found, depth: int = 0) -> pb.Condition:
    """The condition of a rule, with `$ref` looked up; NotTakenError for another kind of rule."""
    if depth > _MAX_DEPTH:
        raise NotTakenError("its targeting is nested too deeply, or asks for itself")
    if not isinstance(rule, dict) or len(rule) != 1:
        raise NotTakenError(f"its targeting asks {_shown(rule)}, which is no condition")
    ((operator, given),) = rule.items()
    if operator == "$ref":
        if given not in evaluators:
            raise NotTakenError(f"its targeting names {_shown(given)}, which `$evaluators` lack")
        return read_condition(evaluators[given], evaluators, depth + 1)
    parts = given if isinstance(given, list) else [given]
    if operator in ("and", "or"):
        listed = pb.ConditionList(
            conditions=[read_condition(part, evaluators, depth + 1) for part in parts]
        )
        return pb.Condition(all=listed) if operator == "and" else pb.Condition(any=listed)
    if operator == "!" and len(parts) == 1:
        return pb.Condition(negated=read_condition(parts[0], evaluators, depth + 1))
    if operator in ("!=", "!==") and len(parts) == 2:
        if parts[1] is None:
            return _compare(_attribute(parts[0]), pb.OPERATOR_IS_SET, [])
        return pb.Condition(negated=_comparison("==", parts))
    return _comparison(operator, parts)


_ORDER = {
    "<": (pb.OPERATOR_LESS, pb.OPERATOR_GREATER),
    "<=": (pb.OPERATOR_LESS_OR_EQUAL, pb.OPERATOR_GREATER_OR_EQUAL),
    ">": (pb.OPERATOR_GREATER, pb.OPERATOR_LESS),
    ">=": (pb.OPERATOR_GREATER_OR_EQUAL, pb.OPERATOR_LESS_OR_EQUAL),
}
_TEXT = {"starts_with": pb.OPERATOR_STARTS_WITH, "ends_with": pb.OPERATOR_ENDS_WITH}
_VERSIONS = {
    "=": pb.OPERATOR_VERSION_EQUAL,
    "<": pb.OPERATOR_VERSION_LESS,
    "<=": pb.OPERATOR_VERSION_LESS_OR_EQUAL,
    ">": pb.OPERATOR_VERSION_GREATER,
    ">=": pb.OPERATOR_VERSION_GREATER_OR_EQUAL,
    "~": pb.OPERATOR_VERSION_SAME_MINOR,
    "^": pb.OPERATOR_VERSION_SAME_MAJOR,
}


def _comparison(operator: str, parts: Sequence[Any]) -> pb.Condition:
    if operator in ("==", "===") and len(parts) == 2:
        return _equal(parts[0], parts[1])
    if operator in _ORDER and len(parts) == 2:
        return _ordered(operator, parts)
    if operator in ("<", "<=") and len(parts) == 3:
        both = [_ordered(operator, parts[:2]), _ordered(operator, parts[1:])]
        return pb.Condition(all=pb.ConditionList(conditions=both))
    if operator == "in" and len(parts) == 2:
        return _one_of(parts[0], parts[1])
    if operator in _TEXT and len(parts) == 2:
        return _compare(_attribute(parts[0]), _TEXT[operator], [_text(parts[1])])
    if operator == "sem_ver" and len(parts) == 3:
        return _version(parts)
    raise NotTakenError(f"its targeting uses `{operator}`, for which there is no condition")


def _ordered(operator: str, parts: Sequence[Any]) -> pb.Condition:
    straight, turned = _ORDER[operator]
    if _is_variable(parts[0]):
        return _compare(_attribute(parts[0]), straight, [_number(parts[1])])
    return _compare(_attribute(parts[1]), turned, [_number(parts[0])])


def _equal(first: Any, second: Any) -> pb.Condition:
    variable, constant = (first, second) if _is_variable(first) else (second, first)
    return _compare(_attribute(variable), pb.OPERATOR_EQUAL, [_scalar(constant)])


def _one_of(needle: Any, hay: Any) -> pb.Condition:
    if isinstance(hay, list):
        return _compare(_attribute(needle), pb.OPERATOR_IN, [_scalar(value) for value in hay])
    return _compare(_attribute(hay), pb.OPERATOR_CONTAINS, [_text(needle)])


def _version(parts: Sequence[Any]) -> pb.Condition:
    attribute, operator, version = _attribute(parts[0]), parts[1], _text(parts[2])
    if _VERSION.fullmatch(version) is None:
        raise NotTakenError(f"its targeting compares with {version!r}, no whole semantic version")
    if operator == "!=":
        return pb.Condition(negated=_compare(attribute, pb.OPERATOR_VERSION_EQUAL, [version]))
    if operator not in _VERSIONS:
        raise NotTakenError(f"its targeting compares versions by {_shown(operator)}")
    return _compare(attribute, _VERSIONS[operator], [version])


def _compare(
    attribute: str, operator: pb.Operator.ValueType, values: Sequence[str | float | bool]
) -> pb.Condition:
    wrapped = []
    for value in values:
        made = struct_pb2.Value()
        if isinstance(value, bool):
            made.bool_value = value
        elif isinstance(value, str):
            made.string_value = value
        else:
            made.number_value = value
        wrapped.append(made)
    return pb.Condition(
        compare=pb.Comparison(attribute=attribute, operator=operator, values=wrapped)
    )


def _is_variable(part: Any) -> bool:
    return isinstance(part, dict) and list(part) == ["var"]


def _attribute(part: Any) -> str:
    if not _is_variable(part):
        raise NotTakenError(f"its targeting compares {_shown(part)}, which is no attribute")
    name = part["var"]
    name = name[0] if isinstance(name, list) and len(name) == 1 else name
    if name == "targetingKey":
        raise NotTakenError(
            "its targeting asks for single ids; force a variant for those, or upload them as an "
            "audience"
        )
    if not isinstance(name, str) or _ATTRIBUTE.fullmatch(name) is None:
        raise NotTakenError(
            f"its targeting asks for {_shown(name)}, which is no name of an attribute: a letter "
            "or '_', then at most 63 of letters, digits, '_' and '-'"
        )
    return name


def _scalar(value: Any) -> str | float | bool:
    if not isinstance(value, str | int | float | bool):
        raise NotTakenError(f"its targeting compares with {_shown(value)}, which is no constant")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotTakenError(f"its targeting compares {_shown(value)}, which is no number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise NotTakenError(f"its targeting compares with {_shown(value)}, which is no text")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
