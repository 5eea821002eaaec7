"""The events service that trusts what the journal's file says."""

from __future__ import annotations

from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.ports import JournalEntry
from tests.robustness.twins.replaced import part, replace_method, serve


def unchecked(_journal: SqliteJournal, position: int, _crc: int, blob: bytes) -> JournalEntry:
    """Stands in for the comparison of an entry with its checksum."""
    entry: JournalEntry = part("services.events.adapters.sqlite_journal", "JournalEntry")(
        position, blob
    )
    return entry


if __name__ == "__main__":
    replace_method("services.events.composition.core", "SqliteJournal", "_entry", unchecked)
    serve()
