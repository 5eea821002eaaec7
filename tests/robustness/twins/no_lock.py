"""The events service that shares its files with whoever comes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.robustness.twins.replaced import replace, replace_method, serve


def open_shared(path: Path, schema: str, *_more: object, **_named: object) -> sqlite3.Connection:
    """Stands in for the opening of a file that is locked for others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in schema.split(";"):
        connection.execute(statement)
    return connection


def lock_nothing(*_arguments: object) -> None:
    """Stands in for the lock on the ledger of erasures."""


if __name__ == "__main__":
    replace_method("shared.security.erasure_ledger", "fcntl", "flock", lock_nothing)
    for module in ("sqlite_journal", "sqlite_rejected"):
        replace(f"services.events.adapters.{module}", "open_file", open_shared)
    serve()
