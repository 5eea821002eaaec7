"""The event tables as the flusher writes them."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from services.events.adapters.arrow_codec import decode
from services.events.ports import JournalEntry
from shared.clock import Clock
from shared.lake.watermark import Watermark
from shared.lake.writer import LakeWriter, concatenate

# Well below the time within which an acknowledged event becomes readable.
UPKEEP_S = 0.3


class DeltaSink:
    """See EventSink."""

    def __init__(self, lake: Path, journal_id: str, clock: Clock) -> None:
        self._writer = LakeWriter(lake, journal_id, clock)

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
        parts: dict[str, list[pa.Table]] = {}
        for entry in entries:
            for batch in entry.batches:
                for name, rows in decode(batch, entry.position):
                    parts.setdefault(name, []).append(rows)
        tables = {name: concatenate(name, rows) for name, rows in parts.items()}
        self._writer.append(tables, entries[-1].position)

    def tidy(self) -> None:
        """See EventSink."""
        self._writer.tidy(UPKEEP_S)

    def recover(self) -> None:
        """See EventSink."""
        self._writer.reopen()
