"""The journal in a SQLite file: one blob a group commit."""

import sqlite3
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

from services.events.adapters.sqlite_file import (
    cannot_write,
    close_marked,
    mark_in_use,
    open_file,
    require_log,
    scrub,
)
from services.events.ports import JournalEntry
from shared.errors import DomainError, unavailable
from shared.ids import IdGenerator

SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (journal_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entry (
    position INTEGER PRIMARY KEY AUTOINCREMENT, crc INTEGER NOT NULL, batches BLOB NOT NULL
)
"""
_ID_CHARACTERS = 26
VERSION = 2
"""2: an entry is written by columns, for tables that hold evaluations and unlinks."""


class SqliteJournal:
    """See Journal.

    A file that is made anew begins behind the position `after`: those up to it were given by
    another journal, and what is stored is ordered by position.
    """

    def __init__(self, path: Path, ids: IdGenerator, after: int = 0) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._unusable: DomainError | None = None
        require_log(path)
        self._connection = open_file(path, SCHEMA, VERSION)
        self._leave_older_programs()
        self._id = self._identity(ids, after)
        mark_in_use(self._connection)
        self._last = self._newest()
        self._backlog_bytes = self._stored_bytes()

    @property
    def id(self) -> str:
        """See Journal."""
        return self._id

    @property
    def last(self) -> int:
        """See Journal."""
        return self._last

    @property
    def usable(self) -> bool:
        """See Journal."""
        return self._unusable is None

    @property
    def backlog_bytes(self) -> int:
        """See Journal."""
        return self._backlog_bytes

    def append(self, batches: bytes) -> int:
        """See Journal."""
        with self._lock:
            self._check_usable()
            try:
                cursor = self._connection.execute(
                    "INSERT INTO entry (crc, batches) VALUES (?, ?)", (zlib.crc32(batches), batches)
                )
            except sqlite3.Error as error:
                raise self._failed(error) from error
            self._last = _row_id(cursor)
            self._backlog_bytes += len(batches)
            return self._last

    def read(self, after: int, max_bytes: int) -> Sequence[JournalEntry]:
        """See Journal."""
        entries: list[JournalEntry] = []
        size = 0
        with self._lock:
            self._check_usable()
            try:
                cursor = self._connection.execute(
                    "SELECT position, crc, batches FROM entry WHERE position > ? ORDER BY position",
                    (after,),
                )
                for position, crc, blob in cursor:
                    size += len(blob)
                    if entries and size > max_bytes:
                        break
                    entries.append(self._entry(position, crc, blob))
            except sqlite3.Error as error:
                raise cannot_write(self._path, error) from error
        return entries

    def trim(self, upto: int) -> None:
        """See Journal."""
        with self._lock:
            self._check_usable()
            try:
                self._connection.execute("DELETE FROM entry WHERE position <= ?", (upto,))
                self._backlog_bytes = self._stored_bytes()
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def scrub(self) -> None:
        """Leave no byte of trimmed entries in the file; what waits is copied, so trim before."""
        with self._lock:
            self._check_usable()
            try:
                scrub(self._connection)
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """See Journal."""
        with self._lock:
            self._unusable = unavailable(
                "STORAGE_UNAVAILABLE", "the journal is closed: the events service is shutting down"
            )
            close_marked(self._connection)

    def _identity(self, ids: IdGenerator, after: int) -> str:
        row = self._connection.execute("SELECT journal_id FROM identity").fetchone()
        if row is None:
            row = (ids.new(_ID_CHARACTERS),)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT INTO identity VALUES (?)", row)
            self._connection.execute("INSERT INTO sqlite_sequence VALUES ('entry', ?)", (after,))
            self._connection.execute("COMMIT")
        return str(row[0])

    def _leave_older_programs(self) -> None:
        """Once nothing in the file is an older program's, no older program may use it again.

        It could not write the tables as they are now: what it acknowledged would never arrive.
        """
        empty = self._connection.execute("SELECT 1 FROM entry LIMIT 1").fetchone() is None
        if empty:
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _newest(self) -> int:
        row = self._connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'entry'"
        ).fetchone()
        return int(row[0]) if row else 0

    def _stored_bytes(self) -> int:
        query = "SELECT coalesce(sum(length(batches)), 0) FROM entry"
        return int(self._connection.execute(query).fetchone()[0])

    def _check_usable(self) -> None:
        if self._unusable is not None:
            # The one error is raised again and again: it must not remember every time.
            raise self._unusable.with_traceback(None)

    def _failed(self, error: sqlite3.Error) -> DomainError:
        """Decide whether a failed write is known to be undone.

        A full disk is: SQLite rolls back. After any other failure, such as one of fsync, nobody
        knows what the disk holds, so this handle never acknowledges anything again.
        """
        answer = cannot_write(self._path, error)
        if getattr(error, "sqlite_errorname", "") != "SQLITE_FULL" or self._newest_differs():
            self._unusable = answer
        return answer

    def _newest_differs(self) -> bool:
        try:
            return self._newest() != self._last
        except sqlite3.Error:
            return True

    def _entry(self, position: int, crc: int, blob: bytes) -> JournalEntry:
        if zlib.crc32(blob) != crc:
            raise unavailable(
                "STORAGE_UNAVAILABLE",
                f"entry {position} of {self._path} is damaged: its checksum is "
                f"{zlib.crc32(blob)}, written was {crc}; restore the file from a backup",
                retry_after_s=None,
            )
        return JournalEntry(position, blob)


def _row_id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid
