"""One page of experiments, newest first."""

from dataclasses import dataclass
from datetime import datetime

from services.assignment.domain.experiment import Experiment, State
from services.assignment.ports import Configuration, ExperimentCursor

NOT_ARCHIVED = frozenset(State) - {State.ARCHIVED}


@dataclass(frozen=True, slots=True)
class ListExperiments:
    """Which ones: no states means all but archived ones; `after` is a sort key of `sort_key`."""

    project: str
    size: int
    states: frozenset[State] = frozenset()
    after: str | None = None


def list_experiments(
    command: ListExperiments, configuration: Configuration
) -> tuple[list[Experiment], str]:
    """The page and the sort key of its last experiment, empty when nothing follows."""
    below = None if command.after is None else _cursor(command.after)
    states = command.states or NOT_ARCHIVED
    # One more than asked for tells whether anything follows.
    found = configuration.experiments.page(command.project, states, below, command.size + 1)
    page = list(found[: command.size])
    return page, sort_key(page[-1]) if len(found) > command.size else ""


def sort_key(experiment: Experiment) -> str:
    """Where the experiment stands in the list."""
    return f"{experiment.create_time.isoformat()} {experiment.experiment_id}"


def _cursor(key: str) -> ExperimentCursor:
    time, _, experiment_id = key.partition(" ")
    return ExperimentCursor(datetime.fromisoformat(time), experiment_id)
