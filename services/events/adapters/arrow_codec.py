"""A batch in the journal: an Arrow stream a table, so that the flusher touches no single event."""

import struct
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from services.events.domain.event import EventBatch
from shared.lake.layout import COMMON_COLUMNS, DATE, INSTANT, INTEGER, TABLES, TEXT, unit_key

# Project and receive time are the same for a whole batch: they travel once, beside the columns.
_EVENT_COLUMNS = (
    ("event_id", TEXT),
    ("event_time", INSTANT),
    ("unit_type", TEXT),
    ("unit_id", TEXT),
    ("linked_units", TEXT),
    ("source", TEXT),
    ("properties", TEXT),
    ("content_digest", INTEGER),
)
_LENGTH = struct.Struct("<I")


class ArrowCodec:
    """See BatchCodec."""

    def encode(self, batch: EventBatch) -> bytes:
        """See BatchCodec."""
        rows: dict[str, list[tuple[object, ...]]] = {}
        for event, digest in zip(batch.events, batch.digests, strict=True):
            rows.setdefault(event.table, []).append((*event[:7], digest, *event.payload))
        parts = [_encode(name, part, batch) for name, part in rows.items()]
        return b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part))


def decode(batch: bytes, position: int) -> Iterator[tuple[str, pa.Table]]:
    """The rows of a batch by table name, with every column of the layout."""
    at = 0
    while at < len(batch):
        (length,) = _LENGTH.unpack_from(batch, at)
        at += _LENGTH.size
        stored = pa.ipc.open_stream(pa.py_buffer(batch)[at : at + length]).read_all()
        at += length
        name = stored.schema.metadata[b"table"].decode()
        yield name, _complete(name, stored, position)


def project_of(batch: bytes) -> str:
    """The project whose batch it is, without a look at its rows."""
    stream = pa.ipc.open_stream(pa.py_buffer(batch)[_LENGTH.size :])
    project: bytes = stream.schema.metadata[b"project"]
    return project.decode()


def _encode(name: str, rows: Sequence[tuple[object, ...]], batch: EventBatch) -> bytes:
    own = [(c.name, c.type) for c in TABLES[name].columns[len(COMMON_COLUMNS) :]]
    schema = pa.schema(
        [*_EVENT_COLUMNS, *own],
        metadata={
            "table": name,
            "project": batch.project,
            "receive_time": str(batch.receive_time_us),
        },
    )
    columns = zip(*rows, strict=True)
    arrays = [pa.array(v, f.type) for v, f in zip(columns, schema, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.record_batch(arrays, schema=schema))
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _complete(name: str, stored: pa.Table, position: int) -> pa.Table:
    metadata = stored.schema.metadata
    received = pa.scalar(int(metadata[b"receive_time"]), INSTANT)
    units = zip(stored["unit_type"].to_pylist(), stored["unit_id"].to_pylist(), strict=True)
    columns = {
        **{field: stored[field] for field in stored.schema.names},
        "project": _repeated(pa.scalar(metadata[b"project"].decode(), TEXT), stored),
        "receive_time": _repeated(received, stored),
        "day": pc.cast(stored["event_time"], DATE),
        "unit_key": pa.array([unit_key(*unit) for unit in units], INTEGER),
        "position": _repeated(pa.scalar(position, INTEGER), stored),
    }
    # A batch that an older version wrote lacks the columns that were added since.
    for column in TABLES[name].columns:
        if column.optional:
            columns.setdefault(column.name, pa.nulls(stored.num_rows, column.type))
    schema = TABLES[name].schema
    return pa.table([columns[field] for field in schema.names], schema=schema)


def _repeated(value: pa.Scalar, rows: pa.Table) -> pa.Array:
    return pa.repeat(value, rows.num_rows)
