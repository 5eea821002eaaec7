"""Decide for many units and many experiments at once, from memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from touchstone_assignment.bucketing import unit_bytes

from services.assignment.domain.compile import (
    MISSING_UNIT,
    UNKNOWN_EXPERIMENT,
    CompiledExperiment,
    Snapshot,
)
from services.assignment.domain.decision import Decision, Trace
from services.assignment.domain.explain import trace, trace_unknown
from services.assignment.domain.limits import LIMITS
from shared import errors

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AssignUnits:
    """The ids of each unit by type, and the experiments; none means all that can enrol."""

    units: Sequence[Mapping[str, str]]
    experiments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One experiment (None: the project has no such one) and what each unit gets in it."""

    experiment_id: str
    compiled: CompiledExperiment | None
    cells: Sequence[T]


def assign(command: AssignUnits, snapshot: Snapshot) -> list[Column[Decision]]:
    """A column an experiment, in the order asked for, else by id; cells in the order of units.

    RESOURCE_EXHAUSTED above the limit of decisions.
    """
    experiments = _experiments(command, snapshot, LIMITS.max_decisions)
    encoded: dict[str, list[bytes | None]] = {}
    columns: list[Column[Decision]] = []
    for experiment_id, compiled in experiments:
        if compiled is None:
            cells = [UNKNOWN_EXPERIMENT] * len(command.units)
        else:
            units = encoded.get(compiled.unit_type)
            if units is None:
                units = encoded[compiled.unit_type] = _encoded(command, compiled.unit_type)
            decide = compiled.decide
            cells = [MISSING_UNIT if unit is None else decide(unit) for unit in units]
        columns.append(Column(experiment_id, compiled, cells))
    return columns


def explain(command: AssignUnits, snapshot: Snapshot) -> list[Column[Trace]]:
    """The same with what led to each decision, which has a lower limit."""
    experiments = _experiments(command, snapshot, LIMITS.max_explained_decisions)
    columns: list[Column[Trace]] = []
    for experiment_id, compiled in experiments:
        if compiled is None:
            cells = [trace_unknown(experiment_id)] * len(command.units)
        else:
            unit_type = compiled.unit_type
            cells = [trace(compiled, unit.get(unit_type)) for unit in command.units]
        columns.append(Column(experiment_id, compiled, cells))
    return columns


def _experiments(
    command: AssignUnits, snapshot: Snapshot, limit: int
) -> list[tuple[str, CompiledExperiment | None]]:
    ids = command.experiments or tuple(
        sorted(key for key, compiled in snapshot.experiments.items() if compiled.serves)
    )
    decisions = len(ids) * len(command.units)
    if decisions > limit:
        raise errors.limit_exceeded(
            f"units ({len(command.units)}) times experiments ({len(ids)})", decisions, limit
        )
    return [(key, snapshot.experiments.get(key)) for key in ids]


def _encoded(command: AssignUnits, unit_type: str) -> list[bytes | None]:
    ids = [unit.get(unit_type) for unit in command.units]
    return [None if unit is None else unit_bytes(unit) for unit in ids]
