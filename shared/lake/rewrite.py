"""Join files of a table into one: the same rows, in the order of the files.

A large rewrite is a program of its own with a low priority, so that it takes from readers and from
the service little more than what they leave. It writes a file and tells of it; only the
writer of the tables makes the file a part of a table.
"""

import datetime as dt
import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_AT_ONCE = 8 * 1024
"""Rows that are read at a time."""
GROUP_ROWS = 128 * 1024
GROUP_BYTES = 64 * 1024 * 1024
"""A row group ends at the first of the two: they bound the memory of a rewrite."""
STATISTICS_COLUMNS = ("event_time", "receive_time", "position")
COMPRESSION, COMPRESSION_LEVEL = "zstd", 3
# Beside a reader that wants every processor it gets a tenth of one: enough to go on for ever.
_GIVES_WAY = 10


@dataclass(frozen=True, slots=True)
class Joined:
    """The file that took the place of others. `statistics` is as the Delta log has it."""

    path: str
    size_bytes: int
    statistics: str


def joined_path(inputs: Sequence[str]) -> str:
    """Where the rows of these files go: a name that no other set of files gets."""
    digest = hashlib.blake2b("\0".join(inputs).encode(), digest_size=16).hexdigest()
    return str(PurePosixPath(inputs[0]).parent / f"part-{digest}.zstd.parquet")


def join(table: Path, inputs: Sequence[str]) -> Joined:
    """Write the rows of the inputs to one file; the file, not its folder, is synced on return."""
    output = joined_path(inputs)
    schema = _common_schema([pq.read_schema(table / path) for path in inputs])
    with pq.ParquetWriter(
        table / output, schema, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL
    ) as out:
        for group in _groups(table, inputs, schema):
            out.write_table(group, row_group_size=group.num_rows)
    with (table / output).open("rb") as file:
        os.fsync(file.fileno())
    return Joined(output, (table / output).stat().st_size, statistics_of(table / output))


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """All columns of all files; one that a file lacks is null there."""
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            known = fields.setdefault(field.name, field)
            everywhere = all(field.name in other.names for other in schemas)
            if field.nullable or not everywhere:
                fields[field.name] = known.with_nullable(True)
    return pa.schema(fields.values())


def _groups(table: Path, inputs: Sequence[str], schema: pa.Schema) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    rows = size = 0
    for batch in _batches(table, inputs, schema):
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting)


def _batches(table: Path, inputs: Sequence[str], schema: pa.Schema) -> Iterator[pa.Table]:
    for path in inputs:
        with pq.ParquetFile(table / path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
                given = pa.Table.from_batches([batch])
                columns = [
                    given[field.name].cast(field.type)
                    if field.name in given.column_names
                    else pa.nulls(given.num_rows, field.type)
                    for field in schema
                ]
                yield pa.table(columns, schema=schema)


def statistics_of(path: Path) -> str:
    """The bounds of the columns that readers filter by, as the Delta log has them."""
    metadata = pq.read_metadata(path)
    names = metadata.schema.to_arrow_schema().names
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in STATISTICS_COLUMNS:
        column = names.index(name)
        groups = [
            metadata.row_group(n).column(column).statistics for n in range(metadata.num_row_groups)
        ]
        known = [group for group in groups if group is not None and group.has_min_max]
        if groups and len(known) == len(groups):
            low[name] = _shown(min(group.min for group in known), up=False)
            high[name] = _shown(max(group.max for group in known), up=True)
            nulls[name] = sum(group.null_count for group in known)
    return json.dumps(
        {"numRecords": metadata.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    )


def _shown(value: object, *, up: bool) -> object:
    """A bound as the log has it: with milliseconds, and never tighter than the values."""
    if not isinstance(value, dt.datetime):
        return value
    if up and value.microsecond % 1000:
        value += dt.timedelta(milliseconds=1)
    return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def main() -> None:
    """Do the one job that standard input names, and end at once when the caller is gone."""
    os.nice(_GIVES_WAY)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_caller, daemon=True).start()
    joined = join(Path(job["table"]), job["inputs"])
    sys.stdout.write(json.dumps(asdict(joined)))
    sys.stdout.flush()


def _end_with_caller() -> None:
    sys.stdin.read()
    os._exit(1)
