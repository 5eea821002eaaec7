"""MurmurHash3_x86_32 with seed 0 (Appleby, 2011) of many keys that begin alike.

What stands before the ids is the same for all, so its blocks are mixed once. The ids come as rows
of little-endian words, filled up with zeros; where the beginning does not end on a block, their
words are shifted. A word of zeros behind the end of an id changes nothing but by its rotation,
which is why ids of different sizes can be hashed together.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from touchstone_assignment.bucketing import HashVersion
from touchstone_assignment.bucketing.hashes import cbor_text_head

Words = NDArray[np.uint32]

_C1, _C2, _STEP = 0xCC9E2D51, 0x1B873593, 0xE6546B64
_MASK = 0xFFFFFFFF
# As numpy takes them: with few ids, to make them takes as long as to reckon with them.
_FACTOR_1, _FACTOR_2, _FIVE, _ADDED = (np.uint32(number) for number in (_C1, _C2, 5, _STEP))
_MIX_1, _MIX_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_BY = [np.uint32(bits) for bits in range(32)]


def beginning(version: HashVersion, salt: str, size: int) -> bytes:
    """The bytes before an id of `size` bytes in what is hashed."""
    prefix = f"{salt}:".encode("ascii")
    if version is HashVersion.FLAGD_V3:
        return cbor_text_head(len(prefix) + size) + prefix
    return prefix


@dataclass(slots=True)
class Hasher:
    """Hashes chunks of ids under one salt; it owns the memory of its results."""

    _state: int
    _rest: int
    _rest_bytes: int
    _before_bytes: int
    _low: int
    _high: int
    _scratch: tuple[Words, Words, Words, Words]

    @classmethod
    def of(cls, before: bytes, low: int, high: int, most: int) -> "Hasher":
        """For ids of `low` to `high` bytes behind the bytes `before`, at most `most` in a chunk."""
        rest = before[len(before) // 4 * 4 :]
        scratch = [np.empty(most, np.uint32) for _ in range(4)]
        return cls(
            _state=_mixed(before),
            _rest=int.from_bytes(rest, "little"),
            _rest_bytes=len(rest),
            _before_bytes=len(before),
            _low=low,
            _high=high,
            _scratch=(scratch[0], scratch[1], scratch[2], scratch[3]),
        )

    def hash(self, words: Words, sizes: Words | None = None) -> Words:
        """The hashes of ids as `words[j, i]`: word j of id i, filled up with zeros behind its end.

        `sizes` are those of the ids, if they differ. The result is good until the next call.
        """
        many = words.shape[1]
        state, key, spare, turned = (array[:many] for array in self._scratch)
        state.fill(self._state)
        blocks, tail_bytes = divmod(self._rest_bytes + self._high, 4)
        common = (self._rest_bytes + self._low) // 4
        for index in range(blocks):
            self._word(words, index, key, spare)
            _scramble(key, spare)
            np.bitwise_xor(state, key, out=state)
            _rotate(state, 13, turned, spare)
            np.multiply(turned, _FIVE, out=turned)
            np.add(turned, _ADDED, out=turned)
            if index < common or sizes is None:
                state, turned = turned, state
            else:
                # Where the id ended before, this was no block of its.
                whole = sizes >= np.uint32(4 * (index + 1) - self._rest_bytes)
                np.copyto(state, turned, where=whole)
        if tail_bytes:
            self._word(words, blocks, key, spare)
            _scramble(key, spare)
            np.bitwise_xor(state, key, out=state)
        if sizes is None:
            np.bitwise_xor(state, np.uint32(self._before_bytes + self._high), out=state)
        else:
            np.add(sizes, np.uint32(self._before_bytes), out=spare)
            np.bitwise_xor(state, spare, out=state)
        return _finish(state, spare)

    def _word(self, words: Words, index: int, out: Words, spare: Words) -> None:
        """Word `index` of what follows the last whole block of the beginning."""
        shift = 8 * self._rest_bytes
        if not shift:
            out[:] = words[index]
            return
        if index < len(words):
            np.left_shift(words[index], _BY[shift], out=out)
        else:
            out.fill(0)
        if index:
            np.right_shift(words[index - 1], _BY[32 - shift], out=spare)
            np.bitwise_or(out, spare, out=out)
        else:
            np.bitwise_or(out, np.uint32(self._rest), out=out)


def _finish(state: Words, spare: Words) -> Words:
    for bits, factor in ((16, _MIX_1), (13, _MIX_2)):
        np.right_shift(state, _BY[bits], out=spare)
        np.bitwise_xor(state, spare, out=state)
        np.multiply(state, factor, out=state)
    np.right_shift(state, _BY[16], out=spare)
    np.bitwise_xor(state, spare, out=state)
    return state


def _scramble(key: Words, spare: Words) -> None:
    np.multiply(key, _FACTOR_1, out=key)
    np.right_shift(key, _BY[17], out=spare)
    np.left_shift(key, _BY[15], out=key)
    np.bitwise_or(key, spare, out=key)
    np.multiply(key, _FACTOR_2, out=key)


def _rotate(value: Words, by: int, out: Words, spare: Words) -> None:
    np.left_shift(value, _BY[by], out=out)
    np.right_shift(value, _BY[32 - by], out=spare)
    np.bitwise_or(out, spare, out=out)


@lru_cache(4096)
def _mixed(before: bytes) -> int:
    """The state after the whole blocks of these bytes."""
    state = 0
    for start in range(0, len(before) // 4 * 4, 4):
        state = _block(state, int.from_bytes(before[start : start + 4], "little"))
    return state


def _block(state: int, key: int) -> int:
    key = key * _C1 & _MASK
    key = (key << 15 | key >> 17) & _MASK
    state ^= key * _C2 & _MASK
    state = (state << 13 | state >> 19) & _MASK
    return (state * 5 + _STEP) & _MASK
