"""Codes of a column of which most texts are rare, such as the ids of units.

Rows of one text are brought together by a hash: a sort of numbers takes a fraction of the time of a
table of texts. What the hash brought together is then compared byte by byte, so it decides what is
compared, and never what is equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.attribution.domain.arrays import Codes, Flags, Integers

Words = NDArray[np.uint64]

WORD_BYTES = 8
BLOCK = 1 << 13
"""Rows that are worked on at once: their words fit into the nearest cache."""
_STEP = 0x9E3779B97F4A7C15
_FIRST = np.array([(1 << (8 * count)) - 1 for count in range(WORD_BYTES + 1)], dtype=np.uint64)
"""Keeps so many bytes of a word: those that come first in memory."""


def distinct_and_codes(column: pa.ChunkedArray, hash_bits: int = 64) -> tuple[pa.Array, Codes]:
    """The distinct texts of a column without null, ascending by bytes, and the code of each row.

    The hash is cut to its highest bits where fewer are asked for: more rows are compared then, and
    nothing else changes.
    """
    texts = _bytes_of(column)
    order, ends = _by_hash(texts, hash_bits)
    counts = np.diff(ends, prepend=0)
    speakers = order[ends - counts]
    by_bytes = _ascending(texts, speakers)
    speakers = speakers[by_bytes]
    place = np.empty(len(by_bytes), dtype=np.int32)
    place[by_bytes] = np.arange(len(by_bytes), dtype=np.int32)
    codes = np.empty(len(texts), dtype=np.int32)
    codes[order] = np.repeat(place, counts)
    del order
    array = texts.array()
    names = array.take(pa.array(speakers)).cast(pa.string())
    odd = np.flatnonzero(_differing(texts, codes, speakers))
    if len(odd):
        return _with_others(names, codes, odd, array)
    return names, codes


def _with_others(
    names: pa.Array, codes: Codes, odd: Integers, texts: pa.Array
) -> tuple[pa.Array, Codes]:
    """The same with the texts of rows that share their hash with another text.

    No name that is known is one of them: it would have had their hash.
    """
    others = texts.take(pa.array(odd)).cast(pa.string()).dictionary_encode()
    codes[odd] = len(names) + others.indices.to_numpy()
    names = pa.concat_arrays([names, others.dictionary])
    order = pc.sort_indices(names)
    place = np.empty(len(names), dtype=np.int32)
    place[order.to_numpy()] = np.arange(len(names), dtype=np.int32)
    return names.take(order), place[codes]


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Texts one after another: text i begins at offsets[i], and `words` are the eight bytes from
    each byte on.
    """

    offsets: Integers
    data: NDArray[np.uint8]
    words: Words

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def array(self) -> pa.Array:
        """The texts as Arrow has them, without a copy."""
        buffers = [None, pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.large_string(), len(self), buffers)

    def blocks(self) -> Iterator[tuple[slice, Integers, Integers]]:
        """Rows that follow one another, with where their texts begin, and their sizes."""
        for begin in range(0, len(self), BLOCK):
            offsets = self.offsets[begin : begin + BLOCK + 1]
            rows = slice(begin, begin + len(offsets) - 1)
            yield rows, offsets[:-1], np.diff(offsets)

    def word(self, begins: Integers, left: Integers) -> Words:
        """The words from these bytes on, zero behind the bytes that are left of their texts."""
        if int(left.min()) > 0:
            words = self.words[begins]
        else:
            # A text that has ended must not lead behind the end of all.
            words = self.words[np.where(left > 0, begins, 0)]
        words &= _FIRST[np.clip(left, 0, WORD_BYTES)]
        return words


def _bytes_of(column: pa.ChunkedArray) -> _Bytes:
    chunks = [chunk.cast(pa.large_string()) for chunk in column.chunks if len(chunk)]
    bounds = [
        np.frombuffer(chunk.buffers()[1], dtype=np.int64)[chunk.offset :][: len(chunk) + 1]
        for chunk in chunks
    ]
    data = np.zeros(sum(int(each[-1] - each[0]) for each in bounds) + WORD_BYTES, dtype=np.uint8)
    offsets = np.zeros(len(column) + 1, dtype=np.int64)
    row = byte = 0
    for chunk, each in zip(chunks, bounds, strict=True):
        size = int(each[-1] - each[0])
        if size:
            raw = np.frombuffer(chunk.buffers()[2], dtype=np.uint8)
            data[byte : byte + size] = raw[each[0] : each[-1]]
        np.add(each[1:], byte - each[0], out=offsets[row + 1 : row + len(each)])
        row, byte = row + len(chunk), byte + size
    words = np.lib.stride_tricks.as_strided(
        data[:WORD_BYTES].view("<u8"), (byte + 1,), (1,), writeable=False
    )
    return _Bytes(offsets, data, words)


def _by_hash(texts: _Bytes, hash_bits: int) -> tuple[Integers, Integers]:
    """The rows by hash, then as they come, and where in that order each hash ends."""
    row_bits = max(1, (len(texts) - 1).bit_length())
    low = np.uint64((1 << row_bits) - 1)
    kept = ~low & ~np.uint64((1 << (64 - hash_bits)) - 1)
    packed = np.empty(len(texts), dtype=np.uint64)
    for rows, begins, sizes in texts.blocks():
        hashes = sizes.astype(np.uint64)
        for number in range(_words(sizes)):
            skip = number * WORD_BYTES
            hashes += texts.word(begins + skip, sizes - skip) * _odd(number)
        for factor, shift in ((_odd(-1), np.uint64(32)), (_odd(-2), np.uint64(29))):
            hashes ^= hashes >> shift
            hashes *= factor
        hashes &= kept
        hashes |= np.arange(rows.start, rows.stop, dtype=np.uint64)
        packed[rows] = hashes
    packed.sort()
    ends = np.append(np.flatnonzero((packed[1:] ^ packed[:-1]) > low) + 1, len(packed))
    packed &= low
    return packed.view(np.int64), ends


def _words(sizes: Integers) -> int:
    """How many words the longest of these texts takes."""
    return -(-int(sizes.max()) // WORD_BYTES)


def _odd(number: int) -> np.uint64:
    """Another odd factor for each number."""
    return np.uint64(((number + 3) * _STEP | 1) & 0xFFFFFFFFFFFFFFFF)


def _ascending(texts: _Bytes, rows: Integers) -> Integers:
    """The order of rows by the bytes of their texts: word by word, where those before are equal."""
    begins, sizes = texts.offsets[rows], texts.offsets[rows + 1] - texts.offsets[rows]
    order = np.arange(len(rows))
    open_, group = np.arange(len(rows)), np.zeros(len(rows), dtype=np.int64)
    for number in range(_words(sizes) + 1):
        chosen, skip = order[open_], number * WORD_BYTES
        left = sizes[chosen] - skip
        # Behind all bytes, what is shorter comes first: the others go on with zeros.
        last = number == _words(sizes)
        word = sizes[chosen] if last else texts.word(begins[chosen] + skip, left).byteswap()
        sorted_ = np.lexsort((word, group)) if group[-1] else np.argsort(word)
        order[open_], word = chosen[sorted_], word[sorted_]
        same = (word[1:] == word[:-1]) & (group[1:] == group[:-1])
        tied = np.append(same, False) | np.append(False, same)
        if last or not tied.any():
            break
        group = np.cumsum(np.append(True, ~same))[tied] - 1
        open_ = open_[tied]
        group -= group[0]
    return order


def _differing(texts: _Bytes, codes: Codes, speakers: Integers) -> Flags:
    """Which rows have another text than the row that speaks for their code."""
    spoken = texts.offsets[speakers]
    spoken_sizes = (texts.offsets[speakers + 1] - spoken).astype(np.int32)
    first = texts.word(spoken, texts.offsets[speakers + 1] - spoken)
    differing = np.empty(len(texts), dtype=np.bool_)
    for rows, begins, sizes in texts.blocks():
        own = codes[rows]
        differs = (spoken_sizes[own] != sizes) | (first[own] != texts.word(begins, sizes))
        for number in range(1, _words(sizes)):
            skip = number * WORD_BYTES
            # Where it is known already, the other text may have ended.
            left = np.where(differs, 0, sizes - skip)
            differs |= texts.word(begins + skip, left) != texts.word(spoken[own] + skip, left)
        differing[rows] = differs
    return differing
