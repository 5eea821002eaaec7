"""The state database: SQLite in a file by default, PostgreSQL by a URL, the same code on both."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from shared import errors

_BUSY_TIMEOUT_MS = 10_000
_WAL_RETRY_MS = 20
_POOL_SIZE = 8
_PATIENCE_S = 5
_STATEMENT_TIMEOUT_MS = 15_000
_LOG = logging.getLogger("touchstone.state")


class Database:
    """A pool of connections to the state database.

    Write transactions on SQLite take the write lock at once, so that two writers queue instead of
    failing in the middle. After `close` every use raises an error. A value that the database cannot
    hold, such as text with a NUL on PostgreSQL, raises INVALID_ARGUMENT.

    One that was opened while it was `away` raises UNAVAILABLE, for reads and writes, until a block
    of `preparing` has ended well: its schema and its audit keys are not known before.
    """

    def __init__(self, engine: sa.Engine, *, prepared: bool = True) -> None:
        self.engine = engine
        self._open = True
        self._prepared = prepared
        self._preparer: int | None = None

    @classmethod
    def open(cls, url: str, *, away: bool = False) -> Database:
        """Opens `sqlite:///path` or `postgresql://...`.

        Raises INVALID_ARGUMENT when the URL is of another kind, and FAILED_PRECONDITION when the
        database cannot be reached, unless it may be `away`.
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            engine = sa.create_engine(parsed, poolclass=sa.pool.QueuePool, pool_size=_POOL_SIZE)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            engine = sa.create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_size=_POOL_SIZE,
                pool_pre_ping=True,
                pool_timeout=_PATIENCE_S,
                connect_args={
                    "connect_timeout": _PATIENCE_S,
                    "tcp_user_timeout": 2 * _PATIENCE_S * 1000,
                    "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
                },
            )
        if away:
            return cls(engine, prepared=False)
        try:
            with engine.connect():
                pass
        except DBAPIError as error:
            engine.dispose()
            shown = parsed.render_as_string(hide_password=True)
            raise errors.failed_precondition(
                "STORAGE_UNAVAILABLE",
                f"cannot open the state database {shown}: {error.orig}; check that the folder can "
                "be written or that the server runs, and TOUCHSTONE_DATABASE_URL",
            ) from error
        return cls(engine)

    @property
    def is_sqlite(self) -> bool:
        """Whether the state is a SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Lets this thread in, and everybody once the block has ended without an error."""
        self._preparer = threading.get_ident()
        try:
            yield
        finally:
            self._preparer = None
        self._prepared = True

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A write transaction: committed at the end of the block, rolled back on any error."""
        with self._connection(write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read transaction: one consistent view, never a change."""
        with self._connection(write=False) as connection, connection.begin() as transaction:
            yield connection
            transaction.rollback()

    @contextmanager
    def _connection(self, *, write: bool) -> Iterator[sa.Connection]:
        if self._closed():
            raise errors.unavailable("STORAGE_UNAVAILABLE", "the state database is closed", None)
        if not self._prepared and self._preparer != threading.get_ident():
            raise errors.unavailable(
                "STORAGE_UNAVAILABLE",
                "the state database was away at the start and is not checked yet; call again later",
            )
        pool = self.engine.pool
        try:
            with self.engine.connect() as connection:
                isolation = None if self.is_sqlite or write else "REPEATABLE READ"
                options: dict[str, Any] = {"touchstone_write": write}
                if isolation:
                    options["isolation_level"] = isolation
                yield connection.execution_options(**options)
        except (OperationalError, sa.exc.TimeoutError) as error:
            # The driver's words name hosts and files: they are for the operator.
            _LOG.warning("state database: %s", getattr(error, "orig", error))
            raise errors.unavailable(
                "STORAGE_UNAVAILABLE", "the state database does not answer; call again later"
            ) from error
        except DataError as error:
            raise errors.invalid(
                "request", str(error.orig), "text without NUL, and numbers within 64 bits"
            ) from error
        finally:
            # What was in use while `close` ran has come back to a pool that nobody looks after.
            if self._closed():
                pool.dispose()

    def _closed(self) -> bool:
        return not self._open

    def close(self) -> None:
        """Closes every connection. Safe to repeat."""
        self._open = False
        self.engine.dispose()


def _parse(url: str) -> sa.URL:
    allowed = "sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME"
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise errors.invalid("TOUCHSTONE_DATABASE_URL", "(hidden)", allowed) from error
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise errors.invalid("TOUCHSTONE_DATABASE_URL", parsed.get_backend_name(), allowed)
    return parsed


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    turn_wal_on(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def turn_wal_on(cursor: Any) -> None:
    """SQLite does not wait for others while it changes the journal mode of a new file, so this
    does: processes that start together all come here.
    """
    for attempt in range(_BUSY_TIMEOUT_MS // _WAL_RETRY_MS):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if attempt + 1 == _BUSY_TIMEOUT_MS // _WAL_RETRY_MS:
                raise
            time.sleep(_WAL_RETRY_MS / 1000)
        else:
            return


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("touchstone_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
