"""Rejected events in a SQLite file of their own."""

import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from services.events.adapters.sqlite_file import cannot_write, open_file
from services.events.domain.limits import Limits
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
_USED = "SELECT project, count(*), sum(length(payload)) FROM rejected GROUP BY project"
_OLDEST = "SELECT number, length(payload) FROM rejected WHERE project = ? ORDER BY number"
_DROP = "DELETE FROM rejected WHERE project = ? AND number <= ?"
_NEWEST = """
SELECT project, event_id, reason, field, message, receive_time_us, source, payload
FROM rejected WHERE project = ? ORDER BY number DESC LIMIT ?
"""


class _Used(NamedTuple):
    """What the rejected events of a project take."""

    events: int
    size: int


class SqliteRejectedEvents:
    """See RejectedEvents."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._lock = threading.Lock()
        self._open = True
        self._connection = open_file(path, SCHEMA)
        self._used = {
            project: _Used(events, size)
            for project, events, size in self._connection.execute(_USED).fetchall()
        }

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        """See RejectedEvents."""
        with self._lock:
            self._check_open()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                used = self._insert(rejected)
                used = {project: self._make_room(project, use) for project, use in used.items()}
                self._connection.execute("COMMIT")
                self._used.update(used)
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

    def _insert(self, rejected: Sequence[RejectedEvent]) -> dict[str, _Used]:
        """What the projects use then; those to which nothing was added are left out."""
        used: dict[str, _Used] = {}
        for event in rejected:
            if self._connection.execute(_INSERT, _row(event)).rowcount:
                before = used.get(event.project) or self._used.get(event.project, _Used(0, 0))
                used[event.project] = _Used(before.events + 1, before.size + len(event.payload))
        return used

    def _make_room(self, project: str, used: _Used) -> _Used:
        """Drop the project's oldest until it is within its limits."""
        newest_dropped = None
        if not self._within(used):
            for number, size in self._connection.execute(_OLDEST, (project,)):
                used = _Used(used.events - 1, used.size - size)
                newest_dropped = number
                if self._within(used):
                    break
        if newest_dropped is not None:
            self._connection.execute(_DROP, (project, newest_dropped))
        return used

    def _within(self, used: _Used) -> bool:
        limits = self._limits
        return used.events <= limits.kept_rejections and used.size <= limits.kept_rejection_bytes

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
