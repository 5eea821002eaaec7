"""From the journal to the tables, and back to the window after a restart."""

import datetime as dt
import threading
import time
from pathlib import Path

import pytest

from services.events.adapters.arrow_codec import partitions_of
from services.events.adapters.delta_sink import PARTITIONS_AT_ONCE, DeltaSink
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.adapters.window_rebuild import rebuild
from services.events.application.flush import FlushLoop, flush
from services.events.application.window_upkeep import WindowUpkeep
from services.events.batch import Batch
from services.events.domain.dedupe import DedupeWindow, Seen
from services.events.domain.event import Event
from services.events.domain.limits import Limits
from services.events.ports import JournalEntry
from shared.errors import DomainError
from shared.lake.snapshot import LakeEventTables
from shared.testing.fakes import CountingIds, FixedClock
from tests.unit.events import events_fakes as fakes
from tests.unit.events.events_making import batch_of, digest_of, entry_of, fingerprint_of

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
NOW_US = int(NOW.timestamp() * 1_000_000)
DAY_US = 86_400_000_000


def event(event_id: str) -> Event:
    return Event(
        event_id, NOW_US, "user", "u1", None, None, None, "conversions", ("buy", 1.0, None)
    )


def batch(*ids: str, project: str = "acme", receive_time_us: int = NOW_US) -> Batch:
    return batch_of(*map(event, ids), project=project, receive_time_us=receive_time_us)


def loop_over(journal: fakes.MemoryJournal, sink: fakes.MemorySink, interval_s: float) -> FlushLoop:
    return FlushLoop(
        lambda: flush(journal, sink, Limits()), sink.tidy, sink.recover, interval_s=interval_s
    )


def test_a_turn_moves_a_portion_and_trims_what_it_moved() -> None:
    journal, sink = fakes.MemoryJournal(), fakes.MemorySink()
    for name in "abc":
        journal.append(name.encode())
    assert flush(journal, sink, Limits())
    assert (sink.stored, [e.position for e in journal.entries]) == ([b"a", b"b"], [3])
    assert not flush(journal, sink, Limits()), "the portion held the rest"
    assert not flush(journal, sink, Limits())
    assert sink.stored == [b"a", b"b", b"c"]


def test_what_comes_during_a_turn_waits_for_the_next() -> None:
    """Otherwise steady traffic would be one commit after another, without a pause."""
    journal = fakes.MemoryJournal()
    sink = fakes.MemorySink(during=lambda: journal.append(b"later"))
    journal.append(b"a")
    assert not flush(journal, sink, Limits())
    assert (sink.stored, len(journal.entries)) == ([b"a"], 1)


def test_steady_traffic_is_stored_once_an_interval_and_upkeep_has_its_turns() -> None:
    journal = fakes.MemoryJournal()
    sink = fakes.MemorySink(during=lambda: journal.append(b"more"))
    journal.append(b"a")
    loop = loop_over(journal, sink, interval_s=0.05)
    begun_s = time.monotonic()
    loop.start()
    time.sleep(0.6)
    loop.close()
    # One at the start and one at the close, besides one an interval.
    assert 2 <= sink.stores <= 2 + (time.monotonic() - begun_s) / 0.05
    assert 2 <= sink.tidies <= sink.stores


def test_upkeep_has_its_turns_while_a_backlog_is_worked_off() -> None:
    journal = fakes.MemoryJournal()
    sink = fakes.MemorySink(during=lambda: time.sleep(0.02))
    for _ in range(40):
        journal.append(b"a")
    loop = loop_over(journal, sink, interval_s=0.1)
    loop.start()
    time.sleep(0.12)
    while journal.entries:
        time.sleep(0.001)
    assert 2 <= sink.tidies < sink.stores / 2
    loop.close()


def test_failing_upkeep_delays_no_event() -> None:
    journal = fakes.MemoryJournal()
    sink = fakes.MemorySink(during=lambda: None)
    sink.tidy_failures = [OSError("no space for a rewrite")] * 50
    loop = loop_over(journal, sink, interval_s=0.01)
    loop.start()
    time.sleep(0.2)
    journal.append(b"a")
    time.sleep(0.1)
    assert (sink.stored, loop.healthy) == ([b"a"], True)
    assert sink.recoveries >= 3
    loop.close()


def test_a_failed_turn_trims_nothing() -> None:
    journal, sink = fakes.MemoryJournal(), fakes.MemorySink()
    journal.append(b"a")
    sink.failures = [OSError("disk")]
    with pytest.raises(OSError, match="disk"):
        flush(journal, sink, Limits())
    assert len(journal.entries) == 1
    flush(journal, sink, Limits())
    assert (sink.stored, journal.entries) == ([b"a"], [])


def test_the_loop_outlives_failures_and_tells_of_them() -> None:
    journal, sink = fakes.MemoryJournal(), fakes.MemorySink()
    journal.append(b"a")
    sink.failures = [OSError("once"), OSError("twice")]
    loop = loop_over(journal, sink, interval_s=0.02)
    loop.start()
    unhealthy = False
    end = time.monotonic() + 10
    while not sink.stored and time.monotonic() < end:
        unhealthy = unhealthy or not loop.healthy
        time.sleep(0.002)
    time.sleep(0.05)
    assert (sink.stored, sink.recoveries, unhealthy, loop.healthy) == ([b"a"], 2, True, True)
    journal.append(b"b")
    loop.close()
    loop.close()
    assert sink.stored == [b"a", b"b"], "closing flushes what there is"


def readable(lake: Path, project: str = "acme") -> list[str]:
    with LakeEventTables(lake).snapshot(project).read() as tables:
        return sorted(tables["conversions"].event_id.to_pyarrow().to_pylist())


def test_a_restart_between_any_two_steps_stores_each_event_once(tmp_path: Path) -> None:
    """Stops after: store without trim, twice; the next start sees the same journal again."""
    lake, file = tmp_path / "lake", tmp_path / "j.db"
    for round_number in range(3):
        journal = SqliteJournal(file, CountingIds())
        sink = DeltaSink(lake, journal, FixedClock(NOW))
        journal.append(entry_of(batch(f"{round_number}-a"), batch(f"{round_number}-b")))
        sink.store(journal.read(0, 10**9))  # everything, also what is stored already
        journal.close()
    assert readable(lake) == sorted(f"{r}-{c}" for r in range(3) for c in "ab")


def spread_batch(name: str, days: int, first: int = 0) -> Batch:
    """An event a day."""
    return batch_of(
        *(
            event(f"{name}{day}")._replace(time_us=NOW_US - (first + day) * DAY_US)
            for day in range(days)
        )
    )


def test_a_step_writes_a_bounded_number_of_files_and_says_that_more_waits(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    sink = DeltaSink(tmp_path / "lake", journal, FixedClock(NOW))
    days = PARTITIONS_AT_ONCE // 2 + 1
    journal.append(entry_of(spread_batch("a", days)))
    journal.append(entry_of(spread_batch("b", days)))
    journal.append(entry_of(spread_batch("c", days, first=days)))
    assert flush(journal, sink, Limits())
    # The days of the first two are the same ones.
    assert (sink.position, len(list((tmp_path / "lake").rglob("*.parquet")))) == (2, days)
    assert not flush(journal, sink, Limits())
    assert sink.position == 3
    journal.close()


def test_an_entry_that_touches_more_than_a_step_may_is_stored_by_itself(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    sink = DeltaSink(tmp_path / "lake", journal, FixedClock(NOW))
    journal.append(entry_of(batch("a")))
    journal.append(entry_of(spread_batch("b", 2), spread_batch("c", PARTITIONS_AT_ONCE, 2)))
    journal.append(entry_of(batch("d")))
    assert flush(journal, sink, Limits())
    assert sink.position == 1
    assert flush(journal, sink, Limits())
    assert sink.position == 2
    assert not flush(journal, sink, Limits())
    assert len(readable(tmp_path / "lake")) == PARTITIONS_AT_ONCE + 4
    journal.close()


def test_partitions_are_told_by_table_project_and_day() -> None:
    entry = JournalEntry(
        1, entry_of(spread_batch("a", 3), batch("b", project="rival"), batch("c", project="acme"))
    )
    today = NOW_US // DAY_US
    assert partitions_of(entry) == {
        *(("conversions", "acme", today - back) for back in range(3)),
        ("conversions", "rival", today),
    }


def seen(window: DedupeWindow[str], name: str, project: str = "acme") -> Seen:
    key = fingerprint_of(project, name)
    return Seen(window.reserve([key], [digest_of(event(name))], "asker").outcomes[0])


def test_the_window_is_rebuilt_from_tables_and_journal(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    sink = DeltaSink(tmp_path / "lake", journal, FixedClock(NOW))
    journal.append(entry_of(batch("a", "b"), batch("a", project="007")))
    flush(journal, sink, Limits())
    journal.append(entry_of(batch("c")))
    window: DedupeWindow[str] = DedupeWindow(30)
    rebuild(window, tmp_path / "lake", journal, Limits(), NOW)
    assert len(window) == 4
    assert [seen(window, n) for n in "abc"] == [Seen.DUPLICATE] * 3
    assert seen(window, "a", project="007") is Seen.DUPLICATE
    assert seen(window, "b", project="007") is Seen.NEW
    assert seen(window, "d") is Seen.NEW
    journal.close()


def test_what_was_received_before_the_window_is_not_loaded(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    sink = DeltaSink(tmp_path / "lake", journal, FixedClock(NOW))
    journal.append(entry_of(batch("old", receive_time_us=NOW_US - 31 * DAY_US)))
    journal.append(entry_of(batch("new", receive_time_us=NOW_US - 29 * DAY_US)))
    journal.append(entry_of(batch("newest")))
    flush(journal, sink, Limits())
    window: DedupeWindow[str] = DedupeWindow(30)
    rebuild(window, tmp_path / "lake", journal, Limits(), NOW)
    assert [seen(window, n) for n in ("old", "new")] == [Seen.NEW, Seen.DUPLICATE]
    journal.close()


def test_a_clock_that_is_ahead_at_the_start_leaves_no_id_out(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    sink = DeltaSink(tmp_path / "lake", journal, FixedClock(NOW))
    journal.append(entry_of(batch("old", receive_time_us=NOW_US - 31 * DAY_US)))
    journal.append(entry_of(batch("new"), batch("newer", receive_time_us=NOW_US)))
    flush(journal, sink, Limits())
    window: DedupeWindow[str] = DedupeWindow(30)
    rebuild(window, tmp_path / "lake", journal, Limits(), NOW + dt.timedelta(days=365))
    assert [seen(window, n) for n in ("old", "new")] == [Seen.NEW, Seen.DUPLICATE]
    journal.close()


def test_a_day_that_is_not_believed_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = FixedClock(NOW)
    upkeep = WindowUpkeep(DedupeWindow(30), clock)
    upkeep.turn()
    clock.advance(dt.timedelta(days=365))
    for _ in range(3):
        upkeep.turn()
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "2027-06-01" in caplog.text


def test_a_journal_from_an_older_backup_is_refused(tmp_path: Path) -> None:
    """Its positions were used: events under them would be taken for stored ones and lost."""
    file, lake = tmp_path / "j.db", tmp_path / "lake"
    journal = SqliteJournal(file, CountingIds())
    journal.append(entry_of(batch("a")))
    journal.close()
    backup = file.read_bytes()
    journal = SqliteJournal(file, CountingIds())
    journal.append(entry_of(batch("b")))
    flush(journal, DeltaSink(lake, journal, FixedClock(NOW)), Limits())
    journal.close()
    file.write_bytes(backup)
    journal = SqliteJournal(file, CountingIds())
    with pytest.raises(DomainError, match="restored from an older copy"):
        DeltaSink(lake, journal, FixedClock(NOW))
    journal.close()


def test_a_folder_for_tables_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DomainError, match="set TOUCHSTONE_LAKE") as raised:
        DeltaSink(tmp_path / "file" / "lake", fakes.MemoryJournal(), FixedClock(NOW))
    assert raised.value.reason == "STORAGE_UNAVAILABLE"


def comes_to_be(loop: FlushLoop, healthy: bool) -> bool:
    end = time.monotonic() + 5
    while loop.healthy is not healthy and time.monotonic() < end:
        time.sleep(0.01)
    return loop.healthy is healthy


def test_a_turn_that_hangs_is_told_and_heals_by_itself() -> None:
    gate, entered = threading.Event(), threading.Event()

    def step() -> bool:
        entered.set()
        assert gate.wait(10)
        return False

    def nothing() -> None:
        pass

    loop = FlushLoop(step, tidy=nothing, recover=nothing, interval_s=0.01, hangs_s=0.2)
    loop.start()
    assert entered.wait(5)
    assert loop.healthy
    assert comes_to_be(loop, healthy=False)
    gate.set()
    assert comes_to_be(loop, healthy=True)
    loop.close()
