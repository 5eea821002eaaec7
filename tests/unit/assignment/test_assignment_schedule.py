"""A schedule says what is due, and when something may be."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assignment.domain.experiment import Experiment, RampStage, Schedule, State
from services.assignment.domain.schedule import Act, Step, due_time, next_step, require_to_come
from shared.errors import DomainError
from tests.unit.assignment.making import START, Make

HOUR = timedelta(hours=1)
RAMP = (RampStage(START + HOUR, 2000), RampStage(START + 2 * HOUR, 5000))
FULL = Schedule(START, START + 3 * HOUR, RAMP)


def experiment(state: State, slots: int = 1000, schedule: Schedule = FULL) -> Experiment:
    return Make().experiment(state, schedule=schedule, traffic_slots=slots)


@pytest.mark.parametrize(
    ("state", "slots", "hours", "step"),
    [
        (State.DRAFT, 1000, -1, None),
        (State.DRAFT, 1000, 0, Step(Act.START)),
        (State.DRAFT, 1000, 2, Step(Act.START)),
        (State.DRAFT, 1000, 3, None),
        (State.RUNNING, 1000, 0, None),
        (State.RUNNING, 1000, 1, Step(Act.RAMP, 2000)),
        (State.RUNNING, 2000, 1, None),
        (State.RUNNING, 1000, 2, Step(Act.RAMP, 5000)),
        (State.RUNNING, 6000, 2, None),
        (State.RUNNING, 1000, 3, Step(Act.STOP)),
        (State.PAUSED, 1000, 2, None),
        (State.PAUSED, 1000, 3, Step(Act.STOP)),
        (State.STOPPED, 1000, 3, None),
        (State.ARCHIVED, 1000, 3, None),
    ],
)
def test_what_is_due(state: State, slots: int, hours: int, step: Step | None) -> None:
    assert next_step(experiment(state, slots), START + hours * HOUR) == step


def test_what_is_killed_neither_starts_nor_ramps_but_stops() -> None:
    draft = replace(experiment(State.DRAFT), killed=True)
    running = replace(experiment(State.RUNNING), killed=True)
    assert next_step(draft, START) is None
    assert next_step(running, START + 2 * HOUR) is None
    assert next_step(running, START + 3 * HOUR) == Step(Act.STOP)


def test_without_a_schedule_nothing_is_ever_due() -> None:
    for state in State:
        plain = experiment(state, schedule=Schedule())
        assert due_time(plain) is None
        assert next_step(plain, START + 1000 * HOUR) is None


def test_the_next_time_moves_on_with_what_has_happened() -> None:
    assert due_time(experiment(State.DRAFT)) == START
    assert due_time(experiment(State.RUNNING)) == START + HOUR
    assert due_time(experiment(State.RUNNING, 2000)) == START + 2 * HOUR
    assert due_time(experiment(State.RUNNING, 5000)) == START + 3 * HOUR
    assert due_time(experiment(State.PAUSED)) == START + 3 * HOUR
    assert due_time(experiment(State.STOPPED)) is None


times = st.none() | st.integers(0, 9).map(lambda hours: START + hours * HOUR)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    hours = sorted(draw(st.sets(st.integers(0, 9), max_size=4)))
    ramp = tuple(RampStage(START + hour * HOUR, 1000 * (n + 1)) for n, hour in enumerate(hours))
    return Schedule(draw(times), draw(times), ramp)


@given(
    schedules(),
    st.sampled_from(State),
    st.integers(0, 5000),
    st.booleans(),
    st.integers(0, 10).map(lambda hours: START + hours * HOUR),
)
def test_nothing_is_due_before_the_time_that_it_is_looked_for(
    schedule: Schedule, state: State, slots: int, killed: bool, now: datetime
) -> None:
    found = replace(experiment(state, slots, schedule), killed=killed)
    looked_for = due_time(found)
    if next_step(found, now) is not None:
        assert looked_for is not None
        assert looked_for <= now


NOTHING = Schedule()


@pytest.mark.parametrize(
    ("old", "new", "hours", "field"),
    [
        (NOTHING, Schedule(START), -1, None),
        (NOTHING, Schedule(START), 0, "start_time"),
        (NOTHING, Schedule(START, START + HOUR), 0.5, None),
        (NOTHING, Schedule(START, START + HOUR), 1, "stop_time"),
        (NOTHING, Schedule(ramp=RAMP), 1, None),
        (NOTHING, Schedule(ramp=RAMP), 2, "ramp[1].time"),
        (NOTHING, FULL, 2.5, None),
        (NOTHING, NOTHING, 9, None),
        (FULL, NOTHING, 9, None),
        (FULL, FULL, 9, None),
        (FULL, Schedule(START, None, RAMP), 9, None),
        (FULL, Schedule(START, START + 5 * HOUR, RAMP), 4, None),
        (FULL, Schedule(START, START + 2.5 * HOUR, RAMP), 2.6, "stop_time"),
        (Schedule(START), Schedule(START, START + HOUR, ()), 2, "stop_time"),
    ],
)
def test_a_new_schedule_has_something_to_come(
    old: Schedule, new: Schedule, hours: float, field: str | None
) -> None:
    now = START + hours * HOUR
    if field is None:
        require_to_come(old, new, now)
        return
    with pytest.raises(DomainError) as refused:
        require_to_come(old, new, now)
    (violation,) = refused.value.violations
    assert violation.field == f"schedule.{field}"
    assert f"allowed: a time after now, {now.isoformat()}" in violation.description
