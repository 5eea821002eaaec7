"""The events service that goes on with a journal of which nobody knows what the disk holds."""

from __future__ import annotations

from services.events.adapters.sqlite_file import cannot_write
from services.events.adapters.sqlite_journal import SqliteJournal
from shared.errors import DomainError
from tests.robustness.twins.replaced import replace_method, serve


def go_on(journal: SqliteJournal, error: Exception) -> DomainError:
    """Stands in for what decides whether the journal can still be used."""
    return cannot_write(journal._path, error)


if __name__ == "__main__":
    replace_method("services.events.composition.core", "SqliteJournal", "_failed", go_on)
    serve()
