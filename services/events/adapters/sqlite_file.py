"""Open a SQLite file of the events service, and say what is wrong when it cannot be used.

One connection, one caller at a time: SQLite before 3.51.3 can lose a write when two connections
commit and checkpoint at once. The file is locked for as long as it is open, so that a second
service on the same folder is refused instead of interleaving its writes.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path

from services.events.adapters.write_ahead_log import damaged_at
from shared.errors import DomainError, failed_precondition, unavailable

VERSION = 1
_IN_USE = 0x54534A4C
"""The application id of a file whose write-ahead log must be there."""
_APPLICATION_ID = slice(68, 72)


def open_file(path: Path, schema: str, newest: int = VERSION) -> sqlite3.Connection:
    """The connection, in WAL mode with a sync in every commit. A new file has the newest version.

    FAILED_PRECONDITION when a newer program wrote the file or it is not ours; UNAVAILABLE when the
    folder cannot be written, the disk is full, another process holds the file or its write-ahead
    log is damaged.
    """
    _check_log(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, timeout=0.0, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.OperationalError) as error:
        raise cannot_write(path, error) from error
    try:
        _prepare(connection, path, schema, newest)
    except sqlite3.Error as error:
        connection.close()
        raise cannot_write(path, error) from error
    except DomainError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: str, newest: int) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > newest:
        raise failed_precondition(
            "NEWER_VERSION",
            f"{path} has version {version}; this program reads up to {newest}: run the newer "
            "version of Touchstone that wrote it",
        )
    # What a crash tore off stays behind the log's end until then, and would look like damage.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("BEGIN IMMEDIATE")
    for statement in schema.split(";"):
        connection.execute(statement)
    if version == 0:
        connection.execute(f"PRAGMA user_version = {newest}")
    connection.execute("COMMIT")


def require_log(path: Path) -> None:
    """UNAVAILABLE when the file was not closed and its write-ahead log is gone.

    SQLite would open it without a word, and without what was acknowledged last.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_APPLICATION_ID.stop)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error
    in_use = int.from_bytes(header[_APPLICATION_ID], "big") == _IN_USE
    log = _log_of(path)
    if in_use and not log.exists():
        raise unavailable(
            "STORAGE_UNAVAILABLE",
            f"{path} was not closed when it was last used, and its write-ahead log {log} is gone, "
            "with what was acknowledged last: put the log back, or restore a backup; if neither "
            f"can be, move {path} away to start a new one without those events",
            retry_after_s=None,
        )


def _check_log(path: Path) -> None:
    """UNAVAILABLE when SQLite would leave out what stands behind damage in the write-ahead log."""
    log = _log_of(path)
    try:
        damage = damaged_at(log)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(log, error) from error
    if damage is not None:
        raise unavailable(
            "STORAGE_UNAVAILABLE",
            f"the write-ahead log {log} is damaged at byte {damage}, and what was acknowledged "
            "after that cannot be read: restore a backup; if there is none, move the log and "
            f"{path} away to start a new one without what was acknowledged last",
            retry_after_s=None,
        )


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def mark_in_use(connection: sqlite3.Connection) -> None:
    """From now on `require_log` misses the write-ahead log."""
    connection.execute(f"PRAGMA application_id = {_IN_USE}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def close_marked(connection: sqlite3.Connection) -> None:
    """Close; the file is then whole without its log."""
    # On a disk that is full or broken the mark stays, and so does the log.
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA application_id = 0")
    connection.close()


def scrub(connection: sqlite3.Connection) -> None:
    """Leave no byte of what was deleted: neither in a free page nor in the write-ahead log."""
    connection.execute("VACUUM")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("the write-ahead log is in use")


def cannot_write(path: Path, error: Exception) -> DomainError:
    """The error for a caller: what happened to the file and what to do about it."""
    text = str(error)
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL" or "No space left" in text:
        advice = "the disk is full: free some space, then retry"
    elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        advice = "another process uses it: stop the other events service, or choose another folder"
    elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")) or isinstance(
        error, PermissionError
    ):
        advice = "make the folder and the file writable for this user, or choose another folder"
    elif name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        advice = "the file is damaged or not ours: restore it, or move it away to start a new one"
    else:
        advice = "check the disk, then restart the events service"
    return unavailable("STORAGE_UNAVAILABLE", f"cannot use {path}: {text}; {advice}")
