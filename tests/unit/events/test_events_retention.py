"""When retention is applied, and to which days: by a clock that may once be wrong."""

import datetime as dt
from dataclasses import dataclass, field

import pytest

from services.events.adapters.retention_sql import KnownRetention, SqlRetention, migrate_retention
from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.application.retention import Kept, RetentionUpkeep
from services.events.domain.dedupe import day_number
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection, Wanted
from services.events.domain.retention import REJECTED, Retention
from shared.state.database import Database
from shared.testing.fakes import FixedClock

NOW = dt.datetime(2026, 6, 30, 12, tzinfo=dt.UTC)
TODAY = NOW.date()


@dataclass
class Bench:
    clock: FixedClock
    rejected: SqliteRejectedEvents
    rules: list[Retention] = field(default_factory=list)
    dropped: list[tuple[str, str, dt.date]] = field(default_factory=list)

    def upkeep(self, newest_day: int | None = None) -> RetentionUpkeep:
        newest = day_number(NOW) if newest_day is None else newest_day

        def drop(name: str, project: str, day: dt.date) -> int:
            self.dropped.append((name, project, day))
            return 1

        return RetentionUpkeep(
            Kept(lambda: self.rules, drop, self.rejected, lambda: newest, self.clock)
        )


@pytest.fixture
def bench(tmp_path):
    made = Bench(FixedClock(NOW), SqliteRejectedEvents(tmp_path / "r.db", Limits()))
    yield made
    made.rejected.close()


def test_days_before_the_oldest_kept_are_dropped_once_an_hour_and_after_a_change(bench) -> None:
    bench.rules = [Retention("acme", {"conversions": 30}), Retention("rival", {"exposures": 1})]
    upkeep = bench.upkeep()
    upkeep.turn()
    expected = [
        ("conversions", "acme", dt.date(2026, 5, 31)),
        ("exposures", "rival", dt.date(2026, 6, 29)),
    ]
    assert bench.dropped == expected
    upkeep.turn()
    assert bench.dropped == expected
    upkeep.soon()
    upkeep.turn()
    assert bench.dropped == expected * 2


def test_clock_that_leaps_ahead_deletes_nothing_until_it_has_gone_on_from_there(bench) -> None:
    bench.rules = [Retention("acme", {"conversions": 30})]
    bench.clock.advance(dt.timedelta(days=3650))
    upkeep = bench.upkeep()
    for _ in range(2):
        upkeep.soon()
        upkeep.turn()
        bench.clock.advance(dt.timedelta(days=1))
    assert bench.dropped == []
    upkeep.soon()
    upkeep.turn()
    assert len(bench.dropped) == 1


def test_rejected_events_go_by_the_day_of_their_receipt(bench) -> None:
    for number, days in enumerate((0, 6, 7, 8, 9)):
        time_us = int((NOW - dt.timedelta(days=days)).timestamp() * 1_000_000)
        why = Rejection(f"e{days}", Reason.INVALID_FIELD, "value", "is wrong")
        bench.rejected.keep([RejectedEvent("acme", why, time_us, "", bytes([number]))])
    bench.rules = [Retention("acme", {REJECTED: 7})]
    bench.upkeep().turn()
    kept = bench.rejected.newest("acme", Wanted(), None, 10)
    assert sorted(one.event.rejection.event_id for one in kept) == ["e0", "e6", "e7"]
    assert bench.dropped == []


@pytest.mark.parametrize(("days", "first"), [(0, None), (1, dt.date(2026, 6, 29)), (36500, None)])
def test_oldest_day(days: int, first: dt.date | None) -> None:
    oldest = Retention("acme", {"conversions": days}).oldest_day("conversions", TODAY)
    assert oldest == first or (days == 36500 and oldest == TODAY - dt.timedelta(days=days))


def test_oldest_time_is_the_begin_of_the_oldest_day(tmp_path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'state.db'}")
    migrate_retention(database)
    known = KnownRetention(database, FixedClock(NOW))
    assert known.oldest_us("acme", "conversions") == 0
    with database.begin() as connection:
        SqlRetention(connection).replace(Retention("acme", {"conversions": 30}), "", NOW)
    assert known.oldest_us("acme", "conversions") == 0, "what was read stands until a reload"
    known.reload()
    first = dt.datetime(2026, 5, 31, tzinfo=dt.UTC)
    assert known.oldest_us("acme", "conversions") == first.timestamp() * 1_000_000
    assert known.oldest_us("acme", "exposures") == 0
    assert known.oldest_us("rival", "conversions") == 0
    database.close()
