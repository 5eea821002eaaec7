"""Which files are meant, in which format, and the bytes of each."""

from __future__ import annotations

import enum
import glob
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from services.cli.importing.bulk.chunks import ChunkSource
from services.cli.importing.bulk.csv_chunks import CsvChunks
from services.cli.importing.bulk.ndjson_chunks import NdjsonChunks
from services.cli.importing.bulk.parquet_chunks import ParquetChunks
from services.cli.importing.bulk.streams import COMPRESSIONS, Bytes
from shared.errors import invalid

STDIN = "-"
STDIN_NAME = "standard input"


class FileFormat(enum.StrEnum):
    """How a file holds its rows."""

    CSV = "csv"
    PARQUET = "parquet"
    NDJSON = "ndjson"


_ENDINGS = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
    ".ndjson": FileFormat.NDJSON,
    ".jsonl": FileFormat.NDJSON,
    ".json": FileFormat.NDJSON,
}


def found_files(patterns: Sequence[str]) -> list[str]:
    """The files of paths and patterns, each once, those of a pattern in the order of their names.

    Raises INVALID_ARGUMENT for one that names no file.
    """
    files: list[str] = []
    for pattern in patterns:
        if pattern == STDIN or Path(pattern).exists():
            files.append(pattern)
        elif matches := sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - Path takes no absolute pattern
            files += [match for match in matches if Path(match).is_file()]
        else:
            raise invalid("FILE", pattern, "files that exist, patterns such as 'day-*.csv', or -")
    if files.count(STDIN) > 1:
        raise invalid("FILE", STDIN, "standard input once")
    return list(dict.fromkeys(files))


def open_chunks(file: str, file_format: FileFormat | None) -> ChunkSource:
    """The file as columns: by `file_format`, else by its ending.

    Raises INVALID_ARGUMENT when its format is not known, or it cannot be read.
    """
    if file == STDIN:
        if file_format not in (None, FileFormat.NDJSON):
            raise invalid("--format", file_format, "ndjson for standard input; save others first")
        return NdjsonChunks(Bytes(STDIN_NAME, sys.stdin.buffer))
    path = Path(file)
    chosen = file_format or _by_ending(path)
    try:
        if chosen is FileFormat.PARQUET:
            return ParquetChunks(path)
        return (CsvChunks if chosen is FileFormat.CSV else NdjsonChunks)(Bytes(file))
    except (OSError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise invalid("FILE", file, f"a readable {chosen} file ({why})") from error


def _by_ending(path: Path) -> FileFormat:
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in COMPRESSIONS:
        endings.pop()
    if not endings or endings[-1] not in _ENDINGS:
        known = ", ".join(_ENDINGS)
        raise invalid(
            "FILE", str(path), f"an ending of {known}, with .gz or .zst behind it, or --format"
        )
    return _ENDINGS[endings[-1]]
