"""The audiences of a ruleset, each compiled once however often it is asked for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from touchstone_assignment.conditions.attribute_tests import Predicate
from touchstone_assignment.conditions.compiler import Compiler
from touchstone_assignment.conditions.id_set import IdSet
from touchstone_assignment.subject import Subject

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import AudienceRule


@dataclass(frozen=True, slots=True)
class Compiled:
    """An audience ready to be asked. See CompiledAudience."""

    holds: Predicate
    levels: int
    nodes: int


class Audiences:
    """The context of conditions: audiences by id; lists are fetched by their digest when needed.

    An audience is compiled when it is first asked for, so a fault in one that nothing names harms
    nobody. `id_sets` raises LookupError for a content that it does not have.
    """

    def __init__(self, rules: Iterable["AudienceRule"], id_sets: Callable[[str], IdSet]) -> None:
        self._rules = {rule.audience: rule for rule in rules}
        self._id_sets = id_sets
        self._compiled: dict[str, Compiled] = {}
        self._open: list[str] = []

    def audience(self, audience_id: str) -> Compiled:
        """The audience; ValueError for one that is not there, asks for itself or is not valid."""
        found = self._compiled.get(audience_id)
        if found is None:
            found = self._compiled[audience_id] = self._compile(audience_id)
        return found

    def predicate(self, audience_id: str) -> Predicate:
        """Whether a subject belongs. ValueError as `audience` says."""
        return self.audience(audience_id).holds

    def _compile(self, audience_id: str) -> Compiled:
        rule = self._rules.get(audience_id)
        if rule is None:
            raise ValueError(f"audience {audience_id!r} is not there")
        if audience_id in self._open:
            circle = [*self._open[self._open.index(audience_id) :], audience_id]
            raise ValueError(f"audiences ask for one another in a circle: {' -> '.join(circle)}")
        if rule.unit_type:
            return Compiled(self._listed(rule), levels=1, nodes=1)
        compiler = Compiler(self)
        self._open.append(audience_id)
        try:
            holds = compiler.compile(rule.condition)
        finally:
            self._open.pop()
        return Compiled(holds, compiler.levels, compiler.nodes)

    def _listed(self, rule: "AudienceRule") -> Predicate:
        if not rule.digest:
            return lambda _subject: False
        unit_type, ids = rule.unit_type, self._id_sets(rule.digest)

        def test(subject: Subject) -> bool:
            unit_id = subject.ids.get(unit_type)
            return unit_id is not None and unit_id in ids

        return test
