"""Logging a batch: every item judged, nothing acknowledged that is not durable."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from services.events.adapters.arrow_codec import ArrowCodec, decode
from services.events.application.group_commit import Durable, GroupCommit
from services.events.application.keep_rejected import GroupKeep
from services.events.application.log_events import EventLog, LogEvents, Logged, log_events
from services.events.application.pending import PendingBatches
from services.events.application.receive_time import ReceiveTime
from services.events.batch import portions_of
from services.events.domain.dedupe import DedupeWindow
from services.events.domain.event import Event
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, Rejection
from shared.errors import Code, DomainError
from shared.testing.fakes import FixedClock
from tests.unit.events import events_fakes as fakes

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
NOW_US = int(NOW.timestamp() * 1_000_000)
HOUR_US = 3600 * 1_000_000


@dataclass
class Bench:
    log: EventLog
    journal: fakes.MemoryJournal
    rejected: fakes.MemoryRejected

    def stored(self) -> list[str]:
        tables = decode(self.journal.entries).values()
        return [event_id for rows in tables for event_id in rows["event_id"].to_pylist()]


@pytest.fixture
def bench() -> Iterator[Bench]:
    journal, rejected = fakes.MemoryJournal(), fakes.MemoryRejected()
    limits = Limits()
    window: DedupeWindow[Durable] = DedupeWindow(30)
    commits = GroupCommit(journal, ArrowCodec(), limits)
    pending = PendingBatches(lambda: 0)
    keeping = GroupKeep(rejected, limits)
    log = EventLog(window, commits, keeping, ReceiveTime(FixedClock(NOW)), limits, pending)
    yield Bench(log, journal, rejected)
    journal.gate.set()
    commits.close()
    keeping.close()


def event(event_id: str, value: float = 1.0, time_us: int = NOW_US) -> Event:
    return Event(
        event_id, time_us, "user", "u1", None, "shop", None, "conversions", ("buy", value, None)
    )


async def send(bench: Bench, *items: Event | Rejection, project: str = "acme") -> Logged:
    good = [(place, item) for place, item in enumerate(items) if isinstance(item, Event)]
    bad = {place: item for place, item in enumerate(items) if isinstance(item, Rejection)}
    command = LogEvents(
        project, portions_of(good), bad, lambda i: ("shop", f"payload {i}".encode())
    )
    return await log_events(command, bench.log)


BAD = Rejection("bad", Reason.INVALID_FIELD, "unit.id", "is '': required")


async def test_a_bad_item_does_not_stop_the_others(bench: Bench) -> None:
    logged = await send(bench, event("a"), BAD, event("b"))
    assert (logged.accepted, logged.duplicates) == (2, ())
    assert logged.rejected == ((1, BAD),)
    assert bench.stored() == ["a", "b"]
    (kept,) = bench.rejected.kept
    assert (kept.project, kept.rejection, kept.payload) == ("acme", BAD, b"payload 1")


async def test_a_retry_changes_nothing(bench: Bench) -> None:
    first = await send(bench, event("a"), event("b"))
    again = await send(bench, event("a"), event("b"), event("c"))
    assert (again.accepted, again.duplicates, again.rejected) == (1, (0, 1), ())
    assert bench.stored() == ["a", "b", "c"]
    assert again.position > first.position


async def test_a_pure_retry_is_covered_by_its_token(bench: Bench) -> None:
    first = await send(bench, event("a"))
    again = await send(bench, event("a"))
    assert again.position >= first.position
    assert len(bench.journal.entries) == 1


async def test_a_token_says_nothing_of_what_others_log(bench: Bench) -> None:
    first = await send(bench, event("a"))
    for i in range(3):
        await send(bench, event(str(i)), project="rival")
    bench.journal.gate.clear()
    mine = asyncio.create_task(send(bench, event("b")))
    await asyncio.sleep(0.05)  # it goes to the disk alone
    theirs = asyncio.create_task(send(bench, event("last"), project="rival"))
    await asyncio.sleep(0.05)
    bench.journal.gate.set()
    await theirs
    assert (first.position, (await mine).position, bench.journal.last) == (1, 5, 6)


async def test_a_token_is_never_below_that_of_the_call_before(bench: Bench) -> None:
    first = await send(bench, event("a"))
    rejected = await send(bench, BAD)
    both = await send(bench, event("a"), event("b"))
    assert first.position <= rejected.position <= both.position
    assert both.position == 2


async def test_a_batch_is_pending_for_its_own_project(bench: Bench) -> None:
    for i in range(3):
        await send(bench, event(str(i)), project="rival")
    await send(bench, event("a"), BAD)
    await send(bench, BAD)
    pending = bench.log.pending
    assert [pending.of(p) for p in ("acme", "rival", "nobody")] == [1, 3, 0]
    assert pending.total() == 4


async def test_the_first_of_two_contents_stands(bench: Bench) -> None:
    await send(bench, event("a", value=1.0))
    logged = await send(bench, event("a", value=2.0), event("b"))
    assert logged.accepted == 1
    ((place, why),) = logged.rejected
    assert (place, why.reason, why.event_id) == (0, Reason.CONFLICTING_DUPLICATE, "a")
    assert bench.rejected.kept[0].source == "shop"
    assert bench.stored() == ["a", "b"]


async def test_the_same_id_in_two_projects_is_two_events(bench: Bench) -> None:
    await send(bench, event("a"), project="acme")
    assert (await send(bench, event("a", value=9.0), project="rival")).accepted == 1


async def test_two_batches_at_once_count_an_id_once(bench: Bench) -> None:
    bench.journal.gate.clear()
    first = asyncio.create_task(send(bench, event("a"), event("b")))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(send(bench, event("a")))
    await asyncio.sleep(0.05)
    assert not second.done(), "a duplicate is acknowledged only when the first is durable"
    bench.journal.gate.set()
    assert (await first).accepted == 2
    assert (await second).duplicates == (0,)
    assert bench.stored() == ["a", "b"]


async def test_a_failed_write_is_an_error_for_all_who_depend_on_it(bench: Bench) -> None:
    bench.journal.failures = [fakes.full_disk()]
    bench.journal.gate.clear()
    first = asyncio.create_task(send(bench, event("a")))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(send(bench, event("a")))
    await asyncio.sleep(0.01)
    bench.journal.gate.set()
    for task in (first, second):
        with pytest.raises(DomainError) as raised:
            await task
        assert raised.value.reason == "STORAGE_UNAVAILABLE"
    assert bench.stored() == []
    assert (await send(bench, event("a"))).accepted == 1, "the reservation was released"


async def test_a_caller_that_goes_away_leaves_no_reservation_behind(bench: Bench) -> None:
    bench.journal.gate.clear()
    task = asyncio.create_task(send(bench, event("a")))
    await asyncio.sleep(0.01)
    task.cancel()
    bench.journal.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await send(bench, event("a"))).duplicates == (0,)
    assert bench.stored() == ["a"]


async def test_a_full_queue_sends_callers_away_and_stores_nothing_of_theirs(bench: Bench) -> None:
    bench.log = replace(
        bench.log, commits=GroupCommit(bench.journal, ArrowCodec(), Limits(queued_bytes=1))
    )
    bench.journal.gate.clear()
    waiting = []
    for i in range(2):  # the first is at the disk, the second waits in the queue
        waiting.append(asyncio.create_task(send(bench, event(str(i)))))
        await asyncio.sleep(0.1)
    with pytest.raises(DomainError, match="wait for the disk") as raised:
        await send(bench, event("late"))
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    assert raised.value.retry_after_s
    bench.journal.gate.set()
    await asyncio.gather(*waiting)
    assert (await send(bench, event("late"))).accepted == 1
    assert sorted(bench.stored()) == ["0", "1", "late"]
    bench.log.commits.close()


async def test_a_backlog_of_the_tables_sends_callers_away(bench: Bench) -> None:
    bench.log = replace(
        bench.log, commits=GroupCommit(bench.journal, ArrowCodec(), Limits(backlog_bytes=1))
    )
    await send(bench, event("a"))
    with pytest.raises(DomainError, match="wait to be written to the tables") as raised:
        await send(bench, event("b"))
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    bench.log.commits.close()


async def test_after_closing_callers_are_told_to_call_again(bench: Bench) -> None:
    bench.log.commits.close()
    bench.log.commits.close()
    with pytest.raises(DomainError, match="shutting down") as raised:
        await send(bench, event("a"))
    assert raised.value.reason == "DRAINING"


async def test_rejections_that_cannot_be_kept_are_not_acknowledged(bench: Bench) -> None:
    bench.rejected.failures = [fakes.full_disk()]
    with pytest.raises(DomainError, match="disk is full"):
        await send(bench, BAD)


@pytest.mark.parametrize(
    ("time_us", "stored"),
    [
        (0, True),
        (-1, False),
        (NOW_US - 5 * 365 * 24 * HOUR_US, True),
        (NOW_US + 25 * HOUR_US, True),
        (NOW_US + 25 * HOUR_US + 1, False),
        (253_402_300_799_000_000, False),
        (-62_135_596_800_000_000, False),
    ],
)
async def test_event_times_from_1970_to_25_hours_ahead(
    bench: Bench, time_us: int, stored: bool
) -> None:
    logged = await send(bench, event("a", time_us=time_us))
    assert logged.accepted == int(stored)
    assert [w.reason for _, w in logged.rejected] == [Reason.EVENT_TIME_OUT_OF_RANGE] * (not stored)


async def test_an_event_time_that_is_out_of_range_is_told_as_a_date(bench: Bench) -> None:
    logged = await send(bench, event("a", time_us=NOW_US + 26 * HOUR_US))
    ((_, why),) = logged.rejected
    assert why.message == (
        "is 2026-06-02T14:00:00Z; allowed: from 1970-01-01T00:00:00Z to 25 hours after it is "
        "received, for this batch 2026-06-02T13:00:00Z: send the time when it happened, in UTC"
    )


async def test_many_callers_share_a_sync(bench: Bench) -> None:
    bench.journal.gate.clear()
    tasks = [asyncio.create_task(send(bench, event(str(i)))) for i in range(100)]
    await asyncio.sleep(0.05)
    bench.journal.gate.set()
    assert sum(t.accepted for t in await asyncio.gather(*tasks)) == 100
    assert bench.journal.groups <= 3
    assert sorted(bench.stored()) == sorted(str(i) for i in range(100))


async def test_an_unexpected_failure_does_not_leave_callers_waiting(bench: Bench) -> None:
    bench.journal.failures = [RuntimeError("surprise")]
    with pytest.raises(RuntimeError):
        await send(bench, event("a"))
    assert (await send(bench, event("a"))).accepted == 1
