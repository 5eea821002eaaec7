"""What has to happen so that a project is as its files say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from touchstone.assignment.v1 import experiment_pb2 as pb

from services.cli.ascode.compare import (
    Refusal,
    changed_fields,
    refusals,
    verbs,
    without_learned_weights,
)
from services.cli.ascode.consequences import Consequence, as_it_will_be, consequences
from services.cli.ascode.kinds import Kind
from services.cli.ascode.movement import Movement, movement
from services.cli.ascode.needs import in_order, needs_of
from services.cli.ascode.present import Key, Present, is_own_layer, stated
from services.cli.ascode.resources import Declared

_DRAFT = pb.Experiment.STATE_DRAFT
_GOING = ("Pause", "Stop")
_PRUNED = {
    "UnitType": "Delete",
    "Attribute": "Delete",
    "Audience": "Delete",
    "Domain": "Release",
    "Metric": "Archive",
    "Experiment": "Archive",
    "Holdout": "End",
    "ChannelGrouping": "Delete",
}
_LASTING = (pb.Experiment.STATE_RUNNING, pb.Experiment.STATE_PAUSED)


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one resource."""

    action: str
    """create, update, move, prune or keep (is not in the files, and stays)."""
    kind: Kind
    resource_id: str
    wanted: Any = None
    """The message of the file; None for what is pruned or kept."""
    old: Any = None
    """The message of the service; None for what is created."""
    fields: tuple[str, ...] = ()
    """What is updated."""
    verbs: tuple[str, ...] = ()
    """What its life does, in this order."""
    movement: Movement = field(default_factory=Movement)
    refusals: tuple[Refusal, ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind.name} {self.resource_id}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, in an order in which each can be done."""

    steps: tuple[Step, ...]
    consequences: tuple[Consequence, ...] = ()
    """What it does to experiments that no step is about."""

    @property
    def differs(self) -> bool:
        """Whether anything has to happen."""
        return any(step.action != "keep" for step in self.steps)

    @property
    def refused(self) -> list[tuple[Step, Refusal]]:
        """What cannot be."""
        return [(step, refusal) for step in self.steps for refusal in step.refusals]


def make_plan(
    declared: Iterable[Declared], project: Mapping[Key, Present], *, prune: bool = False
) -> Plan:
    """The plan. What is not in the files is kept, or pruned when that is asked for."""
    wanted = {each.key: each for each in declared}
    needs = {key: needs_of(each.kind, each.message) for key, each in wanted.items()}
    steps = [_step(each, project.get(each.key)) for each in in_order(wanted, needs)]
    others = {
        key: one
        for key, one in project.items()
        if key not in wanted and not is_own_layer(one, project)
    }
    theirs = {key: needs_of(one.kind, one.message) for key, one in others.items()}
    left = [_left(one, prune=prune) for one in reversed(in_order(others, theirs))]
    changes = [step for step in steps if step is not None]
    return Plan((*changes, *left), consequences(changes, project))


def _step(each: Declared, found: Present | None) -> Step | None:
    new = stated(each.kind, each.resource_id, each.message)
    if found is None:
        return _create(each, new)
    old = stated(each.kind, each.resource_id, found.message)
    if each.kind.name == "Experiment":
        new = without_learned_weights(found.message, new)
    fields = changed_fields(each.kind, old, new)
    refused = tuple(refusals(each.kind, old, new, fields))
    moved = verbs(old.state, new.state) if each.kind.name == "Experiment" else ()
    if not fields and not moved and not refused:
        return None
    return Step(
        "update" if fields else "move",
        each.kind,
        each.resource_id,
        new,
        found.message,
        tuple(fields),
        moved,
        _movement(each.kind, found.message, new),
        refused,
    )


def _create(each: Declared, new: Any) -> Step:
    refused: list[Refusal] = []
    if getattr(new, "salt", ""):
        refused.append(Refusal("salt", "is chosen by the service; leave it out of a new one"))
    moved: tuple[str, ...] = ()
    if each.kind.name == "Experiment":
        moved = verbs(_DRAFT, new.state)
        if new.state and new.state != _DRAFT and not moved:
            refused.append(Refusal("state", "of a new one: allowed are DRAFT, RUNNING, PAUSED"))
    return Step(
        "create",
        each.kind,
        each.resource_id,
        new,
        verbs=moved,
        movement=_movement(each.kind, None, new),
        refusals=tuple(refused),
    )


def _movement(kind: Kind, old: Any, new: Any) -> Movement:
    if kind.name != "Experiment":
        return Movement()
    return movement(old, as_it_will_be(old, new))


def _left(one: Present, *, prune: bool) -> Step:
    verb = _PRUNED.get(one.kind.name)
    if not prune or verb is None:
        return Step("keep", one.kind, one.resource_id, old=one.message)
    refused: tuple[Refusal, ...] = ()
    if one.kind.name == "Experiment" and one.message.state in _LASTING:
        reason = "lasts still; say `state: STOPPED` in a file first, and take it out after that"
        refused = (Refusal("state", reason),)
    return Step(
        "prune", one.kind, one.resource_id, old=one.message, verbs=(verb,), refusals=refused
    )


def in_phases(plan: Plan) -> list[tuple[Step, str]]:
    """Each call of the plan as a step and a verb: first what goes, so that slots come free; then
    what is made or changed; then what starts; at the end what is pruned.
    """
    going = [
        (step, verb)
        for step in reversed(plan.steps)
        if step.action in ("update", "move")
        for verb in step.verbs
        if verb in _GOING and "Start" not in step.verbs
    ]
    made = [(step, "Create") for step in plan.steps if step.action == "create"]
    changed = [(step, "Update") for step in plan.steps if step.action == "update"]
    in_between = sorted([*made, *changed], key=lambda each: plan.steps.index(each[0]))
    starting = [
        (step, verb)
        for step in plan.steps
        if step.action != "prune" and "Start" in step.verbs
        for verb in step.verbs
    ]
    pruned = [(step, verb) for step in plan.steps if step.action == "prune" for verb in step.verbs]
    return [*going, *in_between, *starting, *pruned]
