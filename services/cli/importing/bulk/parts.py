"""Files as a stream of requests, each with what is needed to say which row an answer means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.cli.importing.bulk.chunks import Chunk, ChunkSource
from services.cli.importing.bulk.conversion import BadRow, Conversion, EventColumns
from services.cli.importing.bulk.encoding import MAX_BODY_BYTES, EventEncoder, bodies
from shared.errors import DomainError, failed_precondition

# An event and its frame fit into one request.
_MAX_EVENT_BYTES = MAX_BODY_BYTES - 16


@dataclass(frozen=True, slots=True)
class Part:
    """A request, the chunk and the places in it that its events come from, and rows that came to
    no event. `rows` of the file are done with it.
    """

    file: str
    body: bytes
    chunk: Chunk
    places: NDArray[np.int64]
    bad: Sequence[BadRow]
    rows: int

    def request(self) -> bytes | None:
        """A serialized LogEventsRequest; None when there is nothing to send."""
        return self.body or None


class FileStamp(NamedTuple):
    """How long a file is, and when it was written last."""

    size_bytes: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class EventFile:
    """A file that is ready to be read, and what its rows mean."""

    source: ChunkSource
    conversion: Conversion
    stamp: FileStamp | None


def file_stamp(name: str) -> FileStamp | None:
    """What changes when somebody writes to the file; None when it is no file."""
    path = Path(name)
    if not path.is_file():
        return None
    stat = path.stat()
    return FileStamp(stat.st_size, stat.st_mtime_ns)


class Parts:
    """The requests of some files, one after another, made when they are asked for.

    It ends early when it is told to, or where a file ends badly: `problem` is why.
    """

    def __init__(self, files: Sequence[EventFile], encoder: EventEncoder) -> None:
        self._files = files
        self._encoder = encoder
        self._stopped = False
        self.problem: DomainError | None = None

    def stop(self) -> None:
        """What was made already is the end."""
        self._stopped = True

    def __iter__(self) -> Iterator[Part]:
        for file in self._files:
            try:
                for chunk in file.source.chunks():
                    _require_unchanged(file)
                    for part in self._parts(file, chunk):
                        if self._stopped:
                            return
                        yield part
            except DomainError as error:
                # What is on its way already has an answer that counts.
                self.problem = error
                return

    def _parts(self, file: EventFile, chunk: Chunk) -> Iterator[Part]:
        name, found = file.source.name, file.conversion.events(chunk)
        events, behind = self._encoder.events(found.columns)
        places, bad = found.places, list(found.bad)
        large = _too_large(events, behind)
        if len(large):
            bad += [_large(chunk, found, int(place)) for place in large]
            kept = np.delete(np.arange(len(events)), large)
            events, places = events.take(pa.array(kept)), places[kept]
            behind = None if behind is None else behind.take(pa.array(kept))
        uncounted = chunk.row_count - len(events)
        if not len(events):
            yield Part(name, b"", chunk, places, bad, uncounted)
        for body in bodies(events, behind):
            count = body.stop - body.start
            yield Part(
                name, body.data, chunk, places[body.start : body.stop], bad, count + uncounted
            )
            bad, uncounted = [], 0


def _require_unchanged(file: EventFile) -> None:
    """Ids that follow from the content would not be those of the next import."""
    if file.stamp != file_stamp(file.source.name):
        raise failed_precondition(
            "WRONG_STATE",
            f"{file.source.name} was written to while it was read; import it again when it is "
            "whole",
        )


def _too_large(events: pa.Array, behind: pa.Array | None) -> NDArray[np.int64]:
    sizes = np.asarray(pc.binary_length(events), np.int64)
    if behind is not None:
        sizes = sizes + np.asarray(pc.binary_length(behind).fill_null(0), np.int64)
    return np.flatnonzero(sizes > _MAX_EVENT_BYTES)


def _large(chunk: Chunk, found: EventColumns, place: int) -> BadRow:
    row = int(chunk.rows[found.places[place]])
    reason = f"makes an event of more than {_MAX_EVENT_BYTES} bytes; leave something out"
    return BadRow(row, "", "", reason)
