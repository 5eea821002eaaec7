"""The steps of a decision before slot and split: each may keep a unit out.

A gate returns the decision that ends the matter, or None to go on.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from touchstone_assignment.decision import (
    MISSING_UNIT,
    NOT_IN_DOMAIN,
    NOT_TARGETED,
    Decision,
    Reason,
)
from touchstone_assignment.holdouts import CompiledHoldout
from touchstone_assignment.layers import Inside
from touchstone_assignment.subject import Subject
from touchstone_assignment.variants import value_of

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule

Decide = Callable[[Subject], Decision]
Gate = Callable[[Subject, bytes], Decision | None]
Predicate = Callable[[Subject], bool]


def forced_first(rule: "ExperimentRule", others: Decide) -> Decide:
    """Forced variants, by the raw id, before everything else.

    An id of the experiment's own unit type comes before one of another, those in the order of
    their names. ValueError when a variant is forced that the experiment does not have.
    """
    keys = {variant.key for variant in rule.variants}
    tables: dict[str, dict[str | None, Decision]] = {}
    made = {"": Decision(None, Reason.FORCED)}
    for forced in rule.forced:
        if forced.variant and forced.variant not in keys:
            raise ValueError(f"{forced.variant!r} is forced, which is no variant of the experiment")
        if forced.variant not in made:
            value = value_of(rule, forced.variant)
            made[forced.variant] = Decision(forced.variant, Reason.FORCED, value)
        tables.setdefault(forced.unit_type, {})[forced.unit_id] = made[forced.variant]
    ordered = sorted(tables.items(), key=lambda item: (item[0] != rule.unit_type, item[0]))

    def decide(subject: Subject) -> Decision:
        for unit_type, table in ordered:
            found = table.get(subject.ids.get(unit_type))
            if found is not None:
                return found
        return others(subject)

    return decide


def held_out(holdout: CompiledHoldout) -> Gate:
    """Out, when the holdout holds the subject."""
    holds, out = holdout.holds, holdout.out
    return lambda subject, _unit: out if holds(subject) else None


def needing(experiment: str, other: Decide | None, variants: Iterable[str]) -> Gate:
    """Out, unless the other experiment gives one of the variants; none named: any.

    What the other decides is kept with the subject: several experiments may need it, and each of
    those that it needs itself.
    """
    out = Decision(None, Reason.PREREQUISITE, because_of=experiment)
    wanted = frozenset(variants)
    if other is None:
        return lambda _subject, _unit: out

    def gate(subject: Subject, _unit: bytes) -> Decision | None:
        decided = subject.decided
        if decided is None:
            decided = subject.decided = {}
        got = decided.get(other)
        if got is None:
            got = decided[other] = other(subject)
        if got.variant is None or (wanted and got.variant not in wanted):
            return out
        return None

    return gate


def targeted(predicate: Predicate) -> Gate:
    """Out, unless the predicate is true."""
    return lambda subject, _unit: None if predicate(subject) else NOT_TARGETED


def only_targeted(
    unit_type: str, predicate: Predicate, choose: Callable[[Subject, bytes], Decision]
) -> Decide:
    """`behind` with `targeted` as the only gate, in one call less: the commonest experiment."""

    def decide(subject: Subject) -> Decision:
        unit = subject.unit(unit_type)
        if unit is None:
            return MISSING_UNIT
        return choose(subject, unit) if predicate(subject) else NOT_TARGETED

    return decide


def inside_domain(inside: Inside) -> Gate:
    """Out, unless the unit is one of the domain that the layer cuts."""
    return lambda _subject, unit: None if inside(unit) else NOT_IN_DOMAIN


def behind(
    unit_type: str, gates: Sequence[Gate], choose: Callable[[Subject, bytes], Decision]
) -> Decide:
    """The id of the unit type, then every gate in order, then the choice."""

    def ungated(subject: Subject) -> Decision:
        unit = subject.unit(unit_type)
        return MISSING_UNIT if unit is None else choose(subject, unit)

    def gated(subject: Subject) -> Decision:
        unit = subject.unit(unit_type)
        if unit is None:
            return MISSING_UNIT
        for gate in gates:
            out = gate(subject, unit)
            if out is not None:
                return out
        return choose(subject, unit)

    return gated if gates else ungated
