"""What was trimmed or forgotten leaves no byte in the files, and the files go on as before."""

import subprocess
from pathlib import Path

from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection, Wanted
from shared.testing.fakes import CountingIds

SECRET = b"customer-4711-0815"


def stored(folder: Path) -> bytes:
    """Read by another process: closing any handle of a file in this one would end SQLite's lock."""
    paths = [str(path) for path in folder.iterdir()]
    return subprocess.run(["cat", *paths], capture_output=True, check=True).stdout


def test_trimmed_entries_leave_no_byte_and_positions_go_on(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    for number in range(300):
        journal.append(SECRET * 50 + str(number).encode())
    journal.append(b"somebody else")
    journal.trim(300)
    journal.scrub()
    assert [entry.batches for entry in journal.read(0, 10**6)] == [b"somebody else"]
    journal.trim(301)
    journal.scrub()
    assert journal.append(b"next") == 302
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["j.db"] < 50_000
    assert SECRET not in stored(tmp_path)
    journal.close()
    again = SqliteJournal(tmp_path / "j.db", CountingIds())
    assert (again.last, again.backlog_bytes) == (302, 4)
    again.close()


def test_without_scrubbing_the_bytes_would_stay(tmp_path: Path) -> None:
    """The broken twin of the test above."""
    journal = SqliteJournal(tmp_path / "j.db", CountingIds())
    for number in range(300):
        journal.append(SECRET * 50 + str(number).encode())
    journal.trim(300)
    assert SECRET in stored(tmp_path)
    journal.close()


def test_forgotten_rejections_leave_no_byte(tmp_path: Path) -> None:
    rejected = SqliteRejectedEvents(tmp_path / "r.db", Limits())
    why = Rejection("e1", Reason.INVALID_FIELD, "value", "is wrong")
    rejected.keep([RejectedEvent("acme", why, 1, "", SECRET * 100)])
    rejected.keep([RejectedEvent("acme", why, 2, "", b"another")])
    first, _ = rejected.numbers("acme", Wanted(), 0, 9)
    rejected.settle("acme", [first], {})
    rejected.scrub()
    assert rejected.count("acme", Wanted(), 0) == 1
    assert SECRET not in stored(tmp_path)
    rejected.close()
