"""Fakes of the events service's ports."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from services.events.domain.limits import Limits
from services.events.domain.rejection import KeptEvent, RejectedEvent, Rejection, Wanted, as_kept
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
        self.groups = 0
        self._last = 0

    id = "memory"
    usable = True

    @property
    def last(self) -> int:
        return self._last

    @property
    def backlog_bytes(self) -> int:
        return sum(len(entry.batches) for entry in self.entries)

    def append(self, batches: bytes) -> int:
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop()
        self.groups += 1
        self._last += 1
        self.entries.append(JournalEntry(self._last, batches))
        return self._last

    def read(self, after: int, max_bytes: int) -> Sequence[JournalEntry]:
        return [e for e in self.entries if e.position > after][:2]

    def trim(self, upto: int) -> None:
        self.entries = [e for e in self.entries if e.position > upto]

    def close(self) -> None:
        self.usable = False


class MemoryRejected:
    def __init__(
        self, limits: Limits | None = None, kept: Mapping[int, RejectedEvent] | None = None
    ) -> None:
        self.numbered = dict(kept or {})
        self.failures: list[Exception] = []
        self._limits = limits or Limits()
        self._open = True
        self._last = max(self.numbered, default=0)

    @property
    def usable(self) -> bool:
        return self._open

    @property
    def kept(self) -> list[RejectedEvent]:
        return list(self.numbered.values())

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        self._check_open()
        if self.failures:
            raise self.failures.pop()
        for whole in rejected:
            event = as_kept(whole, self._limits.kept_payload_bytes)
            if not self._known(event):
                self._last += 1
                self.numbered[self._last] = event
        for project in {event.project for event in rejected}:
            self._make_room(project)

    def newest(
        self, project: str, wanted: Wanted, below: int | None, count: int
    ) -> Sequence[KeptEvent]:
        self._check_open()
        return [
            KeptEvent(number, replace(event, payload=b""), len(event.payload))
            for number, event in reversed(self._meant(project, wanted))
            if below is None or number < below
        ][:count]

    def numbers(self, project: str, wanted: Wanted, above: int, count: int) -> Sequence[int]:
        self._check_open()
        return [number for number, _ in self._meant(project, wanted) if number > above][:count]

    def count(self, project: str, wanted: Wanted, above: int) -> int:
        return len(self.numbers(project, wanted, above, len(self.numbered)))

    def get(self, project: str, numbers: Collection[int]) -> Mapping[int, RejectedEvent]:
        self._check_open()
        mine = dict(self._meant(project, Wanted()))
        return {number: mine[number] for number in numbers if number in mine}

    def settle(self, project: str, stored: Collection[int], again: Mapping[int, Rejection]) -> None:
        mine = self.get(project, [*stored, *again])
        if self.failures:
            raise self.failures.pop()
        for number in stored:
            if number in mine:
                del self.numbered[number]
        for number, why in again.items():
            if number in mine:
                del self.numbered[number]
                event = as_kept(
                    replace(mine[number], rejection=why), self._limits.kept_payload_bytes
                )
                if not self._known(event):
                    self.numbered[number] = event
        self.numbered = dict(sorted(self.numbered.items()))

    def close(self) -> None:
        self._open = False

    def _meant(self, project: str, wanted: Wanted) -> list[tuple[int, RejectedEvent]]:
        return [
            (number, event)
            for number, event in self.numbered.items()
            if event.project == project and wanted.admits(event)
        ]

    def _known(self, event: RejectedEvent) -> bool:
        return any(_same(event, other) for other in self.numbered.values())

    def _make_room(self, project: str) -> None:
        mine = self._meant(project, Wanted())
        while (
            len(mine) > self._limits.kept_rejections
            or sum(len(event.payload) for _, event in mine) > self._limits.kept_rejection_bytes
        ):
            del self.numbered[mine.pop(0)[0]]

    def _check_open(self) -> None:
        if not self._open:
            raise unavailable("STORAGE_UNAVAILABLE", "the store is closed")


def _same(one: RejectedEvent, other: RejectedEvent) -> bool:
    """The same rejection of the same event, whenever it was sent."""

    def key(event: RejectedEvent) -> tuple[object, ...]:
        why = event.rejection
        return (event.project, why.event_id, why.reason, why.field, event.payload)

    return key(one) == key(other)


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
                self.stored.append(entry.batches)
        self.position = max(self.position, entries[-1].position)

    def tidy(self) -> None:
        self.tidies += 1
        if self.tidy_failures:
            raise self.tidy_failures.pop()

    def recover(self) -> None:
        self.recoveries += 1
