"""Compiled rules with what is asked of them beside decisions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.decision import Decision
from touchstone_assignment.subject import Subject
from touchstone_assignment.variants import value_of

_RUNNING, _NOT_RUNNING = 1, 2
"""Serving: what assigns, or may when a variant is forced."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One configuration version, ready to decide."""

    evaluator: Evaluator
    ruleset: bytes
    digest: str
    config_version: int
    direct: Mapping[str, Callable[[Subject], Decision]]
    """What decides the experiments that need neither the service nor the time: nearly all."""
    server_only: frozenset[str]
    """The experiments that only the service can decide."""
    server_only_parameters: frozenset[str]
    """The parameters that such an experiment may set."""
    lists: Mapping[str, frozenset[str]]
    """The digests of the id lists that each audience needs, also through other audiences."""
    at_hand: frozenset[str]
    """The digests of those lists that these rules were compiled with."""
    unit_types: frozenset[str]
    """The types whose names, as attributes of a context, are ids."""
    controls: Mapping[str, object]
    """The value of the control, by experiment: what a flag has where no variant is served."""


def rules_of(
    message: Any, evaluator: Evaluator, ruleset: bytes, digest: str, at_hand: frozenset[str]
) -> Rules:
    """The rules of a Ruleset and what it was compiled to, with the lists at hand."""
    # Killed and external ones are out whatever the service knows: those are decided here.
    server_only = [
        rule
        for rule in message.experiments
        if rule.server_only and rule.serving in (_RUNNING, _NOT_RUNNING)
    ]
    layers = {rule.layer for rule in server_only}
    return Rules(
        evaluator=evaluator,
        ruleset=ruleset,
        digest=digest,
        config_version=message.config_version,
        direct=_direct(message, evaluator, {rule.experiment for rule in server_only}),
        server_only=frozenset(rule.experiment for rule in server_only),
        server_only_parameters=frozenset(
            parameter.key
            for layer in message.layers
            if layer.layer in layers
            for parameter in layer.parameters
        ),
        lists=_lists(message.audiences),
        at_hand=at_hand,
        unit_types=frozenset(_unit_types(message)),
        controls={rule.experiment: _control(rule) for rule in message.experiments},
    )


def _direct(
    message: Any, evaluator: Evaluator, server_only: Collection[str]
) -> dict[str, Callable[[Subject], Decision]]:
    timed = any(rule.HasField("switchback") for rule in message.experiments)
    found = evaluator.experiments
    return {
        rule.experiment: found[rule.experiment].decide
        for rule in message.experiments
        # One that needs another one may ask for the time through it.
        if rule.experiment not in server_only
        and not (timed and (rule.HasField("switchback") or rule.prerequisites))
    }


def changed_experiments(before: Rules, now: Rules) -> tuple[str, ...]:
    """The ids of the experiments that another rule decides now, also through what they need."""
    old, new = before.evaluator.experiments, now.evaluator.experiments
    gone = old.keys() - new.keys()
    # What did not change was not compiled anew.
    other = {name for name, compiled in new.items() if old.get(name) is not compiled}
    return tuple(sorted(gone | other))


def _unit_types(message: Any) -> Iterator[str]:
    for rule in message.experiments:
        yield rule.unit_type
        if rule.anonymous_unit_type:
            yield rule.anonymous_unit_type
        yield from (forced.unit_type for forced in rule.forced)
    yield from (layer.unit_type for layer in message.layers)
    yield from (holdout.unit_type for holdout in message.holdouts)
    yield from (audience.unit_type for audience in message.audiences if audience.unit_type)


def _lists(audiences: Iterable[Any]) -> dict[str, frozenset[str]]:
    by_id = {rule.audience: rule for rule in audiences}
    found: dict[str, frozenset[str]] = {}

    def needed(audience: str) -> frozenset[str]:
        if audience not in found:
            rule = by_id.get(audience)
            found[audience] = frozenset()
            if rule is not None:
                named = _named(rule.condition) if rule.HasField("condition") else ()
                own = frozenset({rule.digest} - {""})
                found[audience] = own.union(*(needed(other) for other in named))
        return found[audience]

    return {audience: needed(audience) for audience in by_id}


def _named(condition: Any) -> Iterator[str]:
    """The audiences that a condition asks for itself."""
    kind = condition.WhichOneof("kind")
    if kind == "audience":
        yield condition.audience
    elif kind == "negated":
        yield from _named(condition.negated)
    elif kind in ("all", "any"):
        for each in getattr(condition, kind).conditions:
            yield from _named(each)


def _control(rule: Any) -> object:
    value = value_of(rule, rule.control)
    return {} if value is None else value
