"""One page of experiments, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.assignment.domain.experiment import Experiment, State
from services.assignment.ports import Configuration, ExperimentCursor

SORT_KEY = r"(\d{1,16}) ([a-z][a-z0-9-]{0,62})"
"""The form of a sort key: microseconds since 1970 and the id."""
NOT_ARCHIVED = frozenset(State) - {State.ARCHIVED}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ListExperiments:
    """Which ones: no states means all but archived ones; `after` holds the groups of SORT_KEY."""

    project: str
    size: int
    states: frozenset[State] = frozenset()
    after: Sequence[str] | None = None


def list_experiments(
    command: ListExperiments, configuration: Configuration
) -> tuple[list[Experiment], str]:
    """The page and the sort key of its last experiment, empty when nothing follows."""
    below = None if command.after is None else _cursor(command.after)
    states = command.states or NOT_ARCHIVED
    # One more than asked for tells whether anything follows.
    found = configuration.experiments.page(command.project, states, below, command.size + 1)
    page = list(found[: command.size])
    return page, _sort_key(page[-1]) if len(found) > command.size else ""


def _sort_key(experiment: Experiment) -> str:
    return f"{(experiment.create_time - _EPOCH) // _MICROSECOND} {experiment.experiment_id}"


def _cursor(place: Sequence[str]) -> ExperimentCursor:
    microseconds, experiment_id = place
    return ExperimentCursor(_EPOCH + int(microseconds) * _MICROSECOND, experiment_id)
