"""A request of events, judged by the contract and turned into columns.

Almost every event of a large request keeps every rule in the plainest way; those are judged and
converted together. Whatever is not certain to be one of them is judged and converted by itself,
as are the events of a small request: `rows` is the reference, and `columns` must agree with it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from services.events.batch import (
    SCHEMAS,
    ColumnPortion,
    Flags,
    Integers,
    Portion,
    linked_units_json,
    portions_of,
)
from services.events.domain.event import Event
from services.events.domain.limits import MICROSECONDS, Limits
from services.events.domain.rejection import Rejection
from services.events.wire.rows import (
    FIRST_SECOND,
    KINDS,
    LAST_SECOND,
    decode_event,
    invalid,
    properties_json,
)
from services.events.wire.rules import Check, checks_of, text_lengths
from services.events.wire.shape import EventShape
from shared.errors import FieldViolation
from shared.lake.layout import INSTANT, TEXT

FirstViolation = Callable[[event_pb2.Event], FieldViolation | None]
Places = npt.NDArray[np.intp]

FEW = 24
"""Up to so many events are faster one by one."""
_MAX_LINKED = 16
_LONGEST_UNIT = 512
"""Bytes of a unit that keeps its rules, with room to spare: what is longer is not remembered."""
_NANOS_PER_SECOND = 1_000_000_000
_REMEMBERED = 16_384


@dataclass(frozen=True, slots=True)
class Decoded:
    """The events of a request that keep the contract, and what is wrong with the others."""

    portions: list[Portion]
    rejected: dict[int, Rejection]
    undecided: Sequence[int] = ()
    """The places that were not judged yet."""

    def with_others(self, others: "Decoded") -> "Decoded":
        """Together with those that were undecided."""
        return Decoded([*self.portions, *others.portions], self.rejected | others.rejected)


class EventDecoder:
    """Decodes requests; `first_violation` holds one event against the contract."""

    def __init__(self, limits: Limits, first_violation: FirstViolation) -> None:
        self._limits = limits
        self._first_violation = first_violation
        self._shape = EventShape()
        event = event_pb2.Event.DESCRIPTOR
        self._common = checks_of(event)
        self._unit = checks_of(unit_pb2.UnitId.DESCRIPTOR)
        self._own = {kind: checks_of(_message(event.fields_by_name[kind])) for kind in KINDS}
        self._linked = lru_cache(_REMEMBERED)(self._linked_unit)

    def decode(self, request: events_service_pb2.LogEventsRequest) -> Decoded:
        """The events of a request, each judged by itself."""
        certain = self.by_columns(request)
        return certain.with_others(self.one_by_one(request.events, certain.undecided))

    def by_columns(self, request: events_service_pb2.LogEventsRequest) -> Decoded:
        """The events that keep every rule for certain; the places of the others are undecided."""
        count = len(request.events)
        if count <= FEW:
            return Decoded([], {}, range(count))
        events = _Columns(self._shape.columns(request.SerializeToString()))
        certain = self._certain(events)
        linked, properties = self._linked_units(events, certain), self._properties(events, certain)
        portions: list[Portion] = []
        for kind in KINDS:
            places = np.flatnonzero(certain & events.valid(kind))
            if len(places):
                portion, kept = self._portion(kind, events, places, (linked, properties))
                certain[places[~kept]] = False
                portions.append(portion)
        undecided = np.flatnonzero(~certain).tolist()
        return Decoded([portion for portion in portions if len(portion)], {}, undecided)

    def _certain(self, events: "_Columns") -> Flags:
        """The events whose common fields keep every rule."""
        kinds = sum(events.valid(kind).astype(np.int8) for kind in KINDS)
        certain: Flags = (kinds == 1) & events.valid("event_time") & events.valid("unit")
        for name, check in self._common.items():
            certain &= check(events.leaf(name))
        for name, check in self._unit.items():
            certain &= check(events.leaf("unit", name))
        seconds = events.number("event_time", "seconds")
        nanos = events.number("event_time", "nanos")
        certain &= (seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND)
        certain &= (nanos >= 0) & (nanos < _NANOS_PER_SECOND)
        return certain

    def _linked_units(self, events: "_Columns", certain: Flags) -> pa.Array:
        lists = events.leaf("linked_units")
        texts: list[str | None] = [None] * len(lists)
        if len(lists.values):
            many = np.diff(lists.offsets.to_numpy())
            certain &= many <= _MAX_LINKED
            for place in np.flatnonzero(certain & (many > 0)):
                encoded = lists[int(place)].as_py()
                units = [self._linked(u) if len(u) <= _LONGEST_UNIT else None for u in encoded]
                if None in units:
                    certain[place] = False
                else:
                    texts[place] = linked_units_json([unit for unit in units if unit])
        return pa.array(texts, TEXT)

    def _linked_unit(self, encoded: bytes) -> tuple[str, str] | None:
        """The unit's type and id; None where it breaks a rule."""
        unit = unit_pb2.UnitId.FromString(encoded)
        kept = all(
            check(pa.array([getattr(unit, name)], TEXT)).all() for name, check in self._unit.items()
        )
        return (unit.type, unit.id) if kept else None

    def _properties(self, events: "_Columns", certain: Flags) -> pa.Array:
        encoded = events.leaf("properties")
        texts: list[str | None] = [None] * len(encoded)
        sizes = text_lengths(encoded)
        certain &= sizes <= self._limits.properties_bytes
        for place in np.flatnonzero(certain & (sizes > 0)):
            try:
                texts[place] = properties_json(encoded[int(place)].as_py())
            except (ValueError, DecodeError, RecursionError):
                certain[place] = False
        return pa.array(texts, TEXT)

    def _portion(
        self, kind: str, events: "_Columns", places: Places, made: tuple[pa.Array, pa.Array]
    ) -> tuple[Portion, Flags]:
        """The events at these places that keep the rules of their kind, and which those are."""
        table = KINDS[kind].table
        at = None if len(places) == events.count else pa.array(places)
        own = [_taken(events.leaf(kind, *path), at) for path in KINDS[kind].leaves]
        kept = np.ones(len(places), bool)
        for path, column in zip(KINDS[kind].leaves, own, strict=True):
            check = self._check(kind, path)
            if check is not None:
                kept &= check(column)
        if kind == "identify":
            kept &= events.valid("identify", "other_unit")[places]
            own[-1] = _actions(own[-1])
        common = (
            _taken(events.leaf("event_id"), at),
            _instants(events, places),
            _taken(events.leaf("unit", "type"), at),
            _taken(events.leaf("unit", "id"), at),
            _taken(made[0], at),
            _taken(events.leaf("source"), at),
            _taken(made[1], at),
        )
        optional = SCHEMAS[table].names
        columns = tuple(
            _null_for_empty(column) if name in KINDS[kind].null_for_empty else column
            for name, column in zip(optional, (*common, *own), strict=True)
        )
        portion = ColumnPortion(table, columns, places.astype(np.int64))
        return portion.where(kept), kept

    def _check(self, kind: str, path: tuple[str, ...]) -> Check | None:
        return self._own[kind].get(path[0]) if len(path) == 1 else self._unit.get(path[-1])

    def one_by_one(self, events: Sequence[event_pb2.Event], places: Iterable[int]) -> Decoded:
        """The events at these places."""
        good: list[tuple[int, Event]] = []
        rejected: dict[int, Rejection] = {}
        for place in places:
            event = events[place]
            wrong = self._first_violation(event)
            parsed = (
                invalid(event, wrong.field, wrong.description)
                if wrong
                else decode_event(event, self._limits)
            )
            if isinstance(parsed, Rejection):
                rejected[place] = parsed
            else:
                good.append((place, parsed))
        return Decoded(portions_of(good), rejected)


class _Columns:
    """The fields of all events of a request by their path."""

    def __init__(self, events: pa.StructArray) -> None:
        self.count = len(events)
        self._fields: dict[tuple[str, ...], pa.Array] = {(): events}

    def leaf(self, *path: str) -> pa.Array:
        """A field of every event; of an absent message it is the default."""
        if path not in self._fields:
            self._fields[path] = self.leaf(*path[:-1]).field(path[-1])
        return self._fields[path]

    def number(self, *path: str) -> Integers:
        """A number of every event."""
        numbers: Integers = self.leaf(*path).to_numpy(zero_copy_only=False)
        return numbers

    def valid(self, *path: str) -> Flags:
        """Which events have this message."""
        flags: Flags = self.leaf(*path).is_valid().to_numpy(zero_copy_only=False)
        return flags


def _message(field: FieldDescriptor) -> Descriptor:
    if field.message_type is None:
        raise TypeError(f"{field.full_name} is no message")
    return field.message_type


def _taken(column: pa.Array, at: pa.Array | None) -> pa.Array:
    return column if at is None else column.take(at)


def _instants(events: _Columns, places: Places) -> pa.Array:
    seconds = events.number("event_time", "seconds")[places]
    nanos = events.number("event_time", "nanos")[places]
    return pa.array(seconds * MICROSECONDS + nanos // 1000, pa.int64()).view(INSTANT)


def _null_for_empty(column: pa.Array) -> pa.Array:
    """What is empty, or the number 0 that stands for not known, is null."""
    if column.type == TEXT:
        empty = text_lengths(column) == 0
    else:
        empty = column.to_numpy(zero_copy_only=False) == 0
    if not empty.any():
        return column
    if empty.all():
        return pa.nulls(len(column), column.type)
    return pc.if_else(pa.array(empty), pa.scalar(None, column.type), column)


def _actions(numbers: pa.Array) -> pa.Array:
    unlink = numbers.to_numpy() == event_pb2.IDENTIFY_ACTION_UNLINK
    return pa.array(np.where(unlink, "unlink", ""), TEXT)
