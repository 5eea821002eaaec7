"""Which batches are pending, and what is exported of it."""

import datetime as dt
from pathlib import Path

from services.events.adapters.delta_sink import DeltaSink
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.application.flush import flush
from services.events.application.pending import PendingBatches
from services.events.composition.core import pending_batches
from services.events.domain.limits import Limits
from shared.testing.fakes import CountingIds, FixedClock
from tests.unit.events.events_making import entry_of
from tests.unit.events.test_events_flush import batch

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)


def test_a_batch_is_pending_until_it_is_visible() -> None:
    visible = [0]
    pending = PendingBatches(lambda: visible[0])
    for position, project in [(1, "a"), (1, "b"), (2, "a"), (3, "a")]:
        pending.add(project, position)
    assert [pending.of(p) for p in "abc"] == [3, 1, 0]
    visible[0] = 2
    assert pending.total() == 1
    assert [pending.of(p) for p in "abc"] == [1, 0, 0]
    visible[0] = 3
    assert (pending.of("a"), pending.total()) == (0, 0)


def test_what_is_visible_already_is_not_pending() -> None:
    pending = PendingBatches(lambda: 7)
    pending.add("a", 7)
    assert pending.total() == 0


def test_after_a_restart_the_backlog_is_pending(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    sink = DeltaSink(tmp_path / "lake", journal, FixedClock(NOW))
    journal.append(entry_of(batch("seen")))
    flush(journal, sink, Limits())
    journal.append(entry_of(batch("a"), batch("b", project="rival")))
    journal.append(entry_of(batch("c")))
    pending = pending_batches(journal, sink, Limits(flush_bytes=1))
    assert [pending.of(p) for p in ("acme", "rival")] == [2, 1]
    flush(journal, sink, Limits())
    assert pending.total() == 0
    journal.close()
