"""From the values of a comparison, already read, to a predicate over one attribute.

Each is a closure with everything but the subject decided. The first line of each reads the
attribute: what is missing is None, which is of no type, so every answer but NEGATED's is false.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from touchstone_assignment.conditions.instants import read_instant
from touchstone_assignment.conditions.networks import Network, in_networks
from touchstone_assignment.conditions.numbers import read_number
from touchstone_assignment.conditions.values import Scalar
from touchstone_assignment.conditions.versions import Version, read_version
from touchstone_assignment.subject import Subject

Predicate = Callable[[Subject], bool]
Build = Callable[[str, Sequence[Any]], Predicate]
"""From an attribute's name and values to the predicate."""


def is_set(name: str, _values: Sequence[object]) -> Predicate:
    """There and not null."""
    return lambda subject: subject.attributes.get(name) is not None


def equal(name: str, values: Sequence[Scalar]) -> Predicate:
    """The same value of the same type."""
    (value,) = values
    if isinstance(value, bool):
        return lambda subject: subject.attributes.get(name) is value
    if isinstance(value, str):

        def same_text(subject: Subject) -> bool:
            found = subject.attributes.get(name)
            return isinstance(found, str) and found == value

        return same_text
    return number_test(operator.eq)(name, values)


def one_of(name: str, values: Sequence[Scalar]) -> Predicate:
    """The same as one of the values, each by its type."""
    texts = frozenset(value for value in values if isinstance(value, str))
    truths = frozenset(value for value in values if isinstance(value, bool))
    numbers = frozenset(value for value in values if isinstance(value, float))

    def text(subject: Subject) -> bool:
        found = subject.attributes.get(name)
        return isinstance(found, str) and found in texts

    def any_type(subject: Subject) -> bool:
        found = subject.attributes.get(name)
        if isinstance(found, str):
            return found in texts
        if isinstance(found, bool):
            return found in truths
        return read_number(found) in numbers

    return any_type if truths or numbers else text


def number_test(compare: Callable[[float, float], bool]) -> Build:
    """A number that compares so with the value; NaN never does."""

    def build(name: str, values: Sequence[float]) -> Predicate:
        (value,) = values

        def test(subject: Subject) -> bool:
            found = subject.attributes.get(name)
            if type(found) is float:
                return compare(found, value)
            number = read_number(found)
            return number is not None and compare(number, value)

        return test

    return build


def contains(name: str, values: Sequence[str]) -> Predicate:
    """Text that holds one of the values."""
    parts = tuple(values)

    def test(subject: Subject) -> bool:
        found = subject.attributes.get(name)
        if isinstance(found, str):
            for part in parts:
                if part in found:
                    return True
        return False

    return test


def starts_with(name: str, values: Sequence[str]) -> Predicate:
    """Text that starts with one of the values."""
    starts = tuple(values)

    def test(subject: Subject) -> bool:
        found = subject.attributes.get(name)
        return isinstance(found, str) and found.startswith(starts)

    return test


def ends_with(name: str, values: Sequence[str]) -> Predicate:
    """Text that ends with one of the values."""
    ends = tuple(values)

    def test(subject: Subject) -> bool:
        found = subject.attributes.get(name)
        return isinstance(found, str) and found.endswith(ends)

    return test


def matches(name: str, values: Sequence[Callable[[object], bool]]) -> Predicate:
    """Text in which the expression is found."""
    (found,) = values
    return lambda subject: found(subject.attributes.get(name))


def version_test(compare: Callable[[Version, Version], bool], parts: int = 5) -> Build:
    """A semantic version that compares so with the value in its first `parts`."""

    def build(name: str, values: Sequence[Version]) -> Predicate:
        value: Any = values[0][:parts]

        def test(subject: Subject) -> bool:
            found: Any = read_version(subject.attributes.get(name))
            return found is not None and compare(found[:parts], value)

        return test

    return build


def instant_test(compare: Callable[[int, int], bool]) -> Build:
    """An instant that compares so with the value."""

    def build(name: str, values: Sequence[int]) -> Predicate:
        (value,) = values

        def test(subject: Subject) -> bool:
            found = read_instant(subject.attributes.get(name))
            return found is not None and compare(found, value)

        return test

    return build


def in_network(name: str, values: Sequence[Network]) -> Predicate:
    """An address in one of the networks."""
    holds = in_networks(values)
    return lambda subject: holds(subject.attributes.get(name))
