"""CSV files by columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
from numpy.typing import NDArray

from services.cli.importing.bulk.chunks import CHUNK_BYTES, Chunk, Unreadable
from services.cli.importing.bulk.streams import Bytes
from services.cli.importing.sources import DELIMITERS
from shared.errors import DomainError, invalid

_SHOWN = 1000
_NOT_CLOSED = "a quote in the row is not closed; it swallows all rows behind it"


class CsvChunks:
    """A CSV file with a header, in UTF-8 with or without a byte order mark. Its cells are apart
    by what parts its header into the most columns: a comma, a semicolon or a tab. Empty lines are
    no rows; a row's number counts from 1 behind the header.
    """

    def __init__(self, file: Bytes) -> None:
        self.name = file.name
        self._file = file
        with file.open() as stream:
            first = stream.read(CHUNK_BYTES)
        try:
            headers = {mark: _header(first, mark) for mark in DELIMITERS}
        except csv.Error as error:
            raise self._bad(f"its header is no CSV: {error}") from error
        # The first of equals: a header of one column has none of them.
        self.delimiter = max(headers, key=lambda mark: len(headers[mark]))
        self._columns = headers[self.delimiter]
        if not self._columns:
            raise self._bad("it is empty; its first line has to name the columns")
        if any("\ud800" <= letter <= "\udfff" for name in self._columns for letter in name):
            raise self._bad("its header is in another encoding than UTF-8")
        # As bytes: a cell that is no UTF-8 would end the whole file.
        self.schema: pa.Schema | None = pa.schema([(name, pa.binary()) for name in self._columns])

    def want(self, columns: Sequence[str], *, strict: bool) -> None:
        """A row is read whole, whatever is wanted of it."""

    def chunks(self) -> Iterator[Chunk]:
        """Every row, its cells as bytes. Raises INVALID_ARGUMENT where rows cannot be told apart
        any more.
        """
        last: Chunk | None = None
        try:
            for chunk in self._read():
                if last is not None:
                    yield last
                last = chunk
        except DomainError:
            if last is not None:
                yield last
            raise
        if last is not None:
            yield self._closed(last)

    def _closed(self, chunk: Chunk) -> Chunk:
        """The last chunk, without a last row that a quote which nobody closes runs through."""
        end = chunk.batch.num_rows - 1
        if end < 0 or not any(b"\n" in (column[end].as_py() or b"") for column in chunk.batch):
            return chunk
        with self._file.open() as stream:
            quotes = sum(block.count(b'"') for block in iter(lambda: stream.read(CHUNK_BYTES), b""))
        if quotes % 2 == 0:
            return chunk
        text = b",".join(column[end].as_py() or b"" for column in chunk.batch)[:_SHOWN]
        torn = Unreadable(int(chunk.rows[end]), text.decode(errors="replace"), _NOT_CLOSED)
        return Chunk(chunk.batch.slice(0, end), chunk.rows[:end], [*chunk.unreadable, torn])

    def _read(self) -> Iterator[Chunk]:
        skipped: list[Unreadable] = []
        places = _Places()
        try:
            with self._file.open() as stream, self._reader(stream, skipped) as reader:
                for batch in reader:
                    rows = places.of(batch.num_rows, skipped)
                    # Arrow reads ahead: what it skipped may lie behind this batch.
                    ready = [bad for bad in skipped if bad.row <= places.last]
                    yield Chunk(batch, rows, ready)
                    places.passed(len(ready))
                    del skipped[: len(ready)]
        except (OSError, ValueError, pa.ArrowException) as error:
            why = str(error).strip()
            if "Empty CSV file" not in why:
                if "straddling" in why:
                    why = f"a row is longer than {CHUNK_BYTES} bytes, or a quote is not closed"
                raise self._bad(f"behind row {places.last}: {why}") from error
        if skipped:
            batch = pa.RecordBatch.from_pylist([], self.schema)
            yield Chunk(batch, np.empty(0, np.int64), tuple(skipped))

    def done(self) -> float | None:
        """How much was read."""
        return self._file.done()

    def _reader(self, stream: pa.NativeFile, skipped: list[Unreadable]) -> Any:
        width = len(self._columns)

        def skip(row: Any) -> str:
            # Arrow counts the header as a row.
            reason = f"the row has {row.actual_columns} fields; allowed: {width}, as in the header"
            if "\n" in row.text and row.text.count('"') % 2:
                reason = f"{_NOT_CLOSED}; {reason}"
            skipped.append(Unreadable(row.number - 1, row.text[:_SHOWN], reason))
            return "skip"

        return pc_csv.open_csv(
            stream,
            # One thread: only then does Arrow know the number of a row that it skips.
            read_options=pc_csv.ReadOptions(use_threads=False, block_size=CHUNK_BYTES),
            parse_options=pc_csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=pc_csv.ConvertOptions(column_types=self.schema),
        )

    def _bad(self, why: str) -> DomainError:
        return invalid("FILE", self.name, f"a readable CSV file ({why})")


class _Places:
    """The numbers of the rows that Arrow hands out, which does not count those it skipped."""

    def __init__(self) -> None:
        self._read = 0
        self._skipped = 0
        self.last = 0
        """The number of the last row that was handed out."""

    def of(self, count: int, skipped: Sequence[Unreadable]) -> NDArray[np.int64]:
        """The numbers of the next rows; `skipped` lie before, between or behind them."""
        rows = np.arange(self._read, self._read + count, dtype=np.int64)
        self._read += count
        numbers = np.array([bad.row for bad in skipped], np.int64)
        before = numbers - 1 - self._skipped - np.arange(len(numbers))
        places: NDArray[np.int64] = (
            rows + 1 + self._skipped + np.searchsorted(before, rows, side="right")
        )
        if count:
            self.last = int(places[-1])
        return places

    def passed(self, count: int) -> None:
        """So many of those that were skipped lie behind and will not be named again."""
        self._skipped += count


def _header(first: bytes, delimiter: str) -> list[str]:
    text = first.decode("utf-8-sig", errors="surrogateescape").lstrip("\r\n")
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
