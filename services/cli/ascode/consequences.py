"""What a plan does to experiments that it does not name: those that need what changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from services.cli.ascode.kinds import Kind
from services.cli.ascode.movement import having, lost
from services.cli.ascode.needs import needs_of
from services.cli.ascode.present import Key, Present

Losing = Callable[[Sequence[str]], float]
"""By the variants that are asked for: the share that has one of them and loses it."""
_UPDATED = ("update", "move")


class Changed(Protocol):
    """A step of a plan."""

    @property
    def action(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def resource_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def wanted(self) -> Any: ...
    @property
    def old(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Consequence:
    """An experiment that runs before and after, and decides otherwise because of a step."""

    cause: str
    """The step, for people."""
    experiment: str
    enrolled: float
    """The share of the layer's units that have a variant in it, from 0 to 1."""
    leaving: float | None
    """The share that loses it; None when that depends on attributes of the units."""


def consequences(
    steps: Iterable[Changed], project: Mapping[Key, Present]
) -> tuple[Consequence, ...]:
    """Of prerequisites whose units leave, and of audiences that change."""
    changed = {(step.kind.name, step.resource_id): step for step in steps}
    after = _after(changed, project)
    found: list[Consequence] = []
    for key, step in changed.items():
        if step.action not in _UPDATED:
            continue
        if key[0] == "Experiment":
            found += _of_prerequisite(step, after)
        elif key[0] == "Audience":
            found += _of_audience(step, after)
    return tuple(found)


def _after(
    changed: Mapping[Key, Changed], project: Mapping[Key, Present]
) -> dict[Key, tuple[Kind, Any]]:
    """Experiments and audiences as they will be; of experiments only those that go on."""
    found: dict[Key, tuple[Kind, Any]] = {}
    for key, one in project.items():
        step = changed.get(key)
        updated = step is not None and step.action in _UPDATED
        message = as_it_will_be(one.message, step.wanted) if step and updated else one.message
        if key[0] == "Audience" or (
            key[0] == "Experiment" and having(message) and having(one.message)
        ):
            found[key] = one.kind, message
    return found


def as_it_will_be(old: Any, wanted: Any) -> Any:
    """What a file wants, with what it does not say: the kill switch, and perhaps the state."""
    made = type(wanted)()
    made.CopyFrom(wanted)
    if old is not None and "killed" in made.DESCRIPTOR.fields_by_name:
        made.killed = old.killed
        made.state = wanted.state or old.state
    return made


def _of_prerequisite(step: Changed, after: Mapping[Key, tuple[Kind, Any]]) -> Iterator[Consequence]:
    new = as_it_will_be(step.old, step.wanted)
    return _needing(step, step.resource_id, partial(lost, step.old, new), after)


def _needing(
    step: Changed, needed: str, losing: Losing, after: Mapping[Key, tuple[Kind, Any]]
) -> Iterator[Consequence]:
    """Those that need an experiment, which some units leave, and those that need them."""
    for (kind, name), (_, message) in after.items():
        for need in message.prerequisites if kind == "Experiment" else ():
            share = losing(tuple(need.variants))
            if need.experiment.rpartition("/")[2] == needed and share:
                # Its own cuts are independent of those of what it needs.
                yield Consequence(step.name, name, having(message), having(message) * share)
                yield from _needing(step, name, partial(_both, message, share), after)


def _both(message: Any, share: float, variants: Sequence[str]) -> float:
    return having(message, variants) * share


def _of_audience(step: Changed, after: Mapping[Key, tuple[Kind, Any]]) -> Iterator[Consequence]:
    needs = {key: needs_of(kind, message) for key, (kind, message) in after.items()}
    reached = {("Audience", step.resource_id)}
    before = 0
    while before != len(reached):
        before = len(reached)
        reached |= {key for key, named in needs.items() if not reached.isdisjoint(named)}
    for key in sorted(reached):
        if key[0] == "Experiment":
            yield Consequence(step.name, key[1], having(after[key][1]), None)
