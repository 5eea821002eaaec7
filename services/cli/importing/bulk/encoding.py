"""Columns of events as the bytes of their messages, and of the requests that carry them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from ptars import HandlerPool, PtarsConfig
from touchstone.events.v1.event_pb2 import Event

from services.cli.importing.bulk.fields import Kind

# What the contract takes in one call, and half of what gRPC takes when nobody says more.
MAX_EVENTS = 5000
MAX_BODY_BYTES = 2 * 1024 * 1024
# Field 1 of LogEventsRequest, with a length before its bytes.
_TAG = 0x0A
_MAX_VARINT = 5
_SEVEN_BITS = 7


class Body(NamedTuple):
    """A serialized LogEventsRequest, and which of the encoded events are in it."""

    data: bytes
    start: int
    stop: int


class EventEncoder:
    """Encodes events of one kind."""

    def __init__(self, kind: Kind) -> None:
        pool = HandlerPool([Event.DESCRIPTOR.file], PtarsConfig(timestamp_unit="us"))
        self._handler = pool.get_for_message(Event.DESCRIPTOR)
        self._payload = kind.payload

    def events(self, columns: Mapping[str, pa.Array]) -> tuple[pa.Array, pa.Array | None]:
        """Each event as bytes, and what is to stand behind them: its properties. The columns are
        of the types of their forms.
        """
        rest = dict(columns)
        properties = rest.pop("properties", None)
        whole = {
            "event_id": rest.pop("event_id"),
            "event_time": rest.pop("event_time"),
            "unit": _struct({"type": rest.pop("unit_type"), "id": rest.pop("unit_id")}),
        }
        for name in ("linked_units", "source"):
            if name in rest:
                whole[name] = rest.pop(name)
        if "other_unit_id" in rest:
            other = {"type": rest.pop("other_unit_type"), "id": rest.pop("other_unit_id")}
            rest["other_unit"] = _struct(other)
        whole[self._payload] = _struct(rest)
        batch = pa.record_batch(list(whole.values()), names=list(whole))
        return self._handler.record_batch_to_array(batch), properties


def bodies(events: pa.Array, behind: pa.Array | None) -> Iterator[Body]:
    """The events as requests: in order, each as full as the limits allow, one event at least."""
    if not len(events):
        return
    parts = [events]
    lengths = np.asarray(pc.binary_length(events), np.int64)
    if behind is not None and behind.null_count < len(behind):
        parts.append(behind.fill_null(b""))
        lengths = lengths + np.asarray(pc.binary_length(parts[1]), np.int64)
    framed = pc.binary_join_element_wise(_frames(lengths), *parts, b"")
    ends = np.frombuffer(framed.buffers()[1], np.int32)[: len(framed) + 1].astype(np.int64)
    data = memoryview(framed.buffers()[2])
    start = 0
    while start < len(framed):
        stop = int(np.searchsorted(ends, ends[start] + MAX_BODY_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), start + MAX_EVENTS, len(framed))
        yield Body(bytes(data[ends[start] : ends[stop]]), start, stop)
        start = stop


def _struct(columns: Mapping[str, pa.Array]) -> pa.Array:
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def _frames(lengths: NDArray[np.int64]) -> pa.Array:
    """What stands before each event in a request: the tag of the field, and its length."""
    shifts = np.arange(_MAX_VARINT) * _SEVEN_BITS
    groups = lengths[:, None] >> shifts
    later = np.zeros(groups.shape, bool)
    later[:, :-1] = groups[:, 1:] > 0
    frames = np.empty((len(lengths), 1 + _MAX_VARINT), np.uint8)
    frames[:, 0] = _TAG
    frames[:, 1:] = (groups & 0x7F) | (later * 0x80)
    sizes = 2 + later.sum(axis=1)
    used = np.arange(frames.shape[1]) < sizes[:, None]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(frames[used].tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)
