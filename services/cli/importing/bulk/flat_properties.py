"""Properties that are flat JSON objects, encoded by columns."""

from __future__ import annotations

import functools

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from ptars import HandlerPool, PtarsConfig
from touchstone.events.v1.event_pb2 import Event

_PARTS = "SELECT json_keys(line) AS keys, json_extract(line, '$.*') AS cells FROM lines"
Flags = NDArray[np.bool_]


@functools.cache
def flat_properties() -> FlatProperties:
    """The one of this process: what it needs takes longer to open than a chunk to encode."""
    return FlatProperties()


class FlatProperties:
    """Encodes objects of text, numbers, true, false and null, many at a time."""

    def __init__(self) -> None:
        self._duckdb = duckdb.connect(config={"threads": 1})
        pool = HandlerPool([Event.DESCRIPTOR.file], PtarsConfig(timestamp_unit="us"))
        self._handler = pool.get_for_message(Event.DESCRIPTOR)
        kind = self._handler.schema().field("properties").type.field("fields").type.item_type
        self._parts = list(kind)

    def encoded(self, texts: pa.Array) -> pa.Array:
        """Each object as the field of an event; null for one that is not flat, or no JSON."""
        starts = pc.starts_with(texts, "{").fill_null(False)
        nothing = pa.nulls(len(texts), pa.binary())
        if not pc.any(starts).as_py():
            return nothing
        objects = texts.filter(starts)
        self._duckdb.register("lines", pa.table({"line": objects}))
        try:
            found = self._duckdb.sql(_PARTS).to_arrow_table().combine_chunks()
        except duckdb.Error:
            return nothing
        keys, cells = found["keys"].combine_chunks(), found["cells"].combine_chunks()
        values, plain = self._values(cells.flatten())
        fields = pa.MapArray.from_arrays(keys.offsets, keys.flatten(), values)
        properties = pa.StructArray.from_arrays([fields], names=["fields"])
        batch = pa.record_batch([properties], names=["properties"])
        events = self._handler.record_batch_to_array(batch)
        flat = pa.array(_all_of_rows(plain, np.asarray(keys.offsets)))
        return pc.replace_with_mask(nothing, starts, pc.if_else(flat, events, None))

    def _values(self, cells: pa.Array) -> tuple[pa.Array, Flags]:
        """Values of JSON as those of the contract, and which of them are read."""
        is_null = np.asarray(pc.equal(cells, "null"))
        is_true, is_false = (np.asarray(pc.equal(cells, word)) for word in ("true", "false"))
        is_flag = is_true | is_false
        # Between its quotes a text stands as it is, unless a letter of it is escaped.
        quoted = pc.starts_with(cells, '"')
        is_text = np.asarray(pc.and_(quoted, pc.invert(pc.match_substring(cells, "\\"))))
        texts = pc.binary_slice(cells.cast(pa.binary()), 1, -1).cast(pa.string())
        is_number = np.asarray(pc.match_substring_regex(cells, "^-?[0-9]"))
        numbers = pc.if_else(pa.array(is_number), cells, None).cast(pa.float64())
        is_number &= np.asarray(pc.is_finite(numbers).fill_null(False))
        count = len(cells)
        columns = {
            "null_value": pa.array(np.zeros(count, np.int32), mask=~is_null),
            "number_value": pc.if_else(pa.array(is_number), numbers, None),
            "string_value": pc.if_else(pa.array(is_text), texts, None),
            "bool_value": pa.array(is_true, mask=~is_flag),
        }
        values = [
            columns[part.name] if part.name in columns else pa.nulls(count, part.type)
            for part in self._parts
        ]
        plain = is_null | is_flag | is_text | is_number
        return pa.StructArray.from_arrays(values, fields=self._parts), plain


def _all_of_rows(flags: Flags, offsets: NDArray[np.int32]) -> Flags:
    """Whether all flags of each row are set; those of a row lie between two offsets."""
    missing = np.concatenate([[0], np.cumsum(~flags)])
    rows: Flags = missing[offsets[1:]] == missing[offsets[:-1]]
    return rows
