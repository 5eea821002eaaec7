"""Turn the kill switch of an experiment on or off."""

from datetime import datetime

from services.assignment.application.find import find_experiment, require_etag
from services.assignment.domain.experiment import Experiment
from services.assignment.domain.lifecycle import kill, revive
from services.assignment.ports import Configuration


def kill_experiment(
    configuration: Configuration, project: str, experiment_id: str, reason: str, now: datetime
) -> Experiment:
    """The experiment with the switch on; one that is killed for this reason stays as it is.

    NOT_FOUND; FAILED_PRECONDITION for one that is archived or that others assign.
    """
    revision = configuration.next_revision(project, now)
    old = find_experiment(configuration, project, experiment_id)
    if old.killed and old.kill_reason == reason:
        return old
    new = kill(old, reason, revision)
    configuration.experiments.replace(old, new)
    return new


def revive_experiment(
    configuration: Configuration, project: str, experiment_id: str, etag: str, now: datetime
) -> Experiment:
    """The experiment with the switch off; one that is not killed stays as it is.

    NOT_FOUND, ABORTED on a stale etag, FAILED_PRECONDITION for one that is archived.
    """
    revision = configuration.next_revision(project, now)
    old = find_experiment(configuration, project, experiment_id)
    require_etag(old, etag)
    if not old.killed:
        return old
    new = revive(old, revision)
    configuration.experiments.replace(old, new)
    return new
