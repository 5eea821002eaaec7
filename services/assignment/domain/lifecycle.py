"""The life of an experiment: DRAFT -> RUNNING <-> PAUSED -> STOPPED -> ARCHIVED.

A draft that never ran may be archived; nothing leaves STOPPED but into ARCHIVED.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.assignment.domain.experiment import (
    Allocation,
    AssignmentSource,
    Design,
    Experiment,
    State,
    Variant,
)
from services.assignment.domain.feature_rules import drop_faults
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
_FIXED_AT_CREATION = frozenset(
    ("unit_type", "layer", "source", "hash_version", "salt", "allocation")
)
_WHILE_IT_LASTS = _NOTES | {"traffic_slots", "schedule"}
_LASTING = (State.RUNNING, State.PAUSED)
_EDITABLE = {
    State.DRAFT: frozenset(Design.__slots__) - _FIXED_AT_CREATION,
    State.RUNNING: _WHILE_IT_LASTS,
    State.PAUSED: _WHILE_IT_LASTS,
    State.STOPPED: _NOTES,
    State.ARCHIVED: frozenset[str](),
}


def move(experiment: Experiment, to: State, at: Revision) -> Experiment:
    """The experiment in its next state; FAILED_PRECONDITION when the step is not allowed."""
    if experiment.state not in _FROM[to]:
        raise errors.wrong_state(
            _named(experiment),
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

    While it runs or pauses, its texts, metrics and schedule may change, its traffic may grow and
    its variants may be given up: whatever decides a variant stays, so that no unit is reshuffled.
    """
    old = experiment.design
    changed = {name for name in Design.__slots__ if getattr(old, name) != getattr(design, name)}
    if experiment.state is State.DRAFT:
        faults = tuple(drop_faults(design))
        if faults:
            raise errors.invalid_fields(faults)
    elif experiment.state in _LASTING and "variants" in changed:
        _require_only_dropped(experiment, design)
        changed.remove("variants")
    refused = sorted(changed - _EDITABLE[experiment.state])
    if refused:
        editable = ", ".join(sorted(_EDITABLE[experiment.state])) or "nothing"
        raise errors.wrong_state(
            _named(experiment),
            experiment.state,
            f"changing {', '.join(refused)}",
            f"a new experiment; in this state {editable} may change",
        )
    if experiment.state is not State.DRAFT:
        _require_ahead(experiment, design)
    return _revised(experiment, at, design=design)


def reweight(experiment: Experiment, weights: Mapping[str, int], at: Revision) -> Experiment:
    """The BANDIT experiment with other weights, whose keys and sum the caller has checked.

    FAILED_PRECONDITION for another allocation, and once it is over.
    """
    design = experiment.design
    if design.allocation is not Allocation.BANDIT:
        raise errors.wrong_state(
            _named(experiment),
            design.allocation,
            "setting weights",
            "the allocation BANDIT, because units would change their variant; "
            "make a new experiment with other weights",
        )
    if experiment.state not in (State.DRAFT, *_LASTING):
        raise errors.wrong_state(
            _named(experiment), experiment.state, "setting weights", "DRAFT, RUNNING or PAUSED"
        )
    variants = tuple(replace(v, weight=weights[v.key]) for v in design.variants)
    return _revised(experiment, at, design=replace(design, variants=variants))


def kill(experiment: Experiment, reason: str, at: Revision) -> Experiment:
    """The experiment with the kill switch on, in whatever state; another reason replaces the old.

    FAILED_PRECONDITION where there is nothing to turn off.
    """
    if experiment.design.source is AssignmentSource.EXTERNAL:
        raise errors.wrong_state(
            _named(experiment),
            experiment.design.source,
            "kill",
            "the assignment source SLOTS; turn it off in the system that assigns it",
        )
    _require_not_archived(experiment, "kill")
    return _revised(experiment, at, killed=True, kill_reason=reason)


def revive(experiment: Experiment, at: Revision) -> Experiment:
    """The experiment with the kill switch off: it goes on as its state says."""
    _require_not_archived(experiment, "revive")
    return _revised(experiment, at, killed=False, kill_reason="")


def _revised(experiment: Experiment, at: Revision, **changes: Any) -> Experiment:
    return replace(experiment, config_version=at.config_version, update_time=at.time, **changes)


def _named(experiment: Experiment) -> str:
    return f"experiment {experiment.experiment_id}"


def _require_not_archived(experiment: Experiment, verb: str) -> None:
    if experiment.state is State.ARCHIVED:
        raise errors.wrong_state(
            _named(experiment), experiment.state, verb, "any other state: it decides nothing"
        )


def _require_only_dropped(experiment: Experiment, design: Design) -> None:
    """Nothing about the variants differs but that some are given up now."""
    old, new = experiment.design.variants, design.variants
    given_up = {variant.key for variant in new if variant.dropped}
    expected = tuple(replace(v, dropped=v.dropped or v.key in given_up) for v in old)
    if new == expected:
        return
    taken_back = [v.key for v in old if v.dropped and v.key not in given_up]
    if taken_back and _as_if_kept(old) == _as_if_kept(new):
        what = f"taking back the dropped variants {taken_back}"
        needed = "a new experiment: their units have been without a variant"
    else:
        what = "changing variants in more than dropped"
        needed = "a new experiment; in this state a variant may only be dropped"
    raise errors.wrong_state(_named(experiment), experiment.state, what, needed)


def _as_if_kept(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    return tuple(replace(variant, dropped=False) for variant in variants)


def _require_ahead(experiment: Experiment, design: Design) -> None:
    """Nothing is undone that has happened: neither the start nor the traffic."""
    old = experiment.design
    if design.traffic_slots < old.traffic_slots:
        raise errors.wrong_state(
            _named(experiment),
            experiment.state,
            f"lowering traffic_slots from {old.traffic_slots} to {design.traffic_slots}",
            "a draft, because enrolled units would lose their variant; pause or stop instead",
        )
    start = design.schedule.start_time
    if start is not None and start != old.schedule.start_time:
        raise errors.wrong_state(
            _named(experiment),
            experiment.state,
            f"scheduling the start for {start.isoformat()}",
            "a draft: it has started",
        )


def _next_steps(experiment: Experiment) -> str:
    steps = [_VERB[to] for to, allowed in _FROM.items() if experiment.state in allowed]
    return f"possible now: {' or '.join(steps)}" if steps else "it takes no verb any more"
