"""Decisions for flags as Assign serves them: with what units keep, and counted alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from touchstone_assignment.decision import UNKNOWN_EXPERIMENT, Decision
from touchstone_assignment.parameters import ParameterDecision
from touchstone_assignment.subject import Subject

from services.assignment.application.assign import Column
from services.assignment.application.assign_kept import Served, after_kept
from services.assignment.application.assigned_sample import AssignedSample, note_columns
from services.assignment.application.snapshots import Snapshot
from services.assignment.application.sticky import StickyKeeper


@dataclass(frozen=True, slots=True)
class KeptDecisions:
    """Decisions of the rules, and above them what units were served first."""

    keeper: StickyKeeper
    sample: AssignedSample

    async def decide(
        self,
        snapshot: Snapshot,
        experiments: Sequence[str],
        subject: Subject,
        *,
        keep: bool = True,
    ) -> Sequence[Decision]:
        """A decision for each of the experiments, in their order; kept from now on, or not."""
        columns = [_column(snapshot, key, subject) for key in experiments]
        project = snapshot.evaluator.project
        served = Served(project, snapshot.config_version)
        columns = await after_kept(served, [subject], columns, self.keeper, keep=keep)
        if self.sample.due():
            note_columns(self.sample, project, [subject], columns)
        return [column.cells[0] for column in columns]

    async def parameters(
        self, snapshot: Snapshot, keys: Sequence[str], subject: Subject
    ) -> Mapping[str, ParameterDecision]:
        """The values of the parameters, as GetParameters gives them."""
        return snapshot.evaluator.parameters(subject, keys)


def _column(snapshot: Snapshot, key: str, subject: Subject) -> Column[Decision]:
    compiled = snapshot.evaluator.experiments.get(key)
    return Column(key, compiled, [compiled.decide(subject) if compiled else UNKNOWN_EXPERIMENT])
