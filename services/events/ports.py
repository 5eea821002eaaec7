"""What the events service needs from the outside."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.events.batch import Batch
from services.events.domain.erasure import Searched, Target
from services.events.domain.rejection import KeptEvent, RejectedEvent, Rejection, Wanted


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Batches that became durable together, as they were appended."""

    position: int
    batches: bytes


class Journal(Protocol):
    """A durable queue of opaque entries. Safe to use from several threads.

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

    def append(self, batches: bytes) -> int:
        """Store an entry and return its position once it is on the disk.

        All or nothing, and positions ascend. UNAVAILABLE means that it is not read before the next
        start. After a write whose outcome is unknown, such as a failed sync, it may be read after
        that: nobody was told that it is stored, and who sends it again finds a duplicate.
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
    """Turns batches into an entry of the journal."""

    def encode(self, batches: Sequence[Batch]) -> bytes:
        """The batches with everything that the tables will hold of them, except the position."""
        ...


class EventSink(Protocol):
    """The event tables, as their one writer sees them."""

    @property
    def position(self) -> int:
        """The journal position up to which readers see every event."""
        ...

    def store(self, entries: Sequence[JournalEntry]) -> None:
        """Make entries visible to readers, each event once; durable on return.

        The first that are not visible yet: at least one, and not all where that would take long;
        `position` tells how far it came. Entries may be handed in again, also after a crash. After
        an error call `recover`, then hand the same entries in again.
        """
        ...

    def tidy(self) -> None:
        """Upkeep of a bounded duration, between two calls of `store`."""
        ...

    def recover(self) -> None:
        """Start again from what is stored."""
        ...


class RejectedEvents(Protocol):
    """Keeps what was not stored, with the reason, until it is stored or given up.

    Safe to use from several threads. Every call is UNAVAILABLE when the store cannot be read or
    written, and after `close`; what is changed is durable on return. After a write whose outcome
    is unknown every call is, until a restart.
    """

    @property
    def usable(self) -> bool:
        """Whether the next call may succeed."""
        ...

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        """Keep rejected events.

        The same rejection of the same event is kept once, however often it is sent. Beyond the
        limits of a project its oldest are dropped, and nothing of another project. A payload is
        cut at `Limits.kept_payload_bytes`; of an event of an erased unit it is not kept at all.
        """
        ...

    def newest(
        self, project: str, wanted: Wanted, below: int | None, count: int
    ) -> Sequence[KeptEvent]:
        """The project's events that are meant, newest first; at most `count`, without payloads.

        Only those with a number below this one; None: all.
        """
        ...

    def numbers(self, project: str, wanted: Wanted, above: int, count: int) -> Sequence[int]:
        """The numbers of those that are meant above this one, oldest first; at most `count`."""
        ...

    def count(self, project: str, wanted: Wanted, above: int) -> int:
        """How many are meant above this number."""
        ...

    def get(self, project: str, numbers: Collection[int]) -> Mapping[int, RejectedEvent]:
        """The project's events with these numbers, whole; those that there are."""
        ...

    def settle(self, project: str, stored: Collection[int], again: Mapping[int, Rejection]) -> None:
        """Forget the project's events that are stored now; give the others their newest reason.

        All or nothing. One that thereby becomes the same rejection of the same event as another is
        forgotten too, so that it stays kept once. Numbers that there are not are no error.
        """
        ...

    def close(self) -> None:
        """Release the file. May be called twice."""
        ...


class ErasedUnits(Protocol):
    """Tells which units were erased. Safe to use from several threads; never waits."""

    def concern(self, project: str) -> bool:
        """Whether any unit of the project was erased."""
        ...

    def among(
        self,
        project: str,
        unit_types: Sequence[str],
        unit_ids: Sequence[str],
        times_us: Sequence[int],
    ) -> Sequence[int]:
        """The places, ascending, of the units that were erased at that time or after it.

        The three sequences are of the same length; times are in microseconds since 1970.
        """
        ...

    def in_payload(self, project: str, payload: bytes) -> bool:
        """Whether an encoded event names a unit that was erased, whenever that was.

        One that cannot be read to its end is taken for one that does.
        """
        ...


class RetentionRules(Protocol):
    """Tells how long events are kept. Safe to use from several threads; never waits."""

    def oldest_us(self, project: str, table: str) -> int:
        """The time in microseconds since 1970 before which nothing is kept; 0: all is kept."""
        ...


class ErasureStores(Protocol):
    """Everything that may hold a unit, to be erased from. Work that was done may be done again.

    Every call may be UNAVAILABLE, and may be repeated then. `save` keeps what was done so far.
    """

    def flush(self, wait: Callable[[float], None]) -> None:
        """Return when the tables hold everything that the journal held at the call.

        `wait` sleeps for some seconds and may raise to end the waiting.
        """
        ...

    def recognise(self, project: str, targets: Sequence[Target]) -> list[Target]:
        """The targets, each with its unit if there is one of its digest in any store."""
        ...

    def erase_rows(
        self, project: str, targets: Sequence[Target], save: Callable[[Sequence[Target]], None]
    ) -> list[Target]:
        """Leave no row in the tables that mentions a target; the targets with what was deleted.

        A row that happened and was received after the moment of a target stays. Readers that began
        before see the rows to their end.
        """
        ...

    def erase_rejected(
        self, project: str, targets: Sequence[Target], save: Callable[[Sequence[Target]], None]
    ) -> list[Target]:
        """Leave no rejected event that mentions a target; the targets with how many were deleted.

        One that cannot be read is deleted when it holds the bytes of the id, or the id is unknown.
        """
        ...

    def scrub(self) -> None:
        """Leave no byte of what was deleted in the journal and among the rejected events."""
        ...

    def reflected(self) -> frozenset[str]:
        """The erasures that what is stored reflects: those that were marked."""
        ...

    def mark(self, erasures: Collection[str]) -> None:
        """Note beside the stores that they reflect these erasures; durable on return."""
        ...

    def remove_replaced(
        self, project: str, targets: Sequence[Target], grace: timedelta
    ) -> tuple[list[Target], timedelta | None]:
        """Remove the files of older versions that mention a target and were replaced so long ago.

        The targets with how many were removed, and after what time to call again; None: no such
        file is left.
        """
        ...

    def search(self, project: str, targets: Sequence[Target]) -> Searched:
        """Look for the targets in every file on the disk and every other store."""
        ...
