"""Rows of CSV, Parquet and NDJSON files, read as a stream."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self, TextIO, TypeAlias

from shared.errors import DomainError, invalid, shown

Cells: TypeAlias = Sequence[object]

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_BLOCK_BYTES = 1 << 20
_PARQUET_BATCH = 8192


class SourceRow(NamedTuple):
    """One row: its number from 1, the line of the file where it ends (of one that cannot be read:
    where it begins), its cells in the order of the columns. `problem` says why the row cannot be
    read; its cells then hold what is there.
    """

    number: int
    line: int
    cells: Cells
    problem: str = ""


class Source(Protocol):
    """A file of rows."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, all different."""
        ...

    def rows(self) -> Iterator[SourceRow]:
        """Every row, in the order of the file; the same again at each call."""
        ...

    def estimated_rows(self) -> int:
        """About how many rows there are, for a progress bar."""
        ...


def open_source(path: Path) -> Source:
    """The file as rows: Parquet and NDJSON by their endings, otherwise CSV in UTF-8.

    Raises INVALID_ARGUMENT when it cannot be read, or not twice, or has no usable header.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise invalid(
            "FILE",
            str(path),
            "a file on disk, for it is read more than once; save what comes in to a file first",
        )
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return ParquetSource(path)
        if path.suffix.lower() in (".ndjson", ".jsonl"):
            return NdjsonSource(path)
        return CsvSource(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


class CsvSource:
    """A CSV file with a header, in UTF-8 with or without a byte order mark. Its cells are apart
    by what parts its header into the most columns: a comma, a semicolon or a tab.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        headers = {mark: self._header(mark) for mark in DELIMITERS}
        # The first of equals: a header of one column has none of them.
        self.delimiter = max(headers, key=lambda mark: len(headers[mark]))
        self.columns = _checked_columns(path, headers[self.delimiter])

    def rows(self) -> Iterator[SourceRow]:
        """Every row; empty lines are no rows."""
        width = len(self.columns)
        with self._open() as file:
            lines = _Lines(file)
            reader = csv.reader(lines, delimiter=self.delimiter)
            next(reader, None)
            number = 0
            while True:
                lines.forget()
                first = reader.line_num + 1
                problem = ""
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    cells, problem = [], f"the line is no CSV: {error}"
                if not cells and not problem:
                    continue
                number += 1
                swallowed = reader.line_num > first and (
                    bool(problem) or len(cells) != width or lines.end_within_quotes(self.delimiter)
                )
                problem = problem or _problem(cells, width)
                if swallowed:
                    problem = f"a quote opened on line {first} is not closed; {problem}"
                problem = problem.removesuffix("; ")
                yield SourceRow(number, first if problem else reader.line_num, cells, problem)

    def _header(self, delimiter: str) -> list[str]:
        with self._open() as file:
            return next(csv.reader(file, delimiter=delimiter), [])

    def _open(self) -> TextIO:
        return self._path.open(newline="", encoding="utf-8-sig", errors="surrogateescape")

    def estimated_rows(self) -> int:
        """The lines behind the header."""
        with self._path.open("rb") as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK_BYTES), b""))
        return max(lines - 1, 0)


class _Lines:
    """The lines of a file; those since the last `forget` can be looked at again."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._kept: list[str] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self._kept.append(line)
        return line

    def forget(self) -> None:
        """What was read so far is of no interest any more."""
        self._kept.clear()

    def end_within_quotes(self, delimiter: str) -> bool:
        """Whether the lines since then open a quote that none of them closes."""
        try:
            for _ in csv.reader(self._kept, delimiter=delimiter, strict=True):
                pass
        except csv.Error as error:
            return "unexpected end" in str(error)
        return False


class ParquetSource:
    """A Parquet file; a row's line is its number."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                self._count = int(file.metadata.num_rows)
                self.columns = _checked_columns(path, file.schema_arrow.names)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _unreadable(path, f"it is no Parquet file: {error}") from error

    def rows(self) -> Iterator[SourceRow]:
        """Every row. Raises INVALID_ARGUMENT where the file is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_PARQUET_BATCH):
                    cells_of = [column.to_pylist() for column in batch.columns]
                    for cells in zip(*cells_of, strict=True):
                        number += 1
                        yield SourceRow(number, number, cells)
        except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
            why = f"it is damaged behind row {number}: {str(error).strip()}"
            raise _unreadable(self._path, why) from error

    def estimated_rows(self) -> int:
        """The rows that the file says it has."""
        return self._count


class NdjsonSource:
    """A file of one JSON object a line, in UTF-8; its columns are all names that stand in any of
    them. Lists and objects within are JSON text.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        names: dict[str, None] = {}
        self._count = 0
        for row in self._objects():
            names |= dict.fromkeys(row.found)
            self._count = row.number
        self.columns = tuple(names)
        if not names:
            raise _unreadable(path, "no line of it is a JSON object with names")

    def rows(self) -> Iterator[SourceRow]:
        """Every line that is not empty."""
        for row in self._objects():
            cells = [_json_cell(row.found.get(name)) for name in self.columns]
            yield SourceRow(row.number, row.line, cells, row.problem)

    def estimated_rows(self) -> int:
        """The lines that are not empty."""
        return self._count

    def _objects(self) -> Iterator[_JsonRow]:
        number = 0
        with self._path.open("rb") as file:
            for line, text in enumerate(file, 1):
                if text.strip():
                    number += 1
                    yield _json_row(number, line, text)


class _JsonRow(NamedTuple):
    number: int
    line: int
    found: Mapping[str, object]
    problem: str = ""


def _json_row(number: int, line: int, text: bytes) -> _JsonRow:
    try:
        found = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return _JsonRow(number, line, {}, f"the line is no JSON in UTF-8: {error}")
    if not isinstance(found, dict):
        return _JsonRow(number, line, {}, "the line is no JSON object; allowed: one whole object")
    return _JsonRow(number, line, found)


def _json_cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def require_column(source: Source, name: str, option: str) -> int:
    """The place of a column. Raises INVALID_ARGUMENT that lists the columns there are."""
    try:
        return source.columns.index(name)
    except ValueError as error:
        raise invalid(option, name, "one of " + ", ".join(source.columns)) from error


def _problem(cells: Sequence[str], width: int) -> str:
    if len(cells) != width:
        return f"the row has {len(cells)} fields; allowed: {width}, as in the header"
    if not "".join(cells).isascii() and any(_has_surrogate(cell) for cell in cells):
        return "the row is no UTF-8; save the file as UTF-8"
    return ""


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _checked_columns(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        raise invalid("FILE", str(path), "a file whose first line names its columns; it is empty")
    if any(_has_surrogate(name) for name in names):
        raise invalid("FILE", str(path), "a file in UTF-8; its header is in another encoding")
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise invalid(
            "FILE", str(path), f"columns of different names; {shown(doubles[0])} stands there twice"
        )
    return tuple(names)


def _unreadable(path: Path, why: str) -> DomainError:
    return invalid("FILE", str(path), f"a readable CSV, Parquet or NDJSON file ({why})")
