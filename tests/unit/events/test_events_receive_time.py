"""The receive time of the service, over a clock that is set back and forth."""

import datetime as dt

from services.events.application.receive_time import ReceiveTime
from shared.testing.fakes import FixedClock


def test_it_follows_the_clock_and_waits_while_the_clock_is_behind() -> None:
    clock = FixedClock(dt.datetime(2026, 3, 29, 1, tzinfo=dt.UTC))
    received = ReceiveTime(clock)
    first = received.now_us()
    assert first == 1_774_746_000_000_000
    seen = [first]
    for minutes in (1, -61, 30, 30, 1, -119, 119, 5):
        clock.advance(dt.timedelta(minutes=minutes))
        seen.append(received.now_us())
    assert seen == sorted(seen)
    assert [us - first for us in seen[1:]] == [60_000_000] * 7 + [360_000_000]


def test_a_clock_that_was_far_ahead_for_a_moment_is_not_followed_for_long() -> None:
    clock = FixedClock(dt.datetime(2026, 3, 29, 1, tzinfo=dt.UTC))
    received = ReceiveTime(clock)
    first = received.now_us()
    clock.advance(dt.timedelta(days=40))
    assert received.now_us() == first + 40 * 86_400_000_000
    clock.advance(-dt.timedelta(days=40) + dt.timedelta(seconds=1))
    assert received.now_us() == first + 1_000_000
