"""An entry of the journal: for each kind of event an Arrow stream, written and read by columns.

Project and receive time are the same for a whole batch: they travel once, beside the columns.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from services.events.batch import DAY_US, SCHEMAS, Batch, Integers, Portion, joined
from services.events.ports import JournalEntry
from shared.errors import unavailable
from shared.lake.layout import DATE, INSTANT, INTEGER, TABLES, TEXT, unit_keys

MAGIC = b"TSJ2"
_LENGTH = struct.Struct("<I")
_DIGEST = pa.field("content_digest", INTEGER)


class Segment(NamedTuple):
    """Consecutive rows of a stream that belong to one batch."""

    batch: int
    """Which of the entry's batches it is, from 0."""
    project: str
    receive_time_us: int
    rows: int


class ArrowCodec:
    """See BatchCodec."""

    def encode(self, batches: Sequence[Batch]) -> bytes:
        """See BatchCodec."""
        by_table: dict[str, list[tuple[Segment, Portion, Integers]]] = {}
        for number, batch in enumerate(batches):
            for portion, digests in batch.parts:
                segment = Segment(number, batch.project, batch.receive_time_us, len(portion))
                by_table.setdefault(portion.table, []).append((segment, portion, digests))
        parts: list[bytes | memoryview] = [MAGIC]
        for name, portions in by_table.items():
            stream = _stream(name, portions)
            parts += [_LENGTH.pack(len(stream)), memoryview(stream)]
        return b"".join(parts)


def _stream(name: str, portions: Sequence[tuple[Segment, Portion, Integers]]) -> pa.Buffer:
    segments = [segment for segment, _, _ in portions]
    schema = SCHEMAS[name].append(_DIGEST)
    schema = schema.with_metadata({"table": name, "segments": json.dumps(segments)})
    digests = pa.array(np.concatenate([digests for _, _, digests in portions]), INTEGER)
    arrays = [*joined([portion for _, portion, _ in portions]), digests]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.record_batch(arrays, schema=schema))
    return sink.getvalue()


@dataclass(frozen=True, slots=True)
class _Stored:
    """One stream of an entry."""

    table: str
    rows: pa.RecordBatch
    segments: list[Segment]
    position: int


def decode(entries: Sequence[JournalEntry]) -> dict[str, pa.Table]:
    """The rows of entries by table name, with every column of the layout."""
    by_table: dict[str, list[_Stored]] = {}
    for entry in entries:
        for stored in _streams(entry):
            by_table.setdefault(stored.table, []).append(stored)
    return {name: _complete(name, streams) for name, streams in by_table.items()}


def projects_of(entry: JournalEntry) -> list[str]:
    """The project of each batch in the entry."""
    batches = {s.batch: s.project for part in _streams(entry) for s in part.segments}
    return list(batches.values())


def partitions_of(entry: JournalEntry) -> set[tuple[str, str, int]]:
    """The table, the project and the day since 1970 of each partition that the entry touches."""
    found: set[tuple[str, str, int]] = set()
    for part in _streams(entry):
        days = part.rows["event_time"].view(INTEGER).to_numpy() // DAY_US
        projects = sorted({segment.project for segment in part.segments})
        place = {project: number for number, project in enumerate(projects)}
        of_rows = np.repeat(
            [place[segment.project] for segment in part.segments],
            [segment.rows for segment in part.segments],
        )
        for pair in np.unique(days * len(projects) + of_rows).tolist():
            day, project = divmod(pair, len(projects))
            found.add((part.table, projects[project], day))
    return found


def _streams(entry: JournalEntry) -> Iterator[_Stored]:
    blob = pa.py_buffer(entry.batches)
    if entry.batches[: len(MAGIC)] != MAGIC:
        raise unavailable(
            "STORAGE_UNAVAILABLE",
            f"entry {entry.position} of the journal was written by another version of Touchstone: "
            "start that version once, so that it empties its journal, then this one",
            retry_after_s=None,
        )
    at = len(MAGIC)
    while at < len(blob):
        (length,) = _LENGTH.unpack_from(entry.batches, at)
        at += _LENGTH.size
        with pa.ipc.open_stream(blob[at : at + length]) as reader:
            metadata = reader.schema.metadata
            segments = [Segment(*fields) for fields in json.loads(metadata[b"segments"])]
            rows = reader.read_next_batch()
            yield _Stored(metadata[b"table"].decode(), rows, segments, entry.position)
        at += length


def _complete(name: str, streams: Sequence[_Stored]) -> pa.Table:
    rows = pa.concat_tables(
        [pa.table(part.rows) for part in streams], promote_options="default"
    ).combine_chunks()
    segments = [segment for part in streams for segment in part.segments]
    counts = np.array([segment.rows for segment in segments])
    received = np.repeat(np.array([segment.receive_time_us for segment in segments]), counts)
    positions = np.array([part.position for part in streams])
    columns = {
        **{field: rows[field] for field in rows.column_names},
        "project": _repeated([segment.project for segment in segments], counts),
        "receive_time": pa.array(received, INTEGER).view(INSTANT),
        "day": rows["event_time"].cast(DATE),
        "unit_key": unit_keys(rows["unit_type"], rows["unit_id"]),
        "position": pa.array(np.repeat(positions, [part.rows.num_rows for part in streams])),
    }
    # An entry that an older version wrote lacks the columns that were added since.
    for column in TABLES[name].columns:
        if column.optional:
            columns.setdefault(column.name, pa.nulls(rows.num_rows, column.type))
    schema = TABLES[name].schema
    return pa.table([columns[field] for field in schema.names], schema=schema)


def _repeated(values: Sequence[str], counts: Integers) -> pa.Array:
    names = pa.array(values, TEXT).dictionary_encode()
    indices = np.repeat(names.indices.to_numpy(), counts)
    return pa.DictionaryArray.from_arrays(pa.array(indices), names.dictionary).cast(TEXT)
