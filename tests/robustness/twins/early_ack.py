"""The events service with a journal that acknowledges before it writes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from services.events.composition import compose
from services.events.ports import Journal, JournalEntry
from services.events.settings import Settings
from shared.server.run import run

DELAY_S = 0.5


class EarlyAckJournal:
    """Writes a moment after it said so, and not at all when the process ends before."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[Any] = []
        self._lock = threading.Lock()
        self.id = journal.id
        self.last = journal.last
        self.backlog_bytes = 0
        self.usable = True
        threading.Thread(target=self._write_later, daemon=True).start()

    def append(self, batches: Any) -> int:
        with self._lock:
            self._waiting.append(batches)
            self.last += 1
            return self.last

    def read(self, after: int, max_bytes: int) -> Sequence[JournalEntry]:
        return self._journal.read(after, max_bytes)

    def trim(self, upto: int) -> None:
        self._journal.trim(upto)

    def close(self) -> None:
        os._exit(0)

    def _write_later(self) -> None:
        while True:
            time.sleep(DELAY_S)
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for batches in waiting:
                self._journal.append(batches)


if __name__ == "__main__":
    run(lambda: compose(Settings(), EarlyAckJournal))
