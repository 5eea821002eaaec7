"""What a schedule makes happen, and when.

A step that could not happen in its time is made up for: of several stages of a ramp that are due
the last one is taken at once. What is killed neither starts nor ramps, and what is paused does not
ramp, for somebody has stopped it on purpose; both still stop in their time. A draft whose stop has
come before it started is left alone.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from services.assignment.domain.experiment import Experiment, RampStage, Schedule, State
from shared import errors


class Act(enum.StrEnum):
    """What happens."""

    START = "START"
    STOP = "STOP"
    RAMP = "RAMP"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is due; `traffic_slots` are those of a RAMP, else 0."""

    act: Act
    traffic_slots: int = 0


def next_step(experiment: Experiment, now: datetime) -> Step | None:
    """What is due now; None: nothing."""
    schedule = experiment.design.schedule
    stop_is_due = schedule.stop_time is not None and schedule.stop_time <= now
    if experiment.state in (State.RUNNING, State.PAUSED) and stop_is_due:
        return Step(Act.STOP)
    if stop_is_due or experiment.killed:
        return None
    if experiment.state is State.DRAFT:
        start = schedule.start_time
        return Step(Act.START) if start is not None and start <= now else None
    if experiment.state is not State.RUNNING:
        return None
    due = [stage for stage in _ahead(experiment) if stage.time <= now]
    return Step(Act.RAMP, due[-1].traffic_slots) if due else None


def due_time(experiment: Experiment) -> datetime | None:
    """From when on `next_step` may have an answer, as the experiment is now; None: never.

    A draft may have none at that time any more: its stop has come, and goes on having come.
    """
    schedule, state = experiment.design.schedule, experiment.state
    times: list[datetime | None] = []
    if state in (State.RUNNING, State.PAUSED):
        times.append(schedule.stop_time)
    if not experiment.killed and state is State.DRAFT:
        times.append(schedule.start_time)
    if not experiment.killed and state is State.RUNNING:
        times += [stage.time for stage in _ahead(experiment)[:1]]
    return min((time for time in times if time is not None), default=None)


def require_to_come(old: Schedule, new: Schedule, now: datetime) -> None:
    """INVALID_ARGUMENT for a new schedule of which nothing can come, or whose stop has come.

    Times that stood before may be over: what was missed is made up for.
    """
    known = {time for _, time in _times(old)}
    fresh = [(field, time) for field, time in _times(new) if time not in known]
    over = [(field, time) for field, time in fresh if time <= now]
    wrong = [each for each in over if each[0] == "stop_time"]
    if not wrong and len(over) == len(fresh):
        wrong = over[-1:]
    if wrong:
        field, time = wrong[0]
        allowed = f"a time after now, {now.isoformat()}; use its verb for what is to happen at once"
        raise errors.invalid(f"schedule.{field}", time.isoformat(), allowed)


def _times(schedule: Schedule) -> Iterator[tuple[str, datetime]]:
    if schedule.start_time is not None:
        yield "start_time", schedule.start_time
    for index, stage in enumerate(schedule.ramp):
        yield f"ramp[{index}].time", stage.time
    if schedule.stop_time is not None:
        yield "stop_time", schedule.stop_time


def _ahead(experiment: Experiment) -> list[RampStage]:
    """The stages that have not happened, nor been overtaken by more traffic."""
    design = experiment.design
    return [s for s in design.schedule.ramp if s.traffic_slots > design.traffic_slots]
