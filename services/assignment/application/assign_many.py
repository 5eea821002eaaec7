"""Decide for many units of which nothing but one id is known, by columns."""

from collections.abc import Iterator
from dataclasses import dataclass

from touchstone_assignment.bucketing import unit_bytes
from touchstone_assignment.bulk import BulkDecisions, IdColumn, decide_many
from touchstone_assignment.compiled import CompiledExperiment, Evaluator

from services.assignment.application.assign import serving
from services.assignment.application.assign_kept import keeps

FEWEST = 384
"""Units an experiment; fewer are as fast one by one."""


@dataclass(frozen=True, slots=True)
class AssignMany:
    """Units by their ids of one type, and the experiments; none means all that can enrol."""

    unit_type: str
    ids: IdColumn
    experiments: tuple[str, ...] = ()

    def units(self) -> list[bytes]:
        """What ends the key of each unit."""
        texts = map(self.ids.text, range(len(self.ids)))
        return [unit_bytes(unit_id) for unit_id in texts if unit_id is not None]


@dataclass(frozen=True, slots=True)
class ManyColumn:
    """One experiment and what each unit gets in it."""

    compiled: CompiledExperiment
    found: BulkDecisions

    def split(self) -> Iterator[str | None]:
        """The variant of each unit that the split served, None of each other."""
        variants = [
            outcome.variant if outcome.reason == "SPLIT" else None
            for outcome in self.found.outcomes
        ]
        return map(variants.__getitem__, self.found.codes.tolist())


def assign_many(command: AssignMany, evaluator: Evaluator) -> list[ManyColumn] | None:
    """What `assign` says, a column an experiment; None when these ids do not decide everything, or
    when that is as fast.

    So many units an experiment are never more decisions than are allowed.
    """
    keys = command.experiments or serving(evaluator)
    if len(command.ids) < FEWEST * len(keys):
        return None
    asked = [evaluator.experiments.get(key) for key in keys]
    known = [one for one in asked if one and _suffices(one, command.unit_type)]
    if not known or len(known) < len(asked):
        return None
    return [
        ManyColumn(one, decide_many(evaluator, one.experiment_id, command.ids)) for one in known
    ]


def _suffices(compiled: CompiledExperiment, unit_type: str) -> bool:
    """Whether an id of this type decides, without the time, attributes and what was served."""
    rule = compiled.rule
    return (
        compiled.serves
        and compiled.unit_type == unit_type
        and not rule.HasField("targeting")
        and not rule.HasField("switchback")
        and not rule.prerequisites
        and not keeps(compiled)
    )
