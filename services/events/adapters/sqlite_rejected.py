"""Rejected events in a SQLite file of their own."""

import hashlib
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from services.events.adapters.sqlite_file import cannot_write, open_file, scrub
from services.events.domain.limits import Limits
from services.events.domain.rejection import (
    KeptEvent,
    Reason,
    RejectedEvent,
    Rejection,
    Wanted,
    as_kept,
)
from shared.errors import DomainError, unavailable

SCHEMA = """
CREATE TABLE IF NOT EXISTS rejected (
    number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, project TEXT NOT NULL,
    event_id TEXT NOT NULL, reason TEXT NOT NULL, field TEXT NOT NULL, message TEXT NOT NULL,
    receive_time_us INTEGER NOT NULL, source TEXT NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS rejected_by_project ON rejected (project, number)
"""
# Columns that came later have defaults and leave the version of the file alone: a program that
# does not know them goes on reading and writing it.
_ADDED = {
    "door": "ALTER TABLE rejected ADD COLUMN door TEXT NOT NULL DEFAULT ''",
    "truncated": "ALTER TABLE rejected ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0",
}
# Before there was the column, what was as long as the limit was most likely longer.
_MARK_TRUNCATED = "UPDATE rejected SET truncated = 1 WHERE length(payload) >= ?"
_INSERT = """
INSERT OR IGNORE INTO rejected
(digest, project, event_id, reason, field, message, receive_time_us, source, payload, door,
 truncated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_USED = "SELECT project, count(*), sum(length(payload)) FROM rejected GROUP BY project"
_USED_BY = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM rejected WHERE project = ?"
_OLDEST = "SELECT number, length(payload) FROM rejected WHERE project = ? ORDER BY number"
_DROP = "DELETE FROM rejected WHERE project = ? AND number <= ?"
_FORGET = "DELETE FROM rejected WHERE project = ? AND number = ?"
_RENEW = """
UPDATE OR IGNORE rejected SET digest = ?, reason = ?, field = ?, message = ?, source = ?,
payload = ?, truncated = ? WHERE project = ? AND number = ?
"""
_COLUMNS = "project, event_id, reason, field, message, receive_time_us, source"
_GET = """
SELECT project, event_id, reason, field, message, receive_time_us, source, payload, door, truncated
FROM rejected WHERE project = ? AND number = ?
"""

_PAGES_AT_ONCE = 1024


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
        self._unusable: DomainError | None = None
        self._connection = open_file(path, SCHEMA)
        try:
            self._add_columns()
            rows = self._connection.execute(_USED).fetchall()
        except sqlite3.Error as error:
            self._connection.close()
            raise cannot_write(path, error) from error
        self._used = {project: _Used(events, size) for project, events, size in rows}

    @property
    def usable(self) -> bool:
        """See RejectedEvents."""
        return self._unusable is None

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        """See RejectedEvents."""
        most = self._limits.kept_payload_bytes
        kept = [as_kept(event, most) for event in rejected]
        with self._change() as used:
            for project, use in self._insert(kept).items():
                used[project] = self._make_room(project, use)

    def newest(
        self, project: str, wanted: Wanted, below: int | None, count: int
    ) -> Sequence[KeptEvent]:
        """See RejectedEvents."""
        meant, values = _meant(project, wanted)
        if below is not None:
            meant, values = f"{meant} AND number < ?", [*values, below]
        query = (
            f"SELECT number, length(payload), {_COLUMNS}, x'', door, truncated FROM rejected "  # noqa: S608  constants
            f"WHERE {meant} ORDER BY number DESC LIMIT ?"
        )
        rows = self._read(query, [*values, count])
        return [KeptEvent(number, _event(row), size) for number, size, *row in rows]

    def numbers(self, project: str, wanted: Wanted, above: int, count: int) -> Sequence[int]:
        """See RejectedEvents."""
        meant, values = _meant(project, wanted)
        query = f"SELECT number FROM rejected WHERE {meant} AND number > ? ORDER BY number LIMIT ?"  # noqa: S608  constants
        return [row[0] for row in self._read(query, [*values, above, count])]

    def count(self, project: str, wanted: Wanted, above: int) -> int:
        """See RejectedEvents."""
        meant, values = _meant(project, wanted)
        query = f"SELECT count(*) FROM rejected WHERE {meant} AND number > ?"  # noqa: S608  constants
        return int(self._read(query, [*values, above])[0][0])

    def get(self, project: str, numbers: Collection[int]) -> Mapping[int, RejectedEvent]:
        """See RejectedEvents."""
        found = ((number, self._read(_GET, [project, number])) for number in numbers)
        return {number: _event(rows[0]) for number, rows in found if rows}

    def settle(self, project: str, stored: Collection[int], again: Mapping[int, Rejection]) -> None:
        """See RejectedEvents."""
        kept = self.get(project, again.keys())
        with self._change() as used:
            for number in stored:
                self._connection.execute(_FORGET, (project, number))
            for number, event in kept.items():
                self._renew(number, replace(event, rejection=again[number]))
            used[project] = _Used(*self._connection.execute(_USED_BY, (project,)).fetchone())

    def scrub(self) -> None:
        """Leave no byte in the file of what was forgotten."""
        with self._lock:
            self._check_open()
            try:
                scrub(self._connection)
            except sqlite3.Error as error:
                raise cannot_write(self._path, error) from error

    def copy_to(self, path: Path) -> None:
        """Write a copy of the file, as it is when the last part was copied.

        Others use the store between two parts. sqlite3.Error when the copy cannot be written.
        """
        with self._lock, closing(sqlite3.connect(path)) as copy:
            self._check_open()

            def give_way(_status: int, _left: int, _total: int) -> None:
                self._lock.release()
                self._lock.acquire()
                self._check_open()

            self._connection.backup(copy, pages=_PAGES_AT_ONCE, progress=give_way)

    def close(self) -> None:
        """See RejectedEvents."""
        with self._lock:
            self._unusable = unavailable(
                "STORAGE_UNAVAILABLE",
                "the store of rejected events is closed: the events service is shutting down",
            )
            self._connection.close()

    def _add_columns(self) -> None:
        rows = self._connection.execute("PRAGMA table_info(rejected)").fetchall()
        missing = _ADDED.keys() - {row[1] for row in rows}
        if not missing:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        for name in sorted(missing):
            self._connection.execute(_ADDED[name])
        if "truncated" in missing:
            self._connection.execute(_MARK_TRUNCATED, (self._limits.kept_payload_bytes,))
        self._connection.execute("COMMIT")

    @contextmanager
    def _change(self) -> Iterator[dict[str, _Used]]:
        """Within the block the file changes, by all of it or nothing. It notes what projects use.

        A full disk is undone by SQLite. After any other failure, such as one of fsync, nobody knows
        what the disk holds, so that nothing is kept any more until a restart.
        """
        with self._lock:
            self._check_open()
            used: dict[str, _Used] = {}
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield used
                self._connection.execute("COMMIT")
            except BaseException as error:
                self._undo()
                if not isinstance(error, sqlite3.Error):
                    raise
                answer = cannot_write(self._path, error)
                if getattr(error, "sqlite_errorname", "") != "SQLITE_FULL":
                    self._unusable = answer
                raise answer from error
            self._used.update(used)

    def _undo(self) -> None:
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _read(self, query: str, values: Sequence[object]) -> list[Any]:
        with self._lock:
            self._check_open()
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise cannot_write(self._path, error) from error

    def _insert(self, rejected: Sequence[RejectedEvent]) -> dict[str, _Used]:
        """What the projects use then; those to which nothing was added are left out."""
        used: dict[str, _Used] = {}
        for event in rejected:
            if self._connection.execute(_INSERT, _row(event)).rowcount:
                before = used.get(event.project) or self._used.get(event.project, _Used(0, 0))
                used[event.project] = _Used(before.events + 1, before.size + len(event.payload))
        return used

    def _renew(self, number: int, changed: RejectedEvent) -> None:
        event = as_kept(changed, self._limits.kept_payload_bytes)
        digest, project, _, reason, field, message, _, source, payload, _, _ = _row(event)
        values = (digest, reason, field, message, source, payload, event.truncated)
        renewed = self._connection.execute(_RENEW, (*values, project, number))
        if not renewed.rowcount:  # another one is the same rejection of the same event already
            self._connection.execute(_FORGET, (project, number))

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
        if self._unusable is not None:
            # The one error is raised again and again: it must not remember every time.
            raise self._unusable.with_traceback(None)


def _meant(project: str, wanted: Wanted) -> tuple[str, list[object]]:
    """The condition for what is meant, and its values."""
    conditions: list[tuple[str, Sequence[object]]] = [("project = ?", [project])]
    if wanted.reasons:
        marks = ", ".join("?" * len(wanted.reasons))
        conditions.append((f"reason IN ({marks})", [why.value for why in wanted.reasons]))
    if wanted.source:
        conditions.append(("source = ?", [wanted.source]))
    if wanted.event_id:
        conditions.append(("event_id = ?", [wanted.event_id]))
    if wanted.start_us is not None:
        conditions.append(("receive_time_us >= ?", [wanted.start_us]))
    if wanted.end_us is not None:
        conditions.append(("receive_time_us < ?", [wanted.end_us]))
    values = [value for _, some in conditions for value in some]
    return " AND ".join(condition for condition, _ in conditions), values


def _event(row: Sequence[Any]) -> RejectedEvent:
    project, event_id, reason, field, message, time_us, source, payload, door, truncated = row
    why = Rejection(event_id, Reason(reason), field, message)
    return RejectedEvent(project, why, time_us, source, payload, door, bool(truncated))


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
        event.door,
        event.truncated,
    )


def _digest(event: RejectedEvent) -> bytes:
    """Equal for the same rejection of the same event, whenever it is sent and by whatever door."""
    why = event.rejection
    text = repr((event.project, why.event_id, why.reason.value, why.field)).encode()
    return hashlib.blake2b(text + event.payload, digest_size=16).digest()
