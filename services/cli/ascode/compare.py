"""What a file wants otherwise than it is, and whether that can be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from touchstone.assignment.v1 import experiment_pb2 as pb

from services.cli.ascode.kinds import Kind
from services.cli.ascode.movement import movement

_EXPERIMENT = pb.Experiment
_LASTING = (_EXPERIMENT.STATE_RUNNING, _EXPERIMENT.STATE_PAUSED)
_ANY_TIME = frozenset(("display_name", "hypothesis", "owner", "metrics"))
_WHILE_IT_LASTS = _ANY_TIME | {"traffic_slots", "schedule", "variants"}
_TO: dict[int, dict[int, tuple[str, ...]]] = {
    _EXPERIMENT.STATE_DRAFT: {
        _EXPERIMENT.STATE_RUNNING: ("Start",),
        _EXPERIMENT.STATE_PAUSED: ("Start", "Pause"),
    },
    _EXPERIMENT.STATE_RUNNING: {
        _EXPERIMENT.STATE_PAUSED: ("Pause",),
        _EXPERIMENT.STATE_STOPPED: ("Stop",),
    },
    _EXPERIMENT.STATE_PAUSED: {
        _EXPERIMENT.STATE_RUNNING: ("Start",),
        _EXPERIMENT.STATE_STOPPED: ("Stop",),
    },
    _EXPERIMENT.STATE_STOPPED: {},
}
_WHY = {
    "kind": "another kind of metric is another metric",
    "salt": "another salt gives every unit another bucket: everybody would be shuffled",
    "unit_type": "other units would be randomised: whoever is in it would be in it no more",
    "hash_version": "another hash gives every unit another bucket: everybody would be shuffled",
    "layer": "the slots of another layer are other units",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that cannot be, with the reason and what can be done instead."""

    field: str
    reason: str


def changed_fields(kind: Kind, old: Any, new: Any) -> list[str]:
    """The fields that differ; `state` not among them, and a salt only when the file states one."""
    found = []
    for name, field in kind.fields.items():
        if name == "state" or (name == "salt" and not new.salt):
            continue
        there = not field.has_presence or old.HasField(name) == new.HasField(name)
        if not there or getattr(old, name) != getattr(new, name):
            found.append(name)
    return found


def without_learned_weights(old: Any, new: Any) -> Any:
    """A bandit that lasts sets its weights by itself: those of the file count before its start."""
    if new.allocation != pb.ALLOCATION_BANDIT or old.state not in _LASTING:
        return new
    made = type(new)()
    made.CopyFrom(new)
    weights = {variant.key: variant.weight for variant in old.variants}
    for variant in made.variants:
        variant.weight = weights.get(variant.key, variant.weight)
    return made


def refusals(kind: Kind, old: Any, new: Any, changed: list[str]) -> Iterator[Refusal]:
    """Which of the changes cannot be."""
    for name in changed:
        if name in kind.fixed:
            why = _WHY.get(name, "it decides who is in it")
            yield Refusal(name, f"is fixed at creation: {why}; make a new one under another id")
    if kind.name == "Domain" and new.traffic_slots < old.traffic_slots:
        yield Refusal("traffic_slots", "may only grow: who is inside would be thrown out")
    if kind.name == "Layer":
        kept = {parameter.key for parameter in new.parameters}
        gone = [parameter.key for parameter in old.parameters if parameter.key not in kept]
        if gone:
            yield Refusal("parameters", f"may only be added to; code may ask for {gone}")
    if kind.name == "Experiment":
        yield from _of_experiment(old, new, [name for name in changed if name not in kind.fixed])


def _of_experiment(old: Any, new: Any, changed: list[str]) -> Iterator[Refusal]:
    lasts = old.state in _LASTING
    named = _EXPERIMENT.State.Name(old.state).removeprefix("STATE_")
    if old.state == _EXPERIMENT.STATE_DRAFT:
        allowed = frozenset(changed)
    else:
        allowed = _WHILE_IT_LASTS if lasts else _ANY_TIME
    for name in changed:
        if name not in allowed:
            editable = ", ".join(sorted(allowed))
            yield Refusal(name, f"is fixed once it is {named}; allowed to change: {editable}")
    if lasts and "traffic_slots" in changed and new.traffic_slots < old.traffic_slots:
        yield Refusal(
            "traffic_slots",
            f"is {old.traffic_slots} and may only grow while it is {named}: "
            f"{_moves(old, new)}; pause or stop it instead",
        )
    if lasts and "variants" in changed and not _only_dropped(old, new):
        yield Refusal(
            "variants",
            f"are fixed while it is {named}, except that one may be dropped: {_moves(old, new)}; "
            "make a new experiment",
        )
    wanted = new.state
    if wanted and wanted != old.state and wanted not in _TO.get(old.state, {}):
        asked = _EXPERIMENT.State.Name(wanted).removeprefix("STATE_")
        yield Refusal("state", f"cannot go from {named} to {asked}; make a new experiment")


def _moves(old: Any, new: Any) -> str:
    as_if = type(new)()
    as_if.CopyFrom(new)
    as_if.state = old.state
    running = type(old)()
    running.CopyFrom(old)
    running.state = as_if.state = _EXPERIMENT.STATE_RUNNING
    share = movement(running, as_if).moved
    return f"{share:.2%} of the units in it would lose or change their variant"


def _only_dropped(old: Any, new: Any) -> bool:
    if len(old.variants) != len(new.variants):
        return False
    for was, wanted in zip(old.variants, new.variants, strict=True):
        same = type(was)()
        same.CopyFrom(was)
        same.dropped = same.dropped or wanted.dropped
        if same != wanted:
            return False
    return True


def verbs(old_state: int, wanted: int) -> tuple[str, ...]:
    """The verbs that lead from one state to another; none where the file asks for none."""
    if not wanted or wanted == old_state:
        return ()
    return _TO.get(old_state, {}).get(wanted, ())
