"""What a backup is copied from: the tables of a watermark, the databases, the keys."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from deltalake import DeltaTable

from services.events.adapters.sqlite_journal import SCHEMA, VERSION
from shared.errors import DomainError, failed_precondition
from shared.lake.sweep import LOG
from shared.lake.upkeep import live_files
from shared.operations.store import operations
from shared.state.database import Database


@dataclass(frozen=True, slots=True)
class Part:
    """A file to store under `path`. `never_changes`: a file of this path has this content always.

    `size_bytes` is what it must have, as the log of the table says.
    """

    source: Path
    path: str
    size_bytes: int
    never_changes: bool = False


def table_parts(lake: Path, name: str, version: int) -> Iterator[Part]:
    """The files of one version of a table, and as much of its log as opening it takes."""
    table = lake / name
    for file in live_files(DeltaTable(table, version=version)):
        yield Part(table / file.path, f"lake/{name}/{file.path}", file.size_bytes, True)
    for path in _log_files(table / LOG, version):
        yield Part(path, f"lake/{name}/{LOG}/{path.name}", path.stat().st_size)


def _log_files(log: Path, version: int) -> Iterator[Path]:
    checkpoints = {int(path.name.split(".")[0]): path for path in log.glob("*.checkpoint.parquet")}
    first = max((v for v in checkpoints if v <= version), default=0)
    if first in checkpoints:
        yield checkpoints[first]
    for number in range(first, version + 1):
        yield log / f"{number:020d}.json"


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite database that others write to: as it is at one moment, and checked.

    FAILED_PRECONDITION when the database is damaged; sqlite3.Error when the copy cannot be made.
    """
    uri = f"file:{quote(str(source.absolute()))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
    check_sqlite(source, target)


def check_sqlite(source: Path, copy: Path) -> None:
    """FAILED_PRECONDITION unless the copy of `source` is whole."""
    try:
        with closing(sqlite3.connect(copy)) as opened:
            (verdict,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise _is_damaged(source, str(error)) from error
    if verdict != "ok":
        raise _is_damaged(source, str(verdict))


def empty_journal(path: Path, journal_id: str, position: int) -> None:
    """A journal without entries, whose next position follows the one given."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("INSERT INTO identity VALUES (?)", (journal_id,))
        connection.execute("INSERT INTO sqlite_sequence VALUES ('entry', ?)", (position,))


def settle_operation(state: Path, name: str, response: bytes) -> None:
    """In a copy of the state the operation that made the copy has ended well.

    Or whoever starts from the copy would make this backup once more.
    """
    _, project, _, operation_id = name.split("/")
    url = sa.URL.create("sqlite", database=str(state)).render_as_string()
    database = Database.open(url)
    try:
        with database.begin() as connection:
            connection.execute(
                sa.update(operations)
                .where(operations.c.project == project, operations.c.operation_id == operation_id)
                .values(done=True, response=response, end_time=operations.c.update_time, runner="")
            )
    finally:
        database.close()


def _is_damaged(source: Path, why: str) -> DomainError:
    return failed_precondition(
        "STORAGE_UNAVAILABLE",
        f"{source} is damaged ({why[:200]}): it is not backed up; restore the newest backup that "
        "verifies, as the how-to for backups says",
    )
