"""The watermark file was damaged and moved away, as its own error advises."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from services.events.adapters.delta_sink import DeltaSink
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.application.flush import flush
from services.events.domain.limits import Limits
from shared.errors import DomainError
from shared.ids import RandomIds
from shared.lake.layout import TABLES
from shared.lake.snapshot import LakeEventTables
from shared.lake.table import TableWriter
from shared.lake.upkeep import CROWD
from shared.lake.watermark import FILE_NAME, ConsistencyToken, read_watermark
from shared.testing.fakes import CountingIds, FixedClock
from tests.contract.test_lake_power_cut import empty_entry, no_file
from tests.contract.test_lake_tables import JOURNAL, conversions, ids, writer
from tests.contract.test_lake_upgrade import NOW, batch
from tests.unit.events.events_making import entry_of


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    yield journal
    journal.close()


def sink(lake: Path, journal: SqliteJournal) -> DeltaSink:
    return DeltaSink(lake, journal, FixedClock(NOW))


def lose_watermark(lake: Path) -> None:
    (lake / FILE_NAME).write_text("{")
    with pytest.raises(DomainError, match="move the file away and restart"):
        read_watermark(lake)
    (lake / FILE_NAME).unlink()


def test_acknowledged_tokens_are_readable_again_at_once(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    for name in "ab":
        journal.append(entry_of(batch(name)))
        flush(journal, sink(tmp_path, journal), Limits())
    token = ConsistencyToken(journal.id, journal.last)
    lose_watermark(tmp_path)
    again = sink(tmp_path, journal)
    assert again.watermark.covers(token)
    assert again.position == journal.last
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["a", "b"]


def test_what_the_journal_still_holds_is_not_promised(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    """Another table may lack its part of the newest commit."""
    journal.append(entry_of(batch("a")))
    flush(journal, sink(tmp_path, journal), Limits())
    journal.append(entry_of(batch("b")))
    sink(tmp_path, journal).store(journal.read(0, 10**9))
    lose_watermark(tmp_path)
    again = sink(tmp_path, journal)
    assert again.position == 1
    flush(journal, again, Limits())
    assert again.position == 2
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["a", "b"]


def test_tables_that_went_with_the_watermark_promise_nothing(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    journal.append(entry_of(batch("a")))
    flush(journal, sink(tmp_path / "one", journal), Limits())
    assert sink(tmp_path / "two", journal).position == 0


@pytest.mark.parametrize("damage", [empty_entry, no_file])
def test_a_torn_commit_is_undone_without_a_watermark_too(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    writer(tmp_path).append({"conversions": conversions(["001"], 1)}, 1)
    TableWriter(tmp_path, TABLES["conversions"]).append(conversions(["002"], 2), JOURNAL, 2)
    damage(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    again = writer(tmp_path, settled=1)
    assert again.watermark.position == 1
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["001"]


def test_files_that_were_replaced_and_removed_are_no_damage(tmp_path: Path) -> None:
    target = writer(tmp_path)
    for position in range(1, CROWD + 1):
        target.append({"conversions": conversions([f"{position:03d}"], position)}, position)
    target.tidy(budget_s=30)
    table = DeltaTable(tmp_path / "conversions")
    old = [Path(uri) for uri in DeltaTable(table.table_uri, version=CROWD).file_uris()]
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    assert not any(path.exists() for path in old)
    (tmp_path / FILE_NAME).unlink()
    again = writer(tmp_path)
    assert len(ids(LakeEventTables(tmp_path).snapshot("acme"))) == CROWD
    assert again.watermark.table_versions["conversions"] == table.version()


def test_a_damaged_commit_of_rows_that_the_journal_forgot_is_not_undone(tmp_path: Path) -> None:
    """Nobody could store its rows again: it is for a person to restore."""
    target = writer(tmp_path)
    for position in (1, 2, 3):
        target.append({"conversions": conversions([f"{position:03d}"], position)}, position)
    newest = set(DeltaTable(tmp_path / "conversions", version=2).file_uris())
    (tmp_path / FILE_NAME).unlink()
    Path(newest.pop()).write_bytes(b"")
    writer(tmp_path, settled=3)
    assert DeltaTable(tmp_path / "conversions").version() == 3
    assert not list((tmp_path / "conversions" / "_delta_log").glob("*.torn"))


def test_a_journal_that_begins_behind_another_waits_for_none_of_its_positions(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    lake = tmp_path / "lake"
    journal.append(entry_of(batch("a")))
    flush(journal, sink(lake, journal), Limits())
    behind = SqliteJournal(tmp_path / "new.db", RandomIds(), after=journal.last)
    assert behind.last == journal.last
    assert sink(lake, behind).position == behind.last
    behind.close()
