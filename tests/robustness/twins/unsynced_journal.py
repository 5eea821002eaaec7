"""The events service whose journal does not wait for the disk."""

from __future__ import annotations

from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.composition import compose
from services.events.ports import Journal
from services.events.settings import Settings
from shared.server.run import run


def without_sync(journal: Journal) -> Journal:
    """The journal, told to leave it to the operating system."""
    assert isinstance(journal, SqliteJournal)
    journal._connection.execute("PRAGMA synchronous = OFF")
    return journal


if __name__ == "__main__":
    run(lambda: compose(Settings(), without_sync))
