"""Unit ids as one run of bytes, in the order of their lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = Any
"""An Arrow string array (also in chunks), a numpy array of bytes or text, a sequence of text, or
an IdColumn.

None, or a null, is a unit without an id.
"""
Rows = NDArray[np.intp]
Words = NDArray[np.uint32]
_BYTES = 1 << 16
"""Bytes at a time: they stay in the processor's cache."""
_WITHIN = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)
"""What is an id's own of a word, by how many of its bytes are."""


@dataclass(frozen=True, slots=True)
class IdColumn:
    """The UTF-8 bytes of ids: id i is `data[starts[i]:starts[i] + sizes[i]]`.

    A size of -1 is a missing id.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    gaps: int = 0
    """How many bytes are in no id because each fills up its place with zeros."""
    plain: bool = False
    """Whether every id is known to be printable ASCII without `%`: a key writes it as it is."""

    def __len__(self) -> int:
        """How many units there are."""
        return len(self.starts)

    def text(self, row: int) -> str | None:
        """One id as text, None when it is missing; ValueError when it is no UTF-8."""
        start, size = int(self.starts[row]), int(self.sizes[row])
        return None if size < 0 else self.data[start : start + size].tobytes().decode()

    def last_start(self, size: int) -> int:
        """The last place from which whole words can be read for an id of `size` bytes."""
        return len(self.data) - 4 * -(-size // 4)

    def words(self, starts: NDArray[np.int64], size: int, sizes: Words | None = None) -> Words:
        """The ids that start there as `words[j, i]`: word j of id i, up to `size` bytes of each.

        What is behind the end of an id is zero. `sizes` are those of the ids, if they differ; none
        is more than `size`. No start may lie behind `last_start(size)`.
        """
        many, spare = -(-size // 4), -size % 4
        width = 4 * many
        # An item at every byte, of which those that start an id are copied out.
        items: NDArray[Any] = np.ndarray(
            (len(self.data) - width + 1,), f"V{width}", self.data, strides=(1,)
        )
        rows = items[starts].view("<u4").reshape(len(starts), many)
        words = np.ascontiguousarray(rows.T, dtype=np.uint32)
        if sizes is not None:
            own = sizes.astype(np.int64)
            for index in range(int(own.min()) // 4, many):
                left = np.subtract(own, 4 * index)
                np.maximum(np.minimum(left, 4, out=left), 0, out=left)
                words[index] &= _WITHIN[left]
        elif spare:
            words[-1] &= np.uint32(0xFFFFFFFF >> 8 * spare)
        return words

    def written_otherwise(self) -> Rows:
        """The rows whose ids hold bytes that a key writes in another way; see the key rule."""
        zeros, found = 0, []
        if self.plain:
            return np.empty(0, np.intp)
        for first in range(0, len(self.data), _BYTES):
            data = self.data[first : first + _BYTES]
            # Below 0x20 the difference wraps around to more than any printable byte.
            other = (data - np.uint8(0x20)) > np.uint8(0x7E - 0x20)
            other |= data == np.uint8(ord("%"))
            if other.any():
                places = np.flatnonzero(other)
                empty = data[places] == 0
                zeros += int(np.count_nonzero(empty))
                # Every zero is between ids, or else some are in them.
                found.append(first + (places[~empty] if self.gaps else places))
        if not found:
            return np.empty(0, np.intp)
        if self.gaps and zeros != self.gaps:
            found.append(np.flatnonzero(self.data == 0))
        return self._rows_at(np.concatenate(found))

    def _rows_at(self, places: Rows) -> Rows:
        """The rows whose ids hold the bytes at these places; some bytes are in no id."""
        order = np.argsort(self.starts, kind="stable")
        rows = order[np.searchsorted(self.starts[order], places, side="right") - 1]
        return np.unique(rows[places < self.starts[rows] + self.sizes[rows]])

    def by_size(self, span: int, few: int) -> Iterator[tuple[int, int, Rows | slice]]:
        """The rows of ids by their sizes, from the first to the second; not missing and empty ones.

        Neighbouring sizes are together while they differ by at most `span` and are of no more than
        `few` ids.
        """
        sizes = self.sizes
        if not len(sizes):
            return
        low, high = int(sizes.min()), int(sizes.max())
        if low > 0 and (low == high or (high - low <= span and len(sizes) <= few)):
            yield low, high, slice(0, len(sizes))
            return
        narrow = sizes.astype(np.uint16) if high < 0xFFFF and low >= 0 else sizes
        # Of 16 bits numpy sorts by radix, in one pass over the ids.
        order = np.argsort(narrow, kind="stable")
        ordered = sizes[order]
        edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(order)]
        runs = [(int(ordered[first]), first, end) for first, end in pairwise(edges)]
        for low, high, first, end in _joined([run for run in runs if run[0] > 0], span, few):
            yield low, high, order[first:end]


def _joined(
    runs: Sequence[tuple[int, int, int]], span: int, few: int
) -> Iterator[tuple[int, int, int, int]]:
    """The smallest and the largest size of neighbouring runs, and where they start and end."""
    joined: tuple[int, int, int, int] | None = None
    for size, first, end in runs:
        if joined and size - joined[0] <= span and end - joined[2] <= few:
            joined = joined[0], size, joined[2], end
            continue
        if joined:
            yield joined
        joined = size, size, first, end
    if joined:
        yield joined


def column_of(ids: Ids) -> list[IdColumn]:
    """The ids as columns, one for each chunk of an Arrow array; TypeError for what holds none."""
    if isinstance(ids, IdColumn):
        return [ids]
    if hasattr(ids, "iterchunks"):
        return [found for chunk in ids.iterchunks() for found in column_of(chunk)]
    if hasattr(ids, "buffers"):
        return [_of_arrow(ids)]
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1 or ids.dtype.kind not in "SUO":
            raise TypeError(f"ids are an array of {ids.dtype}; give one column of bytes or text")
        return [_of_bytes(ids) if ids.dtype.kind == "S" else _of_texts(ids.tolist())]
    return [_of_texts(ids)]


def _of_arrow(ids: Any) -> IdColumn:
    width = {"string": np.int32, "large_string": np.int64}.get(str(ids.type))
    if width is None:
        return _of_texts(ids.to_pylist())
    _, offsets, data = ids.buffers()
    first, many = ids.offset, len(ids)
    if not many:
        return _of_texts([])
    edges = np.frombuffer(offsets, width)[first : first + many + 1].astype(np.int64)
    low, sizes = int(edges[0]), np.diff(edges)
    written = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    if ids.null_count:
        sizes[ids.is_null().to_numpy(zero_copy_only=False)] = -1
    return IdColumn(written[low : int(edges[-1])], edges[:-1] - low, sizes)


def _of_bytes(ids: NDArray[Any]) -> IdColumn:
    width = ids.dtype.itemsize
    if not width or not len(ids):
        return _of_texts([""] * len(ids))
    starts = np.arange(len(ids), dtype=np.int64) * width
    sizes = np.char.str_len(ids).astype(np.int64)
    written = np.ascontiguousarray(ids).view(np.uint8)
    return IdColumn(written, starts, sizes, len(written) - int(sizes.sum()))


def _of_texts(ids: Sequence[str | None]) -> IdColumn:
    try:
        joined = "".join(ids)  # type: ignore[arg-type]  # the common case has no None
        lengths: Any = map(len, ids)  # type: ignore[arg-type]
        ascii_only = joined.isascii()
    except TypeError:
        ascii_only = False
    if ascii_only:
        written = joined.encode()
    else:
        parts = [b"" if unit is None else _utf8(unit) for unit in ids]
        written, lengths = b"".join(parts), map(len, parts)
    sizes = np.fromiter(lengths, np.int64, len(ids))
    ends = np.cumsum(sizes)
    if not ascii_only:
        sizes[[unit is None for unit in ids]] = -1
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    return IdColumn(np.frombuffer(written, np.uint8), starts, sizes)


def _utf8(unit: str) -> bytes:
    try:
        return unit.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the unit id {unit!r} holds an unpaired surrogate; send valid Unicode text"
        ) from error
