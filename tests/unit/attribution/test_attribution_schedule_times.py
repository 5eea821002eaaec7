"""When schedules are due."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.schedule_times import Daily, Every, Timing, due_after, first_due

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
times = st.timedeltas(dt.timedelta(0), dt.timedelta(days=3650)).map(lambda since: NOON + since)
timings = st.one_of(
    st.builds(Daily, st.integers(0, 23), st.integers(0, 59)),
    st.builds(Every, st.timedeltas(dt.timedelta(minutes=10), dt.timedelta(days=366))),
)


def test_a_time_of_day_is_due_at_its_next_and_an_interval_at_once() -> None:
    assert first_due(Daily(13, 30), NOON) == NOON.replace(hour=13, minute=30)
    assert first_due(Daily(11, 0), NOON) == dt.datetime(2026, 3, 2, 11, tzinfo=dt.UTC)
    assert first_due(Daily(12, 0), NOON) == NOON + dt.timedelta(days=1)
    assert first_due(Every(dt.timedelta(hours=6)), NOON) == NOON


def test_missed_runs_are_made_up_for_by_one() -> None:
    every = Every(dt.timedelta(hours=6))
    late = NOON + dt.timedelta(days=3, minutes=1)
    assert due_after(every, NOON, late) == NOON + dt.timedelta(days=3, hours=6)
    assert due_after(Daily(12, 0), NOON, late) == NOON + dt.timedelta(days=4)


@given(timings, times, times)
def test_the_next_is_later_than_now_and_keeps_the_rhythm(
    timing: Timing, due: dt.datetime, now: dt.datetime
) -> None:
    found = due_after(timing, due, now)
    assert found > now or found > due
    if isinstance(timing, Daily):
        assert now < found <= now + dt.timedelta(days=1)
        assert (found.hour, found.minute, found.second) == (timing.hour, timing.minute, 0)
    else:
        assert (found - due) % timing.interval == dt.timedelta(0)
        assert found > max(now, due)
        assert found - max(now, due) <= timing.interval
