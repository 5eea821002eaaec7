"""Take the step that an experiment's schedule makes due."""

from datetime import datetime, timedelta

from services.assignment.application.move_experiment import MoveExperiment, move_experiment
from services.assignment.application.update_experiment import UpdateExperiment, update_experiment
from services.assignment.domain.experiment import Experiment, State
from services.assignment.domain.schedule import Act, Step
from services.assignment.ports import Configuration


def keep_schedule(
    experiment: Experiment,
    step: Step,
    configuration: Configuration,
    cool_down: timedelta,
    now: datetime,
) -> Experiment:
    """The experiment after the step, which was decided on it as it was read.

    ABORTED when anything has changed it since: of several processes that see the same step one
    takes it. FAILED_PRECONDITION when it cannot happen, as where the layer is full.
    """
    project, key, etag = experiment.project, experiment.experiment_id, experiment.etag
    if step.act is Act.RAMP:
        changes = {"traffic_slots": step.traffic_slots}
        command = UpdateExperiment(project, key, changes, etag)
        return update_experiment(command, configuration, now)
    to = State.RUNNING if step.act is Act.START else State.STOPPED
    return move_experiment(MoveExperiment(project, key, to, etag), configuration, cool_down, now)
