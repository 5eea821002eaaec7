"""Start, pause, resume, stop or archive an experiment."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.assignment.application.create_layer import require_in_reach
from services.assignment.application.find import find_experiment, find_layer, require_etag
from services.assignment.domain.experiment import AssignmentSource, Experiment, State
from services.assignment.domain.forced import forced_prefix
from services.assignment.domain.lifecycle import move
from services.assignment.domain.limits import LIMITS
from services.assignment.domain.prerequisites import require_not_needed
from services.assignment.domain.revision import Revision
from services.assignment.ports import Configuration


@dataclass(frozen=True, slots=True)
class MoveExperiment:
    """The state to go to; with an etag, only if the experiment still has it."""

    project: str
    experiment_id: str
    to: State
    etag: str = ""


def move_experiment(
    command: MoveExperiment, configuration: Configuration, cool_down: timedelta, now: datetime
) -> Experiment:
    """The experiment in its new state: starting takes its slots, stopping releases them, archiving
    takes back what is forced.

    NOT_FOUND, ABORTED on a stale etag, FAILED_PRECONDITION when the state does not allow the
    step, the layer is full, or one that is to end is needed by others.
    """
    revision = configuration.next_revision(command.project, now)
    old = find_experiment(configuration, command.project, command.experiment_id)
    require_etag(old, command.etag)
    new = move(old, command.to, revision)
    if new.state in (State.ARCHIVED, State.STOPPED):
        require_not_needed(old, configuration.experiments.all_now(command.project), new.state)
    configuration.experiments.replace(old, new)
    if new.state is State.ARCHIVED:
        _take_back_forced(new, configuration, revision)
    if new.design.source is AssignmentSource.SLOTS:
        _move_slots(new, configuration, cool_down, revision)
    return new


def _take_back_forced(
    experiment: Experiment, configuration: Configuration, revision: Revision
) -> None:
    """What is put away decides nothing: nobody should load the units that were forced in it."""
    project, key = experiment.project, experiment.experiment_id
    forced = configuration.forced.page(project, forced_prefix(key), LIMITS.max_forced_variants)
    for found in forced:
        if found.experiment_id == key:
            configuration.forced.delete(found, revision)


def _move_slots(
    experiment: Experiment, configuration: Configuration, cool_down: timedelta, revision: Revision
) -> None:
    if experiment.state not in (State.RUNNING, State.STOPPED):
        return
    layer = find_layer(configuration, experiment.project, experiment.design.layer)
    if experiment.state is State.RUNNING:
        require_in_reach(configuration, layer)
        slots = experiment.design.traffic_slots
        changed = layer.allocate(experiment.experiment_id, slots, revision)
    else:
        changed = layer.release(experiment.experiment_id, cool_down, revision)
    if changed is not layer:
        configuration.layers.replace(layer, changed)
