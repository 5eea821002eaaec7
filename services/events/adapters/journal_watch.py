"""A journal that knows for how long the disk has not answered."""

from collections.abc import Callable, Sequence

from services.events.ports import Journal, JournalEntry


class JournalWatch:
    """See Journal. A decorator: everything is done by the journal inside.

    `monotonic` tells seconds, and never goes back.
    """

    def __init__(self, journal: Journal, monotonic: Callable[[], float]) -> None:
        self._journal = journal
        self._monotonic = monotonic
        self._begun_s: float | None = None

    @property
    def waiting_s(self) -> float:
        """For how long the append that is in progress has waited for the disk; 0 without one."""
        begun_s = self._begun_s
        return 0.0 if begun_s is None else self._monotonic() - begun_s

    @property
    def id(self) -> str:
        """See Journal."""
        return self._journal.id

    @property
    def last(self) -> int:
        """See Journal."""
        return self._journal.last

    @property
    def usable(self) -> bool:
        """See Journal."""
        return self._journal.usable

    @property
    def backlog_bytes(self) -> int:
        """See Journal."""
        return self._journal.backlog_bytes

    def append(self, batches: bytes) -> int:
        """See Journal. From one thread."""
        self._begun_s = self._monotonic()
        try:
            return self._journal.append(batches)
        finally:
            self._begun_s = None

    def read(self, after: int, max_bytes: int) -> Sequence[JournalEntry]:
        """See Journal."""
        return self._journal.read(after, max_bytes)

    def trim(self, upto: int) -> None:
        """See Journal."""
        self._journal.trim(upto)

    def close(self) -> None:
        """See Journal."""
        self._journal.close()
