"""The life of an experiment: DRAFT -> RUNNING <-> PAUSED -> STOPPED -> ARCHIVED.

A draft that never ran may be archived; nothing leaves STOPPED but into ARCHIVED.
"""

from dataclasses import replace

from services.assignment.domain.experiment import Design, Experiment, State
from services.assignment.domain.revision import Revision
from shared import errors

_FROM: dict[State, tuple[State, ...]] = {
    State.RUNNING: (State.DRAFT, State.PAUSED),
    State.PAUSED: (State.RUNNING,),
    State.STOPPED: (State.RUNNING, State.PAUSED),
    State.ARCHIVED: (State.DRAFT, State.STOPPED),
}
_VERB = {
    State.RUNNING: "start",
    State.PAUSED: "pause",
    State.STOPPED: "stop",
    State.ARCHIVED: "archive",
}
# What tells of the experiment and decides nothing.
_NOTES = frozenset(("display_name", "hypothesis", "owner", "metrics"))
_FIXED_AT_CREATION = frozenset(("unit_type", "layer", "source", "hash_version", "salt"))
_EDITABLE = {
    State.DRAFT: frozenset(Design.__slots__) - _FIXED_AT_CREATION,
    State.RUNNING: _NOTES | {"traffic_slots"},
    State.PAUSED: _NOTES | {"traffic_slots"},
    State.STOPPED: _NOTES,
    State.ARCHIVED: frozenset[str](),
}


def move(experiment: Experiment, to: State, at: Revision) -> Experiment:
    """The experiment in its next state; FAILED_PRECONDITION when the step is not allowed."""
    if experiment.state not in _FROM[to]:
        raise errors.wrong_state(
            f"experiment {experiment.experiment_id}",
            experiment.state,
            _VERB[to],
            f"{' or '.join(_FROM[to])}; {_next_steps(experiment)}",
        )
    started = at.time if to is State.RUNNING else None
    stopped = at.time if to is State.STOPPED else None
    return replace(
        experiment,
        state=to,
        config_version=at.config_version,
        update_time=at.time,
        start_time=experiment.start_time or started,
        stop_time=experiment.stop_time or stopped,
    )


def revise(experiment: Experiment, design: Design, at: Revision) -> Experiment:
    """The experiment with another design, as far as its state allows a change.

    While it runs or pauses, its texts and metrics may change and its traffic may grow: whatever
    decides a variant stays, so that no unit is reshuffled.
    """
    old = experiment.design
    changed = {name for name in Design.__slots__ if getattr(old, name) != getattr(design, name)}
    refused = sorted(changed - _EDITABLE[experiment.state])
    if refused:
        editable = ", ".join(sorted(_EDITABLE[experiment.state])) or "nothing"
        raise errors.wrong_state(
            f"experiment {experiment.experiment_id}",
            experiment.state,
            f"changing {', '.join(refused)}",
            f"a new experiment; in this state {editable} may change",
        )
    if experiment.state is not State.DRAFT and design.traffic_slots < old.traffic_slots:
        raise errors.wrong_state(
            f"experiment {experiment.experiment_id}",
            experiment.state,
            f"lowering traffic_slots from {old.traffic_slots} to {design.traffic_slots}",
            "a draft, because enrolled units would lose their variant; pause or stop instead",
        )
    return replace(experiment, design=design, config_version=at.config_version, update_time=at.time)


def _next_steps(experiment: Experiment) -> str:
    steps = [_VERB[to] for to, allowed in _FROM.items() if experiment.state in allowed]
    return f"possible now: {' or '.join(steps)}" if steps else "it takes no verb any more"
