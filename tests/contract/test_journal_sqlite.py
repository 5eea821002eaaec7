"""What the SQLite files of the events service do when the disk or the file is not as it should."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection, Wanted
from shared.errors import Code, DomainError
from shared.testing.fakes import CountingIds

AS_ROOT = os.geteuid() == 0


def open_journal(path: Path) -> SqliteJournal:
    return SqliteJournal(path, CountingIds())


def fill(journal: SqliteJournal, pages: int) -> None:
    """Let the file grow by a few pages only: the next large append finds the disk full."""
    (now,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {now + pages}")


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    for pragma, value in [("synchronous", 2), ("journal_mode", "wal")]:
        assert journal._connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    journal.close()


def test_a_full_disk_is_told_and_nothing_of_the_call_stays(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    journal.append(b"a")
    fill(journal, 2)
    with pytest.raises(DomainError, match="the disk is full: free some space") as raised:
        journal.append(b"x" * 100_000)
    assert (raised.value.code, raised.value.retry_after_s) == (Code.UNAVAILABLE, 1.0)
    assert [e.batches for e in journal.read(0, 10**9)] == [b"a"]
    journal.close()


def test_a_disk_with_space_again_is_used_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    fill(journal, 2)
    with pytest.raises(DomainError):
        journal.append(b"x" * 100_000)
    journal._connection.execute("PRAGMA max_page_count = 1000000")
    assert journal.usable
    journal.append(b"x" * 100_000)
    assert journal.read(0, 10**9)[0].batches == b"x" * 100_000
    journal.close()


def test_after_an_unknown_failure_nothing_is_acknowledged_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    journal.append(b"a")
    journal._connection.execute("PRAGMA query_only = ON")  # stands for EIO: a write that fails
    with pytest.raises(DomainError):
        journal.append(b"b")
    journal._connection.execute("PRAGMA query_only = OFF")
    assert not journal.usable
    with pytest.raises(DomainError):
        journal.append(b"c")
    journal.close()
    assert [e.batches for e in open_journal(tmp_path / "j.db").read(0, 10**9)] == [b"a"]


def test_a_second_process_on_the_same_file_is_refused(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    with pytest.raises(DomainError, match="another process uses it"):
        open_journal(tmp_path / "j.db")
    journal.append(b"a")
    journal.close()


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_journal(tmp_path / "j.db").close()
    with sqlite3.connect(tmp_path / "j.db") as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(DomainError, match="has version 3; this program reads up to 2") as raised:
        open_journal(tmp_path / "j.db")
    assert (raised.value.code, raised.value.reason) == (Code.FAILED_PRECONDITION, "NEWER_VERSION")


def test_an_older_program_may_go_on_until_its_entries_are_gone(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    position = journal.append(b"a")
    journal._connection.execute("PRAGMA user_version = 1")
    journal.close()
    again = open_journal(tmp_path / "j.db")
    assert version_of(again) == 1
    again.trim(position)
    again.close()
    assert version_of(open_journal(tmp_path / "j.db")) == 2


def version_of(journal: SqliteJournal) -> int:
    (version,) = journal._connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(DomainError, match="damaged or not ours"):
        open_journal(tmp_path / "j.db")
    assert (tmp_path / "j.db").read_bytes().startswith(b"this is not")


def test_a_flipped_bit_is_found_when_it_is_read(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j.db")
    journal.append(b"needle" * 10)
    journal.close()
    content = (tmp_path / "j.db").read_bytes()
    (tmp_path / "j.db").write_bytes(content.replace(b"needleneedle", b"needlenee\x00le", 1))
    again = open_journal(tmp_path / "j.db")
    with pytest.raises(DomainError, match=r"entry 1 of .* is damaged"):
        again.read(0, 10**9)
    again.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DomainError, match=r"cannot use .*file/j\.db"):
        open_journal(tmp_path / "file" / "j.db")


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DomainError, match="make the folder and the file writable"):
        open_journal(tmp_path / "j.db")


def rejected(event_id: str, payload: bytes) -> RejectedEvent:
    why = Rejection(event_id, Reason.INVALID_FIELD, "value", "is NaN; allowed: finite")
    return RejectedEvent("acme", why, 1_000_000, "backend", payload)


def test_a_rejected_event_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    store = SqliteRejectedEvents(tmp_path / "r.db", Limits())
    (now,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {now + 1}")
    with pytest.raises(DomainError, match="disk is full"):
        store.keep([rejected("a", payload=b"x" * 50_000)])
    assert store.count("acme", Wanted(), 0) == 0
    store.close()


def test_a_journal_made_anew_goes_on_behind_the_positions_of_another(tmp_path: Path) -> None:
    first = SqliteJournal(tmp_path / "j.db", CountingIds(), after=41)
    assert (first.last, first.append(b"a")) == (41, 42)
    first.close()
    again = SqliteJournal(tmp_path / "j.db", CountingIds(), after=7)
    assert (again.last, again.append(b"b")) == (42, 43), "the file itself knows better"
    again.close()


def test_a_write_ahead_log_that_is_gone_is_missed(tmp_path: Path) -> None:
    """As after kill -9 and a careless clean-up: SQLite alone would lose the entry silently."""
    live = SqliteJournal(tmp_path / "j.db", CountingIds())
    live.append(b"acknowledged")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("j.db", "j.db-wal"):
        shutil.copy(tmp_path / name, crashed / name)
    live.close()
    lost = tmp_path / "lost"
    lost.mkdir()
    shutil.copy(crashed / "j.db", lost / "j.db")
    with pytest.raises(DomainError, match=r"write-ahead log .* is gone") as raised:
        SqliteJournal(lost / "j.db", CountingIds())
    assert raised.value.code is Code.UNAVAILABLE
    again = SqliteJournal(crashed / "j.db", CountingIds())
    assert [entry.batches for entry in again.read(0, 10**9)] == [b"acknowledged"]
    again.close()


def test_a_journal_that_was_closed_needs_no_log(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    journal.append(b"a")
    journal.close()
    assert not (tmp_path / "j.db-wal").exists()
    again = SqliteJournal(tmp_path / "j.db", CountingIds())
    assert again.last == 1
    again.close()
