"""The event tables as the flusher writes them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from deltalake.exceptions import DeltaError

from services.events.adapters.arrow_codec import decode, partitions_of
from services.events.ports import Journal, JournalEntry
from shared.clock import Clock
from shared.errors import DomainError, failed_precondition
from shared.lake.table import TableWriter
from shared.lake.watermark import Watermark
from shared.lake.writer import LakeWriter

T = TypeVar("T")
# Well below the time within which an acknowledged event becomes readable.
UPKEEP_S = 0.3
PARTITIONS_AT_ONCE = 256
"""Partitions that a commit touches, at most, unless one entry touches more: each is a file of its
own, so that a step stays short whatever stands in the journal."""


class DeltaSink:
    """See EventSink.

    FAILED_PRECONDITION when the folder cannot be used, a newer program wrote the tables, or they
    hold more of the journal than the journal itself.
    """

    def __init__(self, lake: Path, journal: Journal, clock: Clock) -> None:
        try:
            self._writer = LakeWriter(lake, journal.id, clock, _forgotten(journal))
        except (OSError, DeltaError) as error:
            raise failed_precondition(
                "STORAGE_UNAVAILABLE",
                f"the event tables in {lake} cannot be opened ({error}); set TOUCHSTONE_LAKE to a "
                "folder that this user can write, or restore the tables",
            ) from error
        if self.position > journal.last:
            raise _journal_is_older(lake, self.position, journal.last)

    @property
    def position(self) -> int:
        """See EventSink."""
        return self._writer.watermark.position

    @property
    def watermark(self) -> Watermark:
        """The cut that readers see."""
        return self._writer.watermark

    def store(self, entries: Sequence[JournalEntry]) -> None:
        """See EventSink."""
        first = _leading(entries, self.position)
        if first:
            self._writer.append(decode(first), first[-1].position)

    def tidy(self) -> None:
        """See EventSink."""
        self._writer.tidy(UPKEEP_S)

    def change(self, name: str, work: Callable[[TableWriter], T]) -> T:
        """Change a table otherwise than by events; only in the flusher's thread."""
        return self._writer.change(name, work)

    def recover(self) -> None:
        """See EventSink."""
        self._writer.reopen()

    def close(self) -> None:
        """Stop upkeep that is under way. May be called twice."""
        self._writer.close()


def _leading(entries: Sequence[JournalEntry], stored: int) -> list[JournalEntry]:
    """The first entries that are not stored, of few enough partitions for one step."""
    leading: list[JournalEntry] = []
    touched: set[tuple[str, str, int]] = set()
    for entry in entries:
        if entry.position <= stored:
            continue
        touched |= partitions_of(entry)
        if leading and len(touched) > PARTITIONS_AT_ONCE:
            break
        leading.append(entry)
    return leading


def _forgotten(journal: Journal) -> int:
    """The position up to which the journal has no entries any more."""
    oldest = journal.read(0, 1)
    return oldest[0].position - 1 if oldest else journal.last


def _journal_is_older(lake: Path, position: int, last: int) -> DomainError:
    """Positions that the tables hold already would be given out again, and skipped as known."""
    return failed_precondition(
        "STORAGE_UNAVAILABLE",
        f"the tables in {lake} hold the journal up to position {position}, but the journal ends at "
        f"{last}: it was restored from an older copy. Restore both from the same moment, or move "
        "the journal file away to start a new one",
    )
