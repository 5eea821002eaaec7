"""The audiences of a ruleset: compiled when first needed, told apart by their rules."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from touchstone_assignment.conditions import Audiences, IdSet, Predicate, predicate
from touchstone_assignment.subject import Subject

if TYPE_CHECKING:
    from touchstone.assignment.v1.condition_pb2 import Condition
    from touchstone.assignment.v1.ruleset_pb2 import AudienceRule


class AudienceBook:
    """What conditions may name. A list is asked for by its digest when something needs it."""

    def __init__(self, rules: Iterable["AudienceRule"], id_sets: Callable[[str], IdSet]) -> None:
        # Rules that are part of a ruleset would keep all of that in memory.
        self._written = {
            rule.audience: rule.SerializeToString(deterministic=True) for rule in rules
        }
        self._rules = {rule.audience: _copy(rule) for rule in rules}
        self._audiences = Audiences(self._rules.values(), id_sets)
        self._lock = threading.Lock()
        self._members: dict[str, Predicate] = {}

    def predicate(self, condition: "Condition") -> Predicate:
        """Whether the condition is true of a subject.

        ValueError when no decision can follow from it, LookupError when a list is not at hand.
        """
        with self._lock:
            return predicate(condition, self._audiences)

    def written(self, condition: "Condition") -> tuple[bytes, ...]:
        """The rules of all audiences that a condition asks for, however deep, as bytes.

        A condition with the same bytes means the same. A circle of audiences does not matter here.
        """
        found: dict[str, None] = {}
        waiting = [*_asked(condition)]
        while waiting:
            audience_id = waiting.pop()
            if audience_id not in found:
                found[audience_id] = None
                rule = self._rules.get(audience_id)
                waiting += [] if rule is None else _asked(rule.condition)
        return tuple(self._written.get(key, b"") for key in sorted(found))

    def member(self, audience_id: str, subject: Subject) -> bool:
        """Whether the subject belongs; nobody belongs to an audience that does not exist."""
        test = self._members.get(audience_id)
        if test is None:
            if audience_id not in self._rules:
                return False
            with self._lock:
                test = self._members[audience_id] = self._audiences.predicate(audience_id)
        return test(subject)


def _copy(rule: "AudienceRule") -> "AudienceRule":
    own = type(rule)()
    own.CopyFrom(rule)
    return own


def _asked(condition: "Condition") -> Iterator[str]:
    kind = condition.WhichOneof("kind")
    if kind == "audience":
        yield condition.audience
    elif kind == "negated":
        yield from _asked(condition.negated)
    elif kind in ("all", "any"):
        for part in (condition.all if kind == "all" else condition.any).conditions:
            yield from _asked(part)
