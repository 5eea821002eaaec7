"""The operators: how many values each takes, what they may be, and what it builds of them."""

import enum
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from touchstone_assignment.conditions import attribute_tests as tests
from touchstone_assignment.conditions import instants, versions
from touchstone_assignment.conditions.attribute_type import AttributeType
from touchstone_assignment.conditions.limits import LIMITS
from touchstone_assignment.conditions.networks import read_network
from touchstone_assignment.conditions.patterns import read_pattern
from touchstone_assignment.conditions.values import read_finite, read_scalar, read_text


class Operator(enum.IntEnum):
    """The numbers of the contract's enum."""

    IS_SET = 1
    EQUAL = 2
    IN = 3
    LESS = 4
    LESS_OR_EQUAL = 5
    GREATER = 6
    GREATER_OR_EQUAL = 7
    CONTAINS = 8
    STARTS_WITH = 9
    ENDS_WITH = 10
    MATCHES = 11
    VERSION_EQUAL = 12
    VERSION_LESS = 13
    VERSION_LESS_OR_EQUAL = 14
    VERSION_GREATER = 15
    VERSION_GREATER_OR_EQUAL = 16
    VERSION_SAME_MINOR = 17
    VERSION_SAME_MAJOR = 18
    BEFORE = 19
    NOT_BEFORE = 20
    IN_NETWORK = 21


@dataclass(frozen=True, slots=True)
class Rule:
    """One operator. `read` raises ValueError with what is allowed; `fits` are attribute types."""

    build: tests.Build
    read: Callable[[object], object]
    fits: frozenset[AttributeType]
    min_values: int = 1
    max_values: int = 1


def _read_version(value: object) -> versions.Version:
    found = versions.read_version(value)
    if found is None:
        raise ValueError(versions.ALLOWED)
    return found


def _read_instant(value: object) -> int:
    found = instants.read_instant(value)
    if found is None:
        raise ValueError(instants.ALLOWED)
    return found


_ANY = frozenset(AttributeType)
# What is text by its nature may be compared as text as well.
_TEXT = frozenset({AttributeType.STRING, AttributeType.VERSION, AttributeType.ADDRESS})
_NUMBER = frozenset({AttributeType.NUMBER})
_VERSION = frozenset({AttributeType.VERSION})
_INSTANT = frozenset({AttributeType.INSTANT})
_ADDRESS = frozenset({AttributeType.ADDRESS})
_MANY = LIMITS.values


def _number(compare: Callable[[float, float], bool]) -> Rule:
    return Rule(tests.number_test(compare), read_finite, _NUMBER)


def _text(build: tests.Build) -> Rule:
    return Rule(build, read_text, _TEXT, max_values=_MANY)


def _version(compare: Callable[[versions.Version, versions.Version], bool], parts: int = 5) -> Rule:
    return Rule(tests.version_test(compare, parts), _read_version, _VERSION)


def _instant(compare: Callable[[int, int], bool]) -> Rule:
    return Rule(tests.instant_test(compare), _read_instant, _INSTANT)


RULES: Final[Mapping[Operator, Rule]] = {
    Operator.IS_SET: Rule(tests.is_set, read_scalar, _ANY, min_values=0, max_values=0),
    Operator.EQUAL: Rule(tests.equal, read_scalar, _ANY),
    Operator.IN: Rule(tests.one_of, read_scalar, _ANY, max_values=_MANY),
    Operator.LESS: _number(operator.lt),
    Operator.LESS_OR_EQUAL: _number(operator.le),
    Operator.GREATER: _number(operator.gt),
    Operator.GREATER_OR_EQUAL: _number(operator.ge),
    Operator.CONTAINS: _text(tests.contains),
    Operator.STARTS_WITH: _text(tests.starts_with),
    Operator.ENDS_WITH: _text(tests.ends_with),
    Operator.MATCHES: Rule(tests.matches, read_pattern, _TEXT),
    Operator.VERSION_EQUAL: _version(operator.eq),
    Operator.VERSION_LESS: _version(operator.lt),
    Operator.VERSION_LESS_OR_EQUAL: _version(operator.le),
    Operator.VERSION_GREATER: _version(operator.gt),
    Operator.VERSION_GREATER_OR_EQUAL: _version(operator.ge),
    Operator.VERSION_SAME_MINOR: _version(operator.eq, parts=2),
    Operator.VERSION_SAME_MAJOR: _version(operator.eq, parts=1),
    Operator.BEFORE: _instant(operator.lt),
    Operator.NOT_BEFORE: _instant(operator.ge),
    Operator.IN_NETWORK: Rule(tests.in_network, read_network, _ADDRESS, max_values=_MANY),
}
