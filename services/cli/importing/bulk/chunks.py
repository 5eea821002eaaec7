"""Files as a stream of column batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# About what one batch of columns takes; a few of them are in memory at a time.
CHUNK_BYTES = 4 * 1024 * 1024
CHUNK_ROWS = 40_000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is no row: what stands there, and why it cannot be read."""

    row: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a file: their columns as the file has them, and the number of each row.

    `unreadable` are rows between these that have no place in the columns.
    """

    batch: pa.RecordBatch
    rows: NDArray[np.int64]
    unreadable: Sequence[Unreadable] = ()

    @property
    def row_count(self) -> int:
        """How many rows of the file it accounts for."""
        return len(self.rows) + len(self.unreadable)


class ChunkSource(Protocol):
    """A file of rows that is read by columns."""

    @property
    def name(self) -> str:
        """How people call the file."""
        ...

    @property
    def schema(self) -> pa.Schema | None:
        """The columns and their types; None when each row names its own."""
        ...

    def want(self, columns: Sequence[str], *, strict: bool) -> None:
        """The columns to read. `strict`: a row that names its own may have no others."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """Every row, in the order of the file. Raises INVALID_ARGUMENT where it ends badly."""
        ...

    def done(self) -> float | None:
        """How much of the file was read, from 0 to 1; None when its length is not known."""
        ...


def small_enough(batch: pa.RecordBatch, first: int) -> Iterator[Chunk]:
    """The rows of a batch, the first of which has the number `first`, in pieces that fit."""
    pieces = max(-(-batch.nbytes // (8 * CHUNK_BYTES)), -(-batch.num_rows // CHUNK_ROWS), 1)
    step = max(-(-batch.num_rows // pieces), 1)
    for start in range(0, batch.num_rows, step):
        piece = batch.slice(start, step)
        numbers = np.arange(first + start, first + start + piece.num_rows, dtype=np.int64)
        yield Chunk(piece, numbers)
