"""What an experiment needs of others: that they are there, and that nobody waits for himself."""

from collections.abc import Iterator, Mapping, Sequence

from services.assignment.domain.experiment import (
    Allocation,
    AssignmentSource,
    Design,
    Experiment,
    Prerequisite,
    State,
)
from services.assignment.domain.feature_rules import fault
from services.assignment.domain.limits import LIMITS, Limits
from shared import errors
from shared.errors import FieldViolation

_OVER = (State.STOPPED, State.ARCHIVED)
_HOLDING = (State.RUNNING, State.PAUSED)
_STEADY = (
    "one whose units keep what the rules give them: of FIXED weights, no switchback, not sticky "
    "and without anonymous ids"
)
Edges = Mapping[str, Sequence[str]]
"""From an experiment to others, by their ids."""


def require_prerequisites(
    experiment: Experiment, others: Mapping[str, Experiment], limits: Limits = LIMITS
) -> None:
    """INVALID_ARGUMENT with every fault of what the experiment needs.

    `others` holds every experiment of the project; what it holds of this one does not count. The
    depth is judged through the experiment, so with those that need it too.
    """
    design = experiment.design
    if not design.prerequisites:
        return
    project = {**others, experiment.experiment_id: experiment}
    faults = [
        found
        for index, needed in enumerate(design.prerequisites)
        for found in _faults(f"prerequisites[{index}]", experiment, needed, project)
    ]
    needs = _needs(project)
    circle = _circle(experiment.experiment_id, needs)
    if circle:
        faults.append(_named("the circle", circle, "prerequisites without a circle"))
    else:
        chain = _chain(experiment.experiment_id, project, needs)
        if len(chain) - 1 > limits.max_prerequisite_depth:
            allowed = f"a chain of at most {limits.max_prerequisite_depth} prerequisites"
            faults.append(_named("a chain", chain, allowed))
    if faults:
        raise errors.invalid_fields(faults)


def needed_by(experiment_id: str, others: Mapping[str, Experiment]) -> list[str]:
    """The ids of the experiments that are not over and need this one, in ascending order."""
    return sorted(
        key
        for key, other in others.items()
        if other.state not in _OVER
        and any(needed.experiment_id == experiment_id for needed in other.design.prerequisites)
    )


def require_not_needed(experiment: Experiment, others: Mapping[str, Experiment], to: State) -> None:
    """FAILED_PRECONDITION, naming them, while others need the experiment that is to end.

    It may be archived when all of them are over, and stopped when none of them runs or may go on:
    all their units would lose their variants, and not get them back.
    """
    names = [
        name
        for name in needed_by(experiment.experiment_id, others)
        if to is State.ARCHIVED or others[name].state in _HOLDING
    ]
    if names:
        raise errors.wrong_state(
            f"experiment {experiment.experiment_id}",
            f"a prerequisite of {', '.join(names[:10])}",
            "archive" if to is State.ARCHIVED else "stop",
            "experiments that do without it; stop or archive those first, or kill or pause this "
            "one when nobody may get it meanwhile",
        )


def require_offered(experiment: Experiment, others: Mapping[str, Experiment]) -> None:
    """INVALID_ARGUMENT when another experiment needs a unit to get a variant that is gone, or needs
    this one, which its units would not keep.
    """
    keys = {variant.key for variant in experiment.design.variants}
    names = needed_by(experiment.experiment_id, others)
    faults = [
        fault("variants", sorted(keys), f"with {key!r}, which experiment {name!r} needs")
        for name in names
        for needed in others[name].design.prerequisites
        if needed.experiment_id == experiment.experiment_id
        for key in needed.variants
        if key not in keys
    ]
    moving = moves_units(experiment.design)
    if names and moving:
        faults.append(fault(moving, experiment.experiment_id, f"{_STEADY}; {names[:10]} need it"))
    if faults:
        raise errors.invalid_fields(faults)


def moves_units(design: Design) -> str | None:
    """The field of a design by which its units may get another variant while it runs, or get one
    that the rules alone do not tell; None when there is none.
    """
    if design.allocation is Allocation.BANDIT:
        return "allocation"
    if design.switchback is not None:
        return "switchback"
    if design.sticky:
        return "sticky"
    return "anonymous_unit_type" if design.anonymous_unit_type else None


def _faults(
    field: str, experiment: Experiment, needed: Prerequisite, project: Mapping[str, Experiment]
) -> Iterator[FieldViolation]:
    name, design = f"{field}.experiment", experiment.design
    other = project.get(needed.experiment_id)
    if other is None:
        yield fault(name, needed.experiment_id, "an experiment of the project; create it first")
        return
    if other is experiment:
        return  # That is a circle.
    if other.state in _OVER:
        yield fault(name, needed.experiment_id, f"one that is not over; it is {other.state}")
    if other.design.source is AssignmentSource.EXTERNAL:
        yield fault(name, needed.experiment_id, "one that is assigned here; others assign it")
    elif other.design.layer == design.layer:
        allowed = f"one of another layer; no unit is in two experiments of layer {design.layer!r}"
        yield fault(name, needed.experiment_id, allowed)
    if other.design.unit_type != design.unit_type:
        allowed = (
            f"one about units of type {design.unit_type!r}; it is about {other.design.unit_type!r}"
        )
        yield fault(name, needed.experiment_id, allowed)
    moving = moves_units(other.design)
    if moving:
        yield fault(name, needed.experiment_id, f"{_STEADY}; its {moving} says otherwise")
    keys = [variant.key for variant in other.design.variants]
    for index, key in enumerate(needed.variants):
        if key not in keys:
            allowed = f"the key of a variant of {needed.experiment_id!r}, one of {keys[:10]}"
            yield fault(f"{field}.variants[{index}]", key, allowed)


def _named(what: str, ids: Sequence[str], allowed: str) -> FieldViolation:
    """A fault that names every experiment on the way, each of which needs the next."""
    return FieldViolation("prerequisites", f"make {what} {' -> '.join(ids)}; allowed: {allowed}")


def _needs(project: Mapping[str, Experiment]) -> Edges:
    """From each experiment to those that it needs."""
    return {
        key: [needed.experiment_id for needed in found.design.prerequisites]
        for key, found in project.items()
    }


def _circle(start: str, needs: Edges) -> list[str]:
    """The shortest way from the experiment back to itself; empty when there is none."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        longer = []
        for way in ways:
            for needed in needs.get(way[-1], ()):
                if needed == start:
                    return [*way, start]
                if needed not in seen:
                    seen.add(needed)
                    longer.append([*way, needed])
        ways = longer
    return []


def _chain(start: str, project: Mapping[str, Experiment], needs: Edges) -> list[str]:
    """The longest chain of experiments of which each needs the next, through this one."""
    needed_in: dict[str, list[str]] = {}
    for key, others in needs.items():
        if project[key].state not in _OVER:
            for other in others:
                needed_in.setdefault(other, []).append(key)
    above = _longest(start, needed_in, {})
    return [*reversed(above), *_longest(start, needs, {})[1:]]


def _longest(start: str, edges: Edges, known: dict[str, list[str]]) -> list[str]:
    """The longest way from an experiment, which stands first. Without a circle it ends."""
    if start not in known:
        ways = [_longest(after, edges, known) for after in edges.get(start, ())]
        known[start] = [start, *max(ways, key=len, default=[])]
    return known[start]
