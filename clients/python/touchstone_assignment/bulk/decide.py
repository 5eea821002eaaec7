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
"""Fewer ids of one group of sizes are decided one by one."""
_SPAN = 16
"""Few ids are hashed together if the size of none is more than this above that of another."""


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
    many = _Many(compiled, _planned(evaluator, compiled), now_s)
    found = [many.decide(column) for column in columns]
    codes = np.concatenate(found) if found else np.empty(0, np.uint16)
    return BulkDecisions(tuple(many.outcomes), codes)


def _planned(evaluator: Evaluator, compiled: CompiledExperiment) -> Plan | None:
    """The plan, made once; two threads that make it at once make the same."""
    key = compiled.experiment_id
    if key not in evaluator.plans:
        evaluator.plans[key] = plan_of(evaluator, compiled)
    found = evaluator.plans[key]
    return found if isinstance(found, Plan) else None


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
        span = _SPAN if self.plan.begins_alike else 0
        for low, high, rows in column.by_size(span, CHUNK):
            some = _Sized(column, low, high, column.starts[rows], column.sizes[rows])
            codes[rows] = SINGLY if len(some.starts) < _SINGLY else some.codes(self.plan.steps)
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


@dataclass(frozen=True, slots=True)
class _Sized:
    """Ids of a column whose sizes are from `low` to `high`."""

    column: IdColumn
    low: int
    high: int
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def codes(self, steps: Sequence[Step]) -> Codes:
        most = min(CHUNK, len(self.starts))
        hashers = {
            step.cut: Hasher.of(
                beginning(step.cut.version, step.cut.salt, self.low), self.low, self.high, most
            )
            for step in steps
        }
        codes = np.empty(len(self.starts), np.uint16)
        last = self.column.last_start(self.high)
        for first in range(0, len(self.starts), most):
            starts = np.minimum(self.starts[first : first + most], last)
            sizes = None
            if self.low < self.high:
                sizes = self.sizes[first : first + most].astype(np.uint32)
            words = self.column.words(starts, self.high, sizes)
            here, cut = codes[first : first + most], None
            for step in steps:
                if step.cut is not cut:
                    cut = step.cut
                    hashes = hashers[cut].hash(words, sizes)
                step.apply(hashes, here)
        # The words of an id at the very end of the bytes were those of another place.
        codes[self.starts > last] = SINGLY
        return codes
