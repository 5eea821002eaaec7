"""A power cut leaves the newest commits of the tables in any state; the journal has their rows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from shared.lake.layout import TABLES
from shared.lake.snapshot import LakeEventTables
from shared.lake.table import TableWriter
from shared.lake.torn import settled_version, undo_torn_commits
from shared.lake.writer import LakeWriter
from tests.contract.test_lake_tables import JOURNAL, conversions, ids, writer


def commit_without_sync(lake: Path, position: int) -> None:
    """What stands on the disk when the power goes between a commit and the watermark."""
    name = f"{position:03d}"
    TableWriter(lake, TABLES["conversions"]).append(
        conversions([name], position), JOURNAL, position
    )


def log_entry(lake: Path, version: int) -> Path:
    return lake / "conversions" / "_delta_log" / f"{version:020d}.json"


def newest_file(lake: Path) -> Path:
    table = DeltaTable(lake / "conversions")
    before = set(DeltaTable(lake / "conversions", version=table.version() - 1).file_uris())
    (new,) = set(table.file_uris()) - before
    return Path(new)


def empty_entry(lake: Path) -> None:
    log_entry(lake, 2).write_bytes(b"")


def half_entry(lake: Path) -> None:
    entry = log_entry(lake, 2)
    entry.write_bytes(entry.read_bytes()[:-40])


def zeroed_entry(lake: Path) -> None:
    entry = log_entry(lake, 2)
    entry.write_bytes(bytes(len(entry.read_bytes())))


def empty_file(lake: Path) -> None:
    newest_file(lake).write_bytes(b"")


def zeroed_file(lake: Path) -> None:
    file = newest_file(lake)
    file.write_bytes(bytes(file.stat().st_size))


def no_file(lake: Path) -> None:
    newest_file(lake).unlink()


@pytest.mark.parametrize(
    "damage", [empty_entry, half_entry, zeroed_entry, empty_file, zeroed_file, no_file]
)
def test_a_torn_commit_is_undone_and_its_rows_are_stored_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    writer(tmp_path).append({"conversions": conversions(["001"], 1)}, 1)
    commit_without_sync(tmp_path, 2)
    damage(tmp_path)
    again: LakeWriter = writer(tmp_path)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["001"]
    again.append({"conversions": conversions(["002"], 2)}, 2)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["001", "002"]
    assert log_entry(tmp_path, 2).with_suffix(".torn").exists()


def test_what_follows_a_torn_commit_is_undone_with_it(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["001"], 1)}, 1)
    commit_without_sync(tmp_path, 2)
    commit_without_sync(tmp_path, 3)
    empty_entry(tmp_path)
    assert undo_torn_commits(tmp_path / "conversions", 1) == [2, 3]
    assert DeltaTable(tmp_path / "conversions").transaction_version(JOURNAL) == 1


def test_whole_commits_are_left_alone(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["001"], 1)}, 1)
    commit_without_sync(tmp_path, 2)
    assert undo_torn_commits(tmp_path / "conversions", 1) == []
    assert undo_torn_commits(tmp_path / "nothing", -1) == []
    assert DeltaTable(tmp_path / "conversions").transaction_version(JOURNAL) == 2


def test_an_unsynced_checkpoint_goes_with_the_commits_it_repeats(tmp_path: Path) -> None:
    writer(tmp_path).append({"conversions": conversions(["001"], 1)}, 1)
    commit_without_sync(tmp_path, 2)
    DeltaTable(tmp_path / "conversions").create_checkpoint()
    empty_file(tmp_path)
    again = writer(tmp_path)
    again.append({"conversions": conversions(["002"], 2)}, 2)
    assert ids(LakeEventTables(tmp_path).snapshot("acme")) == ["001", "002"]


def test_a_cleaned_log_without_a_watermark_is_trusted_from_its_beginning(tmp_path: Path) -> None:
    """Nobody could store the rows of its first entry again."""
    table = TableWriter(tmp_path, TABLES["conversions"])
    for position in range(1, 4):
        table.append(conversions([f"{position}"], position), JOURNAL, position)
    for version in (0, 1):
        log_entry(tmp_path, version).unlink()
    assert settled_version(table.path, "another", 0) == 2
