"""Decisions of experiments whose units keep what they were served first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule
from touchstone_assignment.compiled import CompiledExperiment
from touchstone_assignment.decision import Decision, Reason, Trace
from touchstone_assignment.subject import Subject
from touchstone_assignment.values import plain

from services.assignment.application.assign import Column
from services.assignment.application.sticky import StickyColumn, StickyKeeper
from services.assignment.domain.sticky import Ids, unit_key


@dataclass(frozen=True, slots=True)
class Served:
    """Whose decisions they are, and at which configuration version."""

    project: str
    config_version: int


def keeps(compiled: CompiledExperiment | None) -> bool:
    """Whether units of this experiment keep what they were served first."""
    return (
        compiled is not None
        and compiled.serves
        and (compiled.rule.sticky or bool(compiled.rule.anonymous_unit_type))
    )


async def after_kept(
    served: Served,
    units: Sequence[Subject],
    columns: Sequence[Column[Decision]],
    keeper: StickyKeeper,
    *,
    keep: bool = True,
) -> list[Column[Decision]]:
    """The columns as they are served, or without `keep` would be.

    The store is not touched when none of them keeps anything.
    """
    ids = _IdsOf(units)
    asked = [_asked(column.compiled, ids, column.cells) for column in columns]
    kept = [column for column in asked if column is not None]
    if not kept:
        return list(columns)
    answers = iter(await keeper.apply(served.project, served.config_version, kept, keep=keep))
    return [
        column if question is None else replace(column, cells=next(answers))
        for column, question in zip(columns, asked, strict=True)
    ]


async def after_kept_explained(
    served: Served,
    units: Sequence[Subject],
    columns: Sequence[Column[Trace]],
    keeper: StickyKeeper,
) -> list[Column[Trace]]:
    """The same of decisions with what led to them. To ask why is not to be served."""
    bare = [
        Column(column.experiment_id, column.compiled, [trace.decision for trace in column.cells])
        for column in columns
    ]
    found = await after_kept(served, units, bare, keeper, keep=False)
    return [
        replace(column, cells=[*map(_told, column.cells, after.cells)])
        for column, after in zip(columns, found, strict=True)
    ]


def _told(trace: Trace, decision: Decision) -> Trace:
    if decision is trace.decision:
        return trace
    detail = f"{trace.detail}; what the unit was served first, or its other id was, stands above it"
    return replace(trace, decision=decision, detail=detail)


def _asked(
    compiled: CompiledExperiment | None, known: "_IdsOf", cells: Sequence[Decision]
) -> StickyColumn | None:
    if compiled is None or not keeps(compiled):
        return None
    anonymous = compiled.rule.anonymous_unit_type
    return StickyColumn(
        experiment_id=compiled.experiment_id,
        sticky=compiled.rule.sticky,
        outcomes=_outcomes(compiled.rule),
        ids=known.of(compiled.unit_type, anonymous),
        decisions=[
            _stand_in(compiled, anonymous, unit, cell)
            for unit, cell in zip(known.units, cells, strict=True)
        ],
    )


class _IdsOf:
    """The ids of a call's units, hashed once for all experiments of the same types."""

    def __init__(self, units: Sequence[Subject]) -> None:
        self.units = units
        self._found: dict[tuple[str, str], Sequence[Ids | None]] = {}

    def of(self, unit_type: str, anonymous_type: str) -> Sequence[Ids | None]:
        types = unit_type, anonymous_type
        if types not in self._found:
            self._found[types] = [_ids(unit_type, anonymous_type, unit) for unit in self.units]
        return self._found[types]


def _ids(unit_type: str, anonymous_type: str, unit: Subject) -> Ids | None:
    own = unit.unit(unit_type)
    anonymous = unit.unit(anonymous_type) if anonymous_type else None
    if own is None and anonymous is None:
        return None
    return Ids(
        None if own is None else unit_key(unit_type, own),
        None if anonymous is None else unit_key(anonymous_type, anonymous),
    )


def _stand_in(
    compiled: CompiledExperiment, anonymous_type: str, unit: Subject, decision: Decision
) -> Decision:
    """What the rules say of a unit that is known by its anonymous id alone: that stands for it."""
    if decision.reason is not Reason.MISSING_UNIT or anonymous_type not in unit.ids:
        return decision
    ids = {**unit.ids, compiled.unit_type: unit.ids[anonymous_type]}
    return compiled.decide(Subject(ids, unit.attributes, unit.now_s))


def _outcomes(rule: ExperimentRule) -> dict[str, Decision]:
    return {
        variant.key: Decision(variant.key, Reason.SPLIT, plain(variant.value))
        for variant in rule.variants
        if not variant.dropped
    }
