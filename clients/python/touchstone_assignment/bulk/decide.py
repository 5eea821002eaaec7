"""Decisions of one experiment for many units, by numpy where the unit's id alone decides.

Slots, splits, dropped variants, bandits, domains, and holdouts and forced variants of the same unit
type are computed for all units at once. What asks for more than the id (targeting, prerequisites,
switchbacks) goes unit by unit; the decisions are the same either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from touchstone_assignment.bulk.ids import IdColumn, Ids, column_of
from touchstone_assignment.bulk.murmur import Hasher, beginning
from touchstone_assignment.bulk.plan import SINGLY, Codes, Plan, Step, plan_of
from touchstone_assignment.compiled import CompiledExperiment, Evaluator
from touchstone_assignment.decision import UNKNOWN_EXPERIMENT, Decision
from touchstone_assignment.subject import Subject

CHUNK = 8192
"""Units at a time: their words and hashes stay in the processor's second cache."""
_SINGLY = 64
"""Fewer ids of one size are decided one by one."""


@dataclass(frozen=True, slots=True)
class BulkDecisions:
    """The different decisions, and for each unit the place of its own among them."""

    outcomes: tuple[Decision, ...]
    codes: NDArray[np.uint16]

    def __len__(self) -> int:
        """How many units were decided for."""
        return len(self.codes)

    def __getitem__(self, row: int) -> Decision:
        """The decision of one unit."""
        return self.outcomes[int(self.codes[row])]

    def variants(self) -> NDArray[Any]:
        """The keys of the variants, None where a unit gets none."""
        return np.array([found.variant for found in self.outcomes], dtype=object)[self.codes]

    def counts(self) -> list[tuple[Decision, int]]:
        """How many units got each of the decisions that occur."""
        counted = np.bincount(self.codes, minlength=len(self.outcomes)).tolist()
        return [(found, n) for found, n in zip(self.outcomes, counted, strict=True) if n]


def decide_many(
    evaluator: Evaluator, experiment_id: str, ids: Ids, now_s: float = 0.0
) -> BulkDecisions:
    """What `evaluator.decide` says of each unit that has this id of the experiment's unit type.

    The units have no other ids and no attributes. `now_s` counts for a switchback alone. ValueError
    for an id that cannot be a key, TypeError for what holds no ids.
    """
    columns = column_of(ids)
    compiled = evaluator.experiments.get(experiment_id)
    if compiled is None:
        codes = np.zeros(sum(map(len, columns)), np.uint16)
        return BulkDecisions((UNKNOWN_EXPERIMENT,), codes)
    many = _Many(compiled, plan_of(evaluator, compiled), now_s)
    found = [many.decide(column) for column in columns]
    codes = np.concatenate(found) if found else np.empty(0, np.uint16)
    return BulkDecisions(tuple(many.outcomes), codes)


class _Many:
    """The decisions of one experiment so far."""

    def __init__(self, compiled: CompiledExperiment, plan: Plan | None, now_s: float) -> None:
        self.compiled = compiled
        self.plan = plan
        self.now_s = now_s
        self.outcomes = [*plan.outcomes] if plan else []
        self._codes: dict[int, int] = {}

    def decide(self, column: IdColumn) -> Codes:
        codes = np.zeros(len(column), np.uint16)
        if self.plan is None:
            self._singly(column, range(len(column)), codes)
            return codes
        for size, rows in column.by_size():
            starts = column.starts[rows]
            if len(starts) < _SINGLY:
                codes[rows] = SINGLY
            else:
                codes[rows] = _of_size(self.plan.steps, column, size, starts)
        codes[column.sizes <= 0] = SINGLY
        codes[column.written_otherwise()] = SINGLY
        self._singly(column, np.flatnonzero(codes == SINGLY).tolist(), codes)
        return codes

    def _singly(self, column: IdColumn, rows: Sequence[int], codes: Codes) -> None:
        decide, unit_type, now_s = self.compiled.decide, self.compiled.unit_type, self.now_s
        for row in rows:
            unit_id = column.text(row)
            ids = {} if unit_id is None else {unit_type: unit_id}
            codes[row] = self._code(decide(Subject(ids, {}, now_s)))

    def _code(self, decision: Decision) -> int:
        # Decisions are few objects that are used over and over; their values may not be hashable.
        code = self._codes.get(id(decision))
        if code is None:
            if decision not in self.outcomes:
                self.outcomes.append(decision)
            code = self._codes[id(decision)] = self.outcomes.index(decision)
        return code


def _of_size(
    steps: Sequence[Step], column: IdColumn, size: int, starts: NDArray[np.int64]
) -> Codes:
    hashers = {
        step.cut: Hasher.of(beginning(step.cut.version, step.cut.salt, size), size, CHUNK)
        for step in steps
    }
    codes = np.empty(len(starts), np.uint16)
    last = column.last_start(size)
    for first in range(0, len(starts), CHUNK):
        words = column.words(np.minimum(starts[first : first + CHUNK], last), size)
        here, cut = codes[first : first + CHUNK], None
        for step in steps:
            if step.cut is not cut:
                cut = step.cut
                hashes = hashers[cut].hash(words)
            step.apply(hashes, here)
    # The words of an id at the very end of the bytes were those of another place.
    codes[starts > last] = SINGLY
    return codes
