"""What the events service needs from the outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.events.domain.event import EventBatch
from services.events.domain.rejection import RejectedEvent


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Batches that became durable together."""

    position: int
    batches: tuple[bytes, ...]


class Journal(Protocol):
    """A durable queue of opaque batches. Safe to use from several threads.

    A position is never used twice, also after everything was trimmed and after a restart. After a
    write whose outcome is unknown, and after `close`, every call is UNAVAILABLE with reason
    STORAGE_UNAVAILABLE.
    """

    @property
    def id(self) -> str:
        """Names this journal for ever; a journal made anew has another id."""
        ...

    @property
    def last(self) -> int:
        """The position of the newest entry, also when it was trimmed; 0 before the first."""
        ...

    @property
    def usable(self) -> bool:
        """Whether the next append may succeed."""
        ...

    @property
    def backlog_bytes(self) -> int:
        """The size of the entries that were not trimmed yet."""
        ...

    def append(self, batches: Sequence[bytes]) -> int:
        """Store the batches as one entry and return its position once it is on the disk.

        All or nothing: UNAVAILABLE means that none of the batches will ever be read. Positions
        ascend. At least one batch.
        """
        ...

    def read(self, after: int, max_bytes: int) -> Sequence[JournalEntry]:
        """Entries after a position, ascending; empty when there is none.

        At least one entry when there is one, then as many as fit in `max_bytes`. A damaged entry
        is UNAVAILABLE, never skipped.
        """
        ...

    def trim(self, upto: int) -> None:
        """Forget the entries up to and including a position."""
        ...

    def close(self) -> None:
        """Release the file. May be called twice."""
        ...


class BatchCodec(Protocol):
    """Turns a batch into bytes for the journal."""

    def encode(self, batch: EventBatch) -> bytes:
        """The batch with everything that the tables will hold of it, except its position."""
        ...


class EventSink(Protocol):
    """The event tables, as their one writer sees them."""

    @property
    def position(self) -> int:
        """The journal position up to which readers see every event."""
        ...

    def store(self, entries: Sequence[JournalEntry]) -> None:
        """Make entries visible to readers, each event once; durable on return.

        Entries may be handed in again, also after a crash. After an error call `recover`, then
        hand the same entries in again.
        """
        ...

    def tidy(self) -> None:
        """Upkeep of a bounded duration, between two calls of `store`."""
        ...

    def recover(self) -> None:
        """Start again from what is stored."""
        ...


class RejectedEvents(Protocol):
    """Keeps what was not stored, with the reason, for somebody to look at."""

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        """Keep rejected events; durable on return.

        The same rejection of the same event is kept once, however often it is sent. Beyond the
        limits of a project its oldest are dropped, and nothing of another project. UNAVAILABLE
        when they cannot be kept.
        """
        ...

    def newest(self, project: str, count: int) -> Sequence[RejectedEvent]:
        """The project's rejected events, newest first."""
        ...

    def close(self) -> None:
        """Release the file. May be called twice."""
        ...
