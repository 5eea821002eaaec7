"""Reading one thing that must exist, and be the one that the caller has read."""

from services.assignment.domain.experiment import Experiment
from services.assignment.domain.layer import Layer
from services.assignment.ports import Configuration
from shared import errors


def find_experiment(configuration: Configuration, project: str, experiment_id: str) -> Experiment:
    """The experiment as it is now; NOT_FOUND when the project has none of this id."""
    found = configuration.experiments.get(project, experiment_id)
    if found is None:
        raise errors.not_found("experiment", experiment_id)
    return found


def find_layer(configuration: Configuration, project: str, layer_id: str) -> Layer:
    """The layer as it is now; NOT_FOUND when the project has none of this id."""
    found = configuration.layers.get(project, layer_id)
    if found is None:
        raise errors.not_found("layer", layer_id)
    return found


def require_etag(experiment: Experiment, etag: str) -> None:
    """ABORTED when an etag is given and the experiment has changed since it was read."""
    if etag and etag != experiment.etag:
        raise errors.stale_etag(f"experiment {experiment.experiment_id}", etag, experiment.etag)
