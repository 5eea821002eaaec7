"""Parquet files by columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.cli.importing.bulk.chunks import Chunk, small_enough
from shared.errors import invalid

_BATCH_ROWS = 20_000
_BUFFER_BYTES = 1 << 20


class ParquetChunks:
    """A Parquet file. Pages are read as they are needed: a row group need not fit into memory."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._read = 0
        with self._open() as file:
            self._count = int(file.metadata.num_rows)
            self.schema: pa.Schema | None = file.schema_arrow
        self._wanted: Sequence[str] | None = None

    def want(self, columns: Sequence[str], *, strict: bool) -> None:  # noqa: ARG002 - a row names nothing
        """The columns to read."""
        self._wanted = columns

    def chunks(self) -> Iterator[Chunk]:
        """Every row. Raises INVALID_ARGUMENT where the file is damaged."""
        self._read = 0
        try:
            with self._open() as file:
                for batch in file.iter_batches(
                    _BATCH_ROWS, columns=self._wanted, use_threads=False
                ):
                    yield from small_enough(batch, self._read + 1)
                    self._read += batch.num_rows
        except (OSError, ValueError, pa.ArrowException) as error:
            why = f"it is damaged behind row {self._read}: {str(error).strip()}"
            raise invalid("FILE", self.name, f"a whole Parquet file ({why})") from error

    def done(self) -> float | None:
        """How much was read."""
        return self._read / self._count if self._count else 1.0

    def _open(self) -> pq.ParquetFile:
        with self._path.open("rb"):
            return pq.ParquetFile(self._path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
