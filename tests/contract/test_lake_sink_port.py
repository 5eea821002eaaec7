"""What EventSink promises its flusher, over every adapter and the fake of the unit tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.events.adapters.arrow_codec import decode
from services.events.adapters.delta_sink import DeltaSink
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.ports import EventSink, JournalEntry
from shared.lake.snapshot import LakeEventTables
from shared.testing.fakes import CountingIds, FixedClock
from tests.contract.test_lake_tables import ids
from tests.contract.test_lake_upgrade import NOW, batch
from tests.unit.events.events_fakes import MemorySink
from tests.unit.events.events_making import entry_of


@dataclass
class Bench:
    """A journal, and the sink that is opened over it again and again."""

    kind: str
    folder: Path
    journal: SqliteJournal
    sink: EventSink

    def reopen(self) -> None:
        if self.kind == "delta":
            self.sink = delta(self.folder, self.journal)

    def entries(self, *names: str) -> Sequence[JournalEntry]:
        """An entry with a batch a name, and all before it."""
        self.journal.append(entry_of(*(batch(name) for name in names)))
        return self.journal.read(0, 10**9)

    def visible(self) -> list[str]:
        if isinstance(self.sink, MemorySink):
            entries = [JournalEntry(1, blob) for blob in self.sink.stored]
            tables = decode(entries).values()
            return sorted(name for rows in tables for name in rows["event_id"].to_pylist())
        return ids(LakeEventTables(self.folder / "lake").snapshot("acme"))


def delta(folder: Path, journal: SqliteJournal) -> DeltaSink:
    return DeltaSink(folder / "lake", journal, FixedClock(NOW))


@pytest.fixture(params=["delta", "memory"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    sink: EventSink = delta(tmp_path, journal) if request.param == "delta" else MemorySink()
    yield Bench(request.param, tmp_path, journal, sink)
    journal.close()


def test_a_new_sink_holds_nothing(bench: Bench) -> None:
    assert (bench.sink.position, bench.visible()) == (0, [])


def test_what_is_stored_is_visible_and_moves_the_position(bench: Bench) -> None:
    bench.sink.store(bench.entries("a", "b"))
    assert (bench.sink.position, bench.visible()) == (1, ["a", "b"])
    bench.reopen()
    assert (bench.sink.position, bench.visible()) == (1, ["a", "b"])


def test_entries_handed_in_again_are_stored_once(bench: Bench) -> None:
    first = bench.entries("a")
    bench.sink.store(first)
    bench.sink.store(first)
    bench.reopen()
    bench.sink.store(bench.entries("b"))
    bench.sink.recover()
    bench.sink.store(bench.entries("c"))
    assert (bench.sink.position, bench.visible()) == (3, ["a", "b", "c"])


def test_older_entries_do_not_move_the_position_back(bench: Bench) -> None:
    first = bench.entries("a")
    bench.sink.store(bench.entries("b"))
    bench.sink.store(first)
    assert (bench.sink.position, bench.visible()) == (2, ["a", "b"])


def test_upkeep_changes_nothing_that_is_visible(bench: Bench) -> None:
    bench.sink.tidy()
    for number in range(30):
        bench.sink.store(bench.entries(f"{number:02d}"))
    before = bench.visible()
    bench.sink.tidy()
    bench.sink.recover()
    bench.sink.tidy()
    assert (bench.sink.position, bench.visible()) == (30, before)
