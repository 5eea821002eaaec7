"""Columns as text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Places = NDArray[np.int64]
_NOWHERE: Places = np.empty(0, np.int64)


def as_text(column: pa.Array) -> tuple[pa.Array, Places]:
    """The column as strings, null where it is no UTF-8, and the places where it is none.

    Raises TypeError for a column that is neither text nor whole numbers: a fraction or a flag does
    not say which of its spellings is meant.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_text(column.dictionary_decode())
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string()), _NOWHERE
    if pa.types.is_string(kind):
        return column, _NOWHERE
    if _is_bytes(kind):
        return _decoded(column)
    if isinstance(kind, pa.UuidType):
        found = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.array(found, pa.string()), _NOWHERE
    if is_text(kind) or pa.types.is_integer(kind) or _is_whole(kind):
        return column.cast(pa.string()), _NOWHERE
    raise TypeError(f"is of the type {kind}; allowed: text or whole numbers")


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text, or bytes that may be text."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
        or _is_bytes(kind)
    )


def empty(texts: pa.Array) -> pa.Array:
    """Where a column of text holds nothing."""
    return pc.equal(pc.binary_length(texts), 0).fill_null(True)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) and kind.scale == 0)


def _decoded(column: pa.Array) -> tuple[pa.Array, Places]:
    try:
        return column.cast(pa.string()), _NOWHERE
    except pa.ArrowInvalid:
        # Rare, and then some rows only: one by one.
        found, wrong = [], []
        for place, value in enumerate(column.to_pylist()):
            try:
                found.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                found.append(None)
                wrong.append(place)
        return pa.array(found, pa.string()), np.array(wrong, np.int64)
