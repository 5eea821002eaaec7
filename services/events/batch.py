"""Events of one kind, as they travel from a request to the tables: by columns, or few by rows."""

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import mmh3
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from services.events.domain.event import DIGEST_VERSION, DIGEST_VERSION_BITS, Event, Value
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
_BITS, _DOUBLE = struct.Struct("<q"), struct.Struct("<d")
_ROW_BYTES = 1024
"""About what an event takes as Python objects, besides its texts."""
DAY_US = 86_400_000_000
_NO_PLACES = np.empty(0, np.int64)


class Portion(Protocol):
    """Events of one kind. `places` are the events' positions in their request."""

    @property
    def table(self) -> str:
        """The name of the table that they go to."""

    @property
    def places(self) -> Integers:
        """The positions of the events in their request."""

    @property
    def columns(self) -> tuple[pa.Array, ...]:
        """Their values by the columns of SCHEMAS[table]."""

    @property
    def ids(self) -> list[str]:
        """The event ids."""

    @property
    def times_us(self) -> Integers:
        """The event times in microseconds since 1970 UTC."""

    @property
    def size_bytes(self) -> int:
        """About what they take."""

    def __len__(self) -> int:
        """How many there are."""

    def where(self, kept: Flags) -> "Portion":
        """The events that are flagged."""

    def fingerprints(self, prefix: bytes) -> list[bytes]:
        """For each event 128 bits that stand for its id within its project.

        `prefix` is `fingerprint_prefix` of the project. md5, which every engine computes alike.
        """

    def digests(self) -> Integers:
        """For each event 64 bits that stand for everything the sender said but the id.

        Equal in a retry of the same event. The lowest 4 bits are DIGEST_VERSION; the others are the
        lowest 60 of MurmurHash3 x64 128 over the kind and the fields in the order of the columns: a
        column that is added at the end and absent changes nothing.
        """


@dataclass(frozen=True, slots=True)
class ColumnPortion:
    """See Portion."""

    table: str
    columns: tuple[pa.Array, ...]
    places: Integers

    @property
    def ids(self) -> list[str]:
        """See Portion."""
        ids: list[str] = self.columns[EVENT_ID].to_pylist()
        return ids

    @property
    def times_us(self) -> Integers:
        """See Portion."""
        times: Integers = self.columns[EVENT_TIME].view(INTEGER).to_numpy()
        return times

    @property
    def size_bytes(self) -> int:
        """See Portion."""
        return sum(column.nbytes for column in self.columns)

    def __len__(self) -> int:
        return len(self.places)

    def where(self, kept: Flags) -> "ColumnPortion":
        """See Portion."""
        if kept.all():
            return self
        mask = pa.array(kept)
        columns = tuple(column.filter(mask) for column in self.columns)
        return replace(self, columns=columns, places=self.places[kept])

    def fingerprints(self, prefix: bytes) -> list[bytes]:
        """See Portion."""
        md5 = hashlib.md5
        ids = self.columns[EVENT_ID].cast(pa.binary()).to_pylist()
        return [md5(prefix + name, usedforsecurity=False).digest() for name in ids]

    def digests(self) -> Integers:
        """See Portion."""
        fields = [_digestible(column) for column in self.columns[EVENT_TIME:]]
        text = pc.binary_join_element_wise(
            pa.scalar(self.table),
            *fields,
            _SEPARATOR,
            null_handling="replace",
            null_replacement=_ABSENT,
        )
        text = pc.ascii_rtrim(text, characters=_SEPARATOR + _ABSENT)
        return _hashed(text.cast(pa.binary()).to_pylist())


@dataclass(frozen=True, slots=True)
class RowPortion:
    """See Portion. For few events: columns cost more to begin with than rows do each."""

    table: str
    events: tuple[Event, ...]
    places: Integers

    @property
    def columns(self) -> tuple[pa.Array, ...]:
        """See Portion."""
        values = zip(*((*event[:7], *event.payload) for event in self.events), strict=True)
        fields = SCHEMAS[self.table]
        return tuple(pa.array(list(v), f.type) for v, f in zip(values, fields, strict=True))

    @property
    def ids(self) -> list[str]:
        """See Portion."""
        return [event.event_id for event in self.events]

    @property
    def times_us(self) -> Integers:
        """See Portion."""
        return np.array([event.time_us for event in self.events], np.int64)

    @property
    def size_bytes(self) -> int:
        """See Portion."""
        texts = (v for e in self.events for v in (*e, *e.payload) if isinstance(v, str))
        return _ROW_BYTES * len(self.events) + sum(map(len, texts))

    def __len__(self) -> int:
        return len(self.events)

    def where(self, kept: Flags) -> "RowPortion":
        """See Portion."""
        if kept.all():
            return self
        events = tuple(event for event, keep in zip(self.events, kept, strict=True) if keep)
        return replace(self, events=events, places=self.places[kept])

    def fingerprints(self, prefix: bytes) -> list[bytes]:
        """See Portion."""
        md5 = hashlib.md5
        ids = [event.event_id.encode() for event in self.events]
        return [md5(prefix + name, usedforsecurity=False).digest() for name in ids]

    def digests(self) -> Integers:
        """See Portion."""
        return _hashed([_text(event) for event in self.events])


def joined(portions: Sequence[Portion]) -> tuple[pa.Array, ...]:
    """The columns of portions of one kind, one portion after another."""
    parts: list[tuple[pa.Array, ...]] = []
    for by_rows, group in groupby(portions, lambda portion: isinstance(portion, RowPortion)):
        if by_rows:
            events = tuple(
                e for portion in group if isinstance(portion, RowPortion) for e in portion.events
            )
            parts.append(RowPortion(portions[0].table, events, _NO_PLACES).columns)
        else:
            parts += [portion.columns for portion in group]
    if len(parts) == 1:
        return parts[0]
    return tuple(pa.concat_arrays(column) for column in zip(*parts, strict=True))


@dataclass(frozen=True, slots=True)
class Batch:
    """New events of one project that were received together, with the digest of each."""

    project: str
    receive_time_us: int
    parts: tuple[tuple[Portion, Integers], ...]

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory and on the disk."""
        return sum(digests.nbytes + portion.size_bytes for portion, digests in self.parts)

    @property
    def partitions(self) -> set[tuple[str, int]]:
        """The tables that it goes to, each with a day since 1970."""
        return {
            (portion.table, day)
            for portion, _ in self.parts
            for day in set((portion.times_us // DAY_US).tolist())
        }


def portions_of(events: Sequence[tuple[int, Event]]) -> list[Portion]:
    """Events that were parsed one by one, each with its place."""
    by_table: dict[str, list[tuple[int, Event]]] = {}
    for place, event in events:
        by_table.setdefault(event.table, []).append((place, event))
    return [
        RowPortion(
            table,
            tuple(event for _, event in rows),
            np.array([place for place, _ in rows], np.int64),
        )
        for table, rows in by_table.items()
    ]


def _digestible(column: pa.Array) -> pa.Array:
    """The column as text that holds no separator. Numbers are told by their bits, exactly."""
    if column.type != TEXT:
        return column.view(INTEGER).cast(TEXT)
    data = column.buffers()[2]
    if data is not None and (np.frombuffer(data, np.uint8) < _FIRST_PRINTABLE).any():
        for character, escaped in _ESCAPES:
            column = pc.replace_substring(column, character, escaped)
    return column


def _text(event: Event) -> bytes:
    """What `_digestible` columns give for one event."""
    values: tuple[Value, ...] = (
        event.time_us,
        event.unit_type,
        event.unit_id,
        event.linked_units,
        event.source,
        event.properties,
        *event.payload,
    )
    fields = [event.table, *map(_field, values)]
    return _SEPARATOR.join(fields).rstrip(_SEPARATOR + _ABSENT).encode()


def _field(value: Value) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, float):
        return str(_BITS.unpack(_DOUBLE.pack(value))[0])
    if isinstance(value, int):
        return str(value)
    if not value.isprintable():
        for character, escaped in _ESCAPES:
            value = value.replace(character, escaped)
    return value


def _hashed(texts: Sequence[bytes]) -> Integers:
    murmur = mmh3.mmh3_x64_128_digest
    hashes = np.frombuffer(b"".join([murmur(text) for text in texts]), "<u8")[::2]
    shifted = hashes << np.uint64(DIGEST_VERSION_BITS)
    digests: Integers = (shifted | np.uint64(DIGEST_VERSION)).view(np.int64)
    return digests


def linked_units_json(units: Sequence[tuple[str, str]]) -> str:
    """Linked units, each a type and an id, as they stand in the tables."""
    return json.dumps([{"type": kind, "id": id_} for kind, id_ in units], ensure_ascii=False)
