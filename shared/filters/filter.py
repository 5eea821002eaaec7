"""A question about an event that is true or false."""

import enum
from dataclasses import dataclass


class Operator(enum.Enum):
    """How a field of an event is compared."""

    IS_SET = "is-set"
    EQUAL = "equal"
    IN = "in"
    LESS = "less"
    LESS_OR_EQUAL = "less-or-equal"
    GREATER = "greater"
    GREATER_OR_EQUAL = "greater-or-equal"
    CONTAINS = "contains"
    STARTS_WITH = "starts-with"
    ENDS_WITH = "ends-with"
    MATCHES = "matches"


Literal = str | float | bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field of the event against constants.

    `field` is `value`, `currency`, `source` or `properties.<key>`. A field that the event does not
    have, or that is of another type than the constant, compares as false.
    """

    field: str
    operator: Operator
    values: tuple[Literal, ...] = ()


@dataclass(frozen=True, slots=True)
class AllOf:
    """True when every part is."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True when at least one part is."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Negated:
    """True when the part is not."""

    part: "Filter"


Filter = Comparison | AllOf | AnyOf | Negated
