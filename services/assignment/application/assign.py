"""Decide for many units and many experiments at once, from memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from touchstone_assignment.compiled import CompiledExperiment, Evaluator
from touchstone_assignment.decision import UNKNOWN_EXPERIMENT, Decision, Trace
from touchstone_assignment.subject import Subject

from services.assignment.domain.limits import LIMITS
from shared import errors

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AssignUnits:
    """The units, and the experiments; none means all that can enrol."""

    units: Sequence[Subject]
    experiments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One experiment (None: the project has no such one) and what each unit gets in it."""

    experiment_id: str
    compiled: CompiledExperiment | None
    cells: Sequence[T]


def assign(command: AssignUnits, evaluator: Evaluator) -> list[Column[Decision]]:
    """A column an experiment, in the order asked for, else by id; cells in the order of units.

    RESOURCE_EXHAUSTED above the limit of decisions.
    """
    experiments = _experiments(command, evaluator, LIMITS.max_decisions)
    columns: list[Column[Decision]] = []
    for experiment_id, compiled in experiments:
        if compiled is None:
            cells = [UNKNOWN_EXPERIMENT] * len(command.units)
        else:
            decide = compiled.decide
            cells = [decide(unit) for unit in command.units]
        columns.append(Column(experiment_id, compiled, cells))
    return columns


def explain(command: AssignUnits, evaluator: Evaluator) -> list[Column[Trace]]:
    """The same with what led to each decision, which has a lower limit."""
    experiments = _experiments(command, evaluator, LIMITS.max_explained_decisions)
    columns: list[Column[Trace]] = []
    for experiment_id, compiled in experiments:
        cells = [evaluator.explain(experiment_id, unit) for unit in command.units]
        columns.append(Column(experiment_id, compiled, cells))
    return columns


def serving(evaluator: Evaluator) -> tuple[str, ...]:
    """The experiments that can enrol, by id."""
    return tuple(sorted(key for key, one in evaluator.experiments.items() if one.serves))


def _experiments(
    command: AssignUnits, evaluator: Evaluator, limit: int
) -> list[tuple[str, CompiledExperiment | None]]:
    ids = command.experiments or serving(evaluator)
    decisions = len(ids) * len(command.units)
    if decisions > limit:
        raise errors.limit_exceeded(
            f"units ({len(command.units)}) times experiments ({len(ids)})", decisions, limit
        )
    return [(key, evaluator.experiments.get(key)) for key in ids]
