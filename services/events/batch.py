"""Events of one kind by columns, as they travel from a request to the tables."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import mmh3
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from services.events.domain.event import DIGEST_VERSION, DIGEST_VERSION_BITS, Event
from shared.lake.layout import COMMON_COLUMNS, INSTANT, INTEGER, TABLES, TEXT

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# What every event has of its own; project, receive time and position are the same for many.
EVENT_FIELDS = (
    pa.field("event_id", TEXT),
    pa.field("event_time", INSTANT),
    pa.field("unit_type", TEXT),
    pa.field("unit_id", TEXT),
    pa.field("linked_units", TEXT),
    pa.field("source", TEXT),
    pa.field("properties", TEXT),
)
EVENT_ID, EVENT_TIME, UNIT_TYPE, UNIT_ID, LINKED_UNITS = range(5)
SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema(
        [*EVENT_FIELDS, *(pa.field(c.name, c.type) for c in table.columns[len(COMMON_COLUMNS) :])]
    )
    for name, table in TABLES.items()
}
"""The columns of a portion, by the name of its table. A column is only ever added at the end."""

# Between the fields of the text that is digested, and instead of an absent one.
_SEPARATOR, _ABSENT, _ESCAPE = "\x1f", "\x00", "\x1b"
_ESCAPES = ((_ESCAPE, "\x1b["), (_SEPARATOR, "\x1b1"), (_ABSENT, "\x1b0"))
_FIRST_PRINTABLE = 0x20


@dataclass(frozen=True, slots=True)
class Portion:
    """Events of one kind.

    `columns` are those of SCHEMAS[table], and `places` the events' positions in their request.
    """

    table: str
    columns: tuple[pa.Array, ...]
    places: Integers

    def __len__(self) -> int:
        return len(self.places)

    @property
    def times_us(self) -> Integers:
        """The event times in microseconds since 1970 UTC."""
        times: Integers = self.columns[EVENT_TIME].view(INTEGER).to_numpy()
        return times

    def where(self, kept: Flags) -> "Portion":
        """The events that are flagged."""
        if kept.all():
            return self
        mask = pa.array(kept)
        columns = tuple(column.filter(mask) for column in self.columns)
        return replace(self, columns=columns, places=self.places[kept])

    def fingerprints(self, prefix: bytes) -> list[bytes]:
        """For each event 128 bits that stand for its id within its project.

        `prefix` is `fingerprint_prefix` of the project. md5, which every engine computes alike.
        """
        md5 = hashlib.md5
        ids = self.columns[EVENT_ID].cast(pa.binary()).to_pylist()
        return [md5(prefix + name, usedforsecurity=False).digest() for name in ids]

    def digests(self) -> Integers:
        """For each event 64 bits that stand for everything the sender said but the id.

        Equal in a retry of the same event. The lowest 4 bits are DIGEST_VERSION; the others are the
        lowest 60 of MurmurHash3 x64 128 over the kind and the fields in the order of the columns: a
        column that is added at the end and absent changes nothing.
        """
        fields = [_digestible(column) for column in self.columns[EVENT_TIME:]]
        text = pc.binary_join_element_wise(
            pa.scalar(self.table),
            *fields,
            _SEPARATOR,
            null_handling="replace",
            null_replacement=_ABSENT,
        )
        text = pc.ascii_rtrim(text, characters=_SEPARATOR + _ABSENT)
        murmur = mmh3.mmh3_x64_128_digest
        hashes = b"".join([murmur(one) for one in text.cast(pa.binary()).to_pylist()])
        shifted = np.frombuffer(hashes, "<u8")[::2] << np.uint64(DIGEST_VERSION_BITS)
        digests: Integers = (shifted | np.uint64(DIGEST_VERSION)).view(np.int64)
        return digests


@dataclass(frozen=True, slots=True)
class Batch:
    """New events of one project that were received together, with the digest of each."""

    project: str
    receive_time_us: int
    parts: tuple[tuple[Portion, Integers], ...]

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory and on the disk."""
        return sum(
            digests.nbytes + sum(column.nbytes for column in portion.columns)
            for portion, digests in self.parts
        )


def portions_of(events: Sequence[tuple[int, Event]]) -> list[Portion]:
    """Events that were parsed one by one, each with its place."""
    by_table: dict[str, list[tuple[int, Event]]] = {}
    for place, event in events:
        by_table.setdefault(event.table, []).append((place, event))
    return [_portion(table, rows) for table, rows in by_table.items()]


def _portion(table: str, rows: Sequence[tuple[int, Event]]) -> Portion:
    values = zip(*((*event[:7], *event.payload) for _, event in rows), strict=True)
    schema = SCHEMAS[table]
    columns = tuple(pa.array(v, f.type) for v, f in zip(values, schema, strict=True))
    return Portion(table, columns, np.array([place for place, _ in rows], np.int64))


def _digestible(column: pa.Array) -> pa.Array:
    """The column as text that holds no separator. Numbers are told by their bits, exactly."""
    if column.type != TEXT:
        return column.view(INTEGER).cast(TEXT)
    data = column.buffers()[2]
    if data is not None and (np.frombuffer(data, np.uint8) < _FIRST_PRINTABLE).any():
        for character, escaped in _ESCAPES:
            column = pc.replace_substring(column, character, escaped)
    return column


def linked_units_json(units: Sequence[tuple[str, str]]) -> str:
    """Linked units, each a type and an id, as they stand in the tables."""
    return json.dumps([{"type": kind, "id": id_} for kind, id_ in units], ensure_ascii=False)
