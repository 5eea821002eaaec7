"""MurmurHash3_x86_32 with seed 0 (Appleby, 2011) of many keys that begin alike and are as long.

What stands before the ids is the same for all, so its blocks are mixed once. The ids come as rows
of little-endian words; where the beginning does not end on a block, their words are shifted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from touchstone_assignment.bucketing import HashVersion
from touchstone_assignment.bucketing.hashes import cbor_text_head

Words = NDArray[np.uint32]

_C1, _C2 = 0xCC9E2D51, 0x1B873593
_MASK = 0xFFFFFFFF


def beginning(version: HashVersion, salt: str, size: int) -> bytes:
    """The bytes before an id of `size` bytes in what is hashed."""
    prefix = f"{salt}:".encode("ascii")
    if version is HashVersion.FLAGD_V3:
        return cbor_text_head(len(prefix) + size) + prefix
    return prefix


@dataclass(slots=True)
class Hasher:
    """Hashes chunks of ids of one size under one salt; it owns the memory of its results."""

    _state: int
    _rest: int
    _rest_bytes: int
    _size: int
    _length: int
    _scratch: tuple[Words, Words, Words, Words]

    @classmethod
    def of(cls, before: bytes, size: int, most: int) -> "Hasher":
        """For ids of `size` bytes behind the bytes `before`, at most `most` in a chunk."""
        state, whole = 0, len(before) // 4 * 4
        for start in range(0, whole, 4):
            state = _block(state, int.from_bytes(before[start : start + 4], "little"))
        rest = before[whole:]
        scratch = [np.empty(most, np.uint32) for _ in range(4)]
        return cls(
            _state=state,
            _rest=int.from_bytes(rest, "little"),
            _rest_bytes=len(rest),
            _size=size,
            _length=len(before) + size,
            _scratch=(scratch[0], scratch[1], scratch[2], scratch[3]),
        )

    def hash(self, words: Words) -> Words:
        """The hashes of ids as `words[j, i]`: word j of id i, its last one filled up with zeros.

        The result is good until the next call.
        """
        many = words.shape[1]
        state, key, spare, turned = (array[:many] for array in self._scratch)
        state.fill(self._state)
        blocks, tail_bytes = divmod(self._rest_bytes + self._size, 4)
        for index in range(blocks):
            self._word(words, index, key, spare)
            _scramble(key, spare)
            np.bitwise_xor(state, key, out=state)
            _rotate(state, 13, turned, spare)
            np.multiply(turned, np.uint32(5), out=state)
            np.add(state, np.uint32(0xE6546B64), out=state)
        if tail_bytes:
            self._word(words, blocks, key, spare)
            _scramble(key, spare)
            np.bitwise_xor(state, key, out=state)
        return self._finish(state, spare)

    def _word(self, words: Words, index: int, out: Words, spare: Words) -> None:
        """Word `index` of what follows the last whole block of the beginning."""
        shift = 8 * self._rest_bytes
        if not shift:
            out[:] = words[index]
            return
        if index < len(words):
            np.left_shift(words[index], np.uint32(shift), out=out)
        else:
            out.fill(0)
        if index:
            np.right_shift(words[index - 1], np.uint32(32 - shift), out=spare)
            np.bitwise_or(out, spare, out=out)
        else:
            np.bitwise_or(out, np.uint32(self._rest), out=out)

    def _finish(self, state: Words, spare: Words) -> Words:
        np.bitwise_xor(state, np.uint32(self._length), out=state)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            np.right_shift(state, np.uint32(shift), out=spare)
            np.bitwise_xor(state, spare, out=state)
            np.multiply(state, np.uint32(factor), out=state)
        np.right_shift(state, np.uint32(16), out=spare)
        np.bitwise_xor(state, spare, out=state)
        return state


def _scramble(key: Words, spare: Words) -> None:
    np.multiply(key, np.uint32(_C1), out=key)
    np.right_shift(key, np.uint32(17), out=spare)
    np.left_shift(key, np.uint32(15), out=key)
    np.bitwise_or(key, spare, out=key)
    np.multiply(key, np.uint32(_C2), out=key)


def _rotate(value: Words, by: int, out: Words, spare: Words) -> None:
    np.left_shift(value, np.uint32(by), out=out)
    np.right_shift(value, np.uint32(32 - by), out=spare)
    np.bitwise_or(out, spare, out=out)


def _block(state: int, key: int) -> int:
    key = key * _C1 & _MASK
    key = (key << 15 | key >> 17) & _MASK
    state ^= key * _C2 & _MASK
    state = (state << 13 | state >> 19) & _MASK
    return (state * 5 + 0xE6546B64) & _MASK
