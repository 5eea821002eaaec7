"""Rejected events in a SQLite file of their own."""

import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from services.events.adapters.sqlite_file import cannot_write, open_file
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from shared.errors import unavailable

SCHEMA = """
CREATE TABLE IF NOT EXISTS rejected (
    number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, project TEXT NOT NULL,
    event_id TEXT NOT NULL, reason TEXT NOT NULL, field TEXT NOT NULL, message TEXT NOT NULL,
    receive_time_us INTEGER NOT NULL, source TEXT NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS rejected_by_project ON rejected (project, number)
"""
_INSERT = """
INSERT OR IGNORE INTO rejected
(digest, project, event_id, reason, field, message, receive_time_us, source, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_OLDEST = "DELETE FROM rejected WHERE number <= (SELECT max(number) FROM rejected) - ?"
_NEWEST = """
SELECT project, event_id, reason, field, message, receive_time_us, source, payload
FROM rejected WHERE project = ? ORDER BY number DESC LIMIT ?
"""


class SqliteRejectedEvents:
    """See RejectedEvents."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._open = True
        self._connection = open_file(path, SCHEMA)

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        """See RejectedEvents."""
        with self._lock:
            self._check_open()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(_INSERT, [_row(event) for event in rejected])
                self._connection.execute(_OLDEST, (self._limit,))
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise cannot_write(self._path, error) from error

    def newest(self, project: str, count: int) -> Sequence[RejectedEvent]:
        """See RejectedEvents."""
        with self._lock:
            self._check_open()
            rows = self._connection.execute(_NEWEST, (project, count)).fetchall()
        return [
            RejectedEvent(owner, Rejection(event_id, Reason(reason), field, message), *rest)
            for owner, event_id, reason, field, message, *rest in rows
        ]

    def close(self) -> None:
        """See RejectedEvents."""
        with self._lock:
            self._open = False
            self._connection.close()

    def _check_open(self) -> None:
        if not self._open:
            raise unavailable(
                "STORAGE_UNAVAILABLE",
                "the store of rejected events is closed: the events service is shutting down",
            )


def _row(event: RejectedEvent) -> tuple[object, ...]:
    why = event.rejection
    return (
        _digest(event),
        event.project,
        why.event_id,
        why.reason.value,
        why.field,
        why.message,
        event.receive_time_us,
        event.source,
        event.payload,
    )


def _digest(event: RejectedEvent) -> bytes:
    """Equal for the same rejection of the same event, whenever it is sent."""
    why = event.rejection
    text = repr((event.project, why.event_id, why.reason.value, why.field)).encode()
    return hashlib.blake2b(text + event.payload, digest_size=16).digest()
