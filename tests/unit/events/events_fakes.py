"""Fakes of the events service's ports."""

import threading
from collections.abc import Callable, Sequence

from services.events.domain.limits import Limits
from services.events.domain.rejection import RejectedEvent
from services.events.ports import JournalEntry
from shared.errors import DomainError, unavailable


def full_disk() -> DomainError:
    return unavailable("STORAGE_UNAVAILABLE", "the disk is full")


class MemoryJournal:
    """A journal whose disk can be stopped (`gate`) and broken (`failures`)."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.groups: list[int] = []
        self._last = 0

    id = "memory"
    usable = True

    @property
    def last(self) -> int:
        return self._last

    @property
    def backlog_bytes(self) -> int:
        return sum(len(b) for e in self.entries for b in e.batches)

    def append(self, batches: Sequence[bytes]) -> int:
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop()
        self.groups.append(len(batches))
        self._last += 1
        self.entries.append(JournalEntry(self._last, tuple(batches)))
        return self._last

    def read(self, after: int, max_bytes: int) -> Sequence[JournalEntry]:
        return [e for e in self.entries if e.position > after][:2]

    def trim(self, upto: int) -> None:
        self.entries = [e for e in self.entries if e.position > upto]

    def close(self) -> None:
        self.usable = False


class MemoryRejected:
    def __init__(self, limits: Limits | None = None, kept: Sequence[RejectedEvent] = ()) -> None:
        self.kept = list(kept)
        self.failures: list[Exception] = []
        self._limits = limits or Limits()
        self._open = True

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        self._check_open()
        if self.failures:
            raise self.failures.pop()
        for event in rejected:
            if event not in self.kept:
                self.kept.append(event)
        for project in {event.project for event in rejected}:
            self._make_room(project)

    def newest(self, project: str, count: int) -> Sequence[RejectedEvent]:
        self._check_open()
        return [r for r in reversed(self.kept) if r.project == project][:count]

    def close(self) -> None:
        self._open = False

    def _make_room(self, project: str) -> None:
        mine = [event for event in self.kept if event.project == project]
        while (
            len(mine) > self._limits.kept_rejections
            or sum(len(event.payload) for event in mine) > self._limits.kept_rejection_bytes
        ):
            self.kept.remove(mine.pop(0))

    def _check_open(self) -> None:
        if not self._open:
            raise unavailable("STORAGE_UNAVAILABLE", "the store is closed")


class MemorySink:
    """A sink that counts its calls; `during` is what happens elsewhere while it stores."""

    def __init__(self, during: Callable[[], object] = int) -> None:
        self.position = 0
        self.stored: list[bytes] = []
        self.failures: list[Exception] = []
        self.tidy_failures: list[Exception] = []
        self.recoveries = 0
        self.stores = 0
        self.tidies = 0
        self._during = during

    def store(self, entries: Sequence[JournalEntry]) -> None:
        if self.failures:
            raise self.failures.pop()
        self.stores += 1
        self._during()
        for entry in entries:
            if entry.position > self.position:
                self.stored.extend(entry.batches)
        self.position = max(self.position, entries[-1].position)

    def tidy(self) -> None:
        self.tidies += 1
        if self.tidy_failures:
            raise self.tidy_failures.pop()

    def recover(self) -> None:
        self.recoveries += 1
