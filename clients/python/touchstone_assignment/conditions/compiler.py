"""From a condition to one closure over a subject, built once and never interpreted again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from touchstone_assignment.conditions.attribute_tests import Predicate
from touchstone_assignment.conditions.limits import LIMITS
from touchstone_assignment.conditions.operators import RULES, Operator
from touchstone_assignment.conditions.values import scalar
from touchstone_assignment.subject import Subject

if TYPE_CHECKING:
    from touchstone.assignment.v1.condition_pb2 import Comparison, Condition


class CompiledAudience(Protocol):
    """An audience that is ready to be asked, and how large its condition is in full."""

    @property
    def holds(self) -> Predicate:
        """Whether a subject belongs."""
        ...

    @property
    def levels(self) -> int:
        """How deep its condition goes; 1 for a list."""
        ...

    @property
    def nodes(self) -> int:
        """How many conditions it has, with every audience counted wherever it is asked for."""
        ...


class Context(Protocol):
    """What a condition may name."""

    def audience(self, audience_id: str) -> CompiledAudience:
        """The audience; ValueError for one that is not there or asks for itself."""
        ...


class Compiler:
    """Compiles one condition and measures it on the way."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.levels = 0
        self.nodes = 0

    def compile(self, condition: "Condition", level: int = 1) -> Predicate:
        """The predicate.

        ValueError for what no decision can follow from: an empty condition, an operator that this
        program does not know, values that the operator does not take, a circle of audiences, or
        more levels or conditions than the limits allow.
        """
        self._count(level, 1)
        kind = condition.WhichOneof("kind")
        if kind == "compare":
            return _comparison(condition.compare)
        if kind == "all":
            return _all([self.compile(part, level + 1) for part in condition.all.conditions])
        if kind == "any":
            return _any([self.compile(part, level + 1) for part in condition.any.conditions])
        if kind == "negated":
            inner = self.compile(condition.negated, level + 1)
            return lambda subject: not inner(subject)
        if kind == "audience":
            asked = self._context.audience(condition.audience)
            self._count(level + asked.levels, asked.nodes)
            return asked.holds
        raise ValueError("a condition is empty, or of a kind that this program does not know")

    def _count(self, level: int, nodes: int) -> None:
        self.levels = max(self.levels, level)
        self.nodes += nodes
        if self.levels > LIMITS.levels:
            raise ValueError(f"a condition has more than {LIMITS.levels} levels")
        if self.nodes > LIMITS.expanded_nodes:
            raise ValueError(
                f"a condition has more than {LIMITS.expanded_nodes} parts, those of its audiences "
                "included"
            )


def predicate(condition: "Condition", context: Context) -> Predicate:
    """Whether the condition is true of a subject; ValueError as `Compiler.compile` says."""
    return Compiler(context).compile(condition)


def _comparison(compare: "Comparison") -> Predicate:
    try:
        rule = RULES[Operator(compare.operator)]
    except ValueError as error:
        raise ValueError(
            f"operator {compare.operator} of attribute {compare.attribute!r} is not known here; "
            "run a newer version"
        ) from error
    values = [rule.read(scalar(value)) for value in compare.values]
    if not rule.min_values <= len(values) <= rule.max_values:
        raise ValueError(f"{len(values)} values for operator {Operator(compare.operator).name}")
    return rule.build(compare.attribute, values)


def _all(parts: Sequence[Predicate]) -> Predicate:
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        first, second = parts
        return lambda subject: first(subject) and second(subject)
    every = tuple(parts)

    def test(subject: Subject) -> bool:
        # A generator would take longer than many a part.
        for part in every:  # noqa: SIM110  see above
            if not part(subject):
                return False
        return True

    return test


def _any(parts: Sequence[Predicate]) -> Predicate:
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        first, second = parts
        return lambda subject: first(subject) or second(subject)
    every = tuple(parts)

    def test(subject: Subject) -> bool:
        for part in every:  # noqa: SIM110  a generator would take longer
            if part(subject):
                return True
        return False

    return test
