"""The events service over a journal that can be made to hang, as on a disk that hangs.

While the file `append.hangs` is in the data folder no append returns; with `read.hangs` no read,
so that the flusher hangs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from services.events.composition import compose
from services.events.ports import Journal, JournalEntry
from services.events.settings import Settings
from shared.server.run import run


class StallingJournal:
    """A decorator of the journal; see above."""

    def __init__(self, journal: Journal, folder: Path) -> None:
        self._journal = journal
        self._folder = folder

    @property
    def id(self) -> str:
        return self._journal.id

    @property
    def last(self) -> int:
        return self._journal.last

    @property
    def usable(self) -> bool:
        return self._journal.usable

    @property
    def backlog_bytes(self) -> int:
        return self._journal.backlog_bytes

    def append(self, batches: bytes) -> int:
        self._hang("append")
        return self._journal.append(batches)

    def read(self, after: int, max_bytes: int) -> Sequence[JournalEntry]:
        self._hang("read")
        return self._journal.read(after, max_bytes)

    def trim(self, upto: int) -> None:
        self._journal.trim(upto)

    def close(self) -> None:
        self._journal.close()

    def _hang(self, name: str) -> None:
        while (self._folder / f"{name}.hangs").exists():
            time.sleep(0.02)


if __name__ == "__main__":
    settings = Settings()
    run(lambda: compose(settings, lambda journal: StallingJournal(journal, settings.data)))
