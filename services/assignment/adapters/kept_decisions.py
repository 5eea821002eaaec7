"""Decisions for flags as Assign serves them: with what units keep, and counted alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from touchstone_assignment.decision import UNKNOWN_EXPERIMENT, Decision, Reason
from touchstone_assignment.parameters import ParameterDecision
from touchstone_assignment.subject import Subject

from services.assignment.application.assign import Column
from services.assignment.application.assign_kept import Served, after_kept
from services.assignment.application.assigned_sample import AssignedSample
from services.assignment.application.snapshots import Snapshot
from services.assignment.application.sticky import StickyKeeper


@dataclass(frozen=True, slots=True)
class KeptDecisions:
    """Decisions of the rules, and above them what units were served first."""

    keeper: StickyKeeper
    sample: AssignedSample

    async def decide(
        self, snapshot: Snapshot, experiments: Sequence[str], subject: Subject
    ) -> Sequence[Decision]:
        """A decision for each of the experiments, in their order."""
        columns = [_column(snapshot, key, subject) for key in experiments]
        project = snapshot.evaluator.project
        served = Served(project, snapshot.config_version)
        columns = await after_kept(served, [subject], columns, self.keeper)
        if self.sample.due():
            self._count(project, subject, columns)
        return [column.cells[0] for column in columns]

    async def parameters(
        self, snapshot: Snapshot, keys: Sequence[str], subject: Subject
    ) -> Mapping[str, ParameterDecision]:
        """The values of the parameters, as GetParameters gives them."""
        return snapshot.evaluator.parameters(subject, keys)

    def _count(self, project: str, subject: Subject, columns: list[Column[Decision]]) -> None:
        for column in columns:
            compiled, decision = column.compiled, column.cells[0]
            if compiled is None or decision.variant is None or decision.reason is not Reason.SPLIT:
                continue
            unit = subject.unit(compiled.unit_type)
            if unit is not None:
                version = compiled.rule.config_version
                served = [(unit, decision.variant)]
                self.sample.note(project, (column.experiment_id, version), served)


def _column(snapshot: Snapshot, key: str, subject: Subject) -> Column[Decision]:
    compiled = snapshot.evaluator.experiments.get(key)
    return Column(key, compiled, [compiled.decide(subject) if compiled else UNKNOWN_EXPERIMENT])
