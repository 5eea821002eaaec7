"""Texts of paths cut into the names of their touches, in passes over bytes.

A block of paths is one text, and a touch a range of its bytes. Touches are told apart eight bytes
at a time: by a hash each gets a slot, one touch of a slot stands for all in it, and those whose
bytes differ from its own are hashed again. So a hash decides what is compared, and never what is
equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.attribution.domain.arrays import Codes, Flags, Integers

Words = NDArray[np.uint64]

PATHS_AT_ONCE = 1 << 13
WORD_BYTES = 8
LONG_BYTES = 96
"""Longer touches are told apart one by one."""
ROUNDS = 6
_MASKS = np.array([(1 << 8 * length) - 1 for length in range(WORD_BYTES + 1)], dtype=np.uint64)
# 2^64 over the golden ratio, made odd (Knuth, The Art of Computer Programming 3, section 6.4).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class SplitPaths:
    """The touches of all paths, one after another.

    `names` are the distinct touches as they are spelt, blanks and all, in the order in which they
    were met; `codes` point into them. `lengths` are touches by path; an empty path has one touch,
    whose name is empty.
    """

    names: tuple[str, ...]
    codes: Codes
    lengths: Integers


def split_paths(paths: Sequence[str], separator: str) -> SplitPaths:
    """Cut each path at every separator, from left to right, as str.split does."""
    known: dict[str, int] = {}
    codes, lengths = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.int64)]
    for first in range(0, len(paths), PATHS_AT_ONCE):
        block = _cut(paths[first : first + PATHS_AT_ONCE], separator)
        stands = block.stands()
        distinct = np.flatnonzero(stands == np.arange(len(stands)))
        code_of = np.zeros(len(stands), dtype=np.int32)
        code_of[distinct] = [
            known.setdefault(block.name(touch), len(known)) for touch in distinct.tolist()
        ]
        codes.append(code_of[stands])
        lengths.append(block.lengths)
    return SplitPaths(tuple(known), np.concatenate(codes), np.concatenate(lengths))


@dataclass(frozen=True, slots=True)
class _Block:
    """Touches as ranges [begins, begins + sizes) of `raw`, the bytes of a text.

    `words` are the eight bytes from each byte on. `lengths` are touches by path.
    """

    raw: bytes
    encoding: str
    begins: Integers
    sizes: Integers
    lengths: Integers
    words: Words

    def name(self, touch: int) -> str:
        """The text of one touch."""
        begin = int(self.begins[touch])
        return self.raw[begin : begin + int(self.sizes[touch])].decode(
            self.encoding, "surrogatepass"
        )

    def stands(self) -> Integers:
        """Return for each touch the one that stands for all touches with its text."""
        parts = self._parts()
        hashes = np.zeros(len(self.begins), dtype=np.uint64)
        for part in parts:
            hashes = _mixed(hashes ^ part)
        stands = np.arange(len(hashes), dtype=np.int64)
        slots = np.empty(1 << (2 * len(hashes)).bit_length(), dtype=np.int64)
        shift = np.uint64(64 - (len(slots).bit_length() - 1))
        left, own = stands.copy(), parts
        for _ in range(ROUNDS):
            slot = (hashes >> shift).astype(np.int64)
            slots[slot] = left
            first = slots[slot]
            same: Flags = self.sizes[left] <= LONG_BYTES
            for mine, part in zip(own, parts, strict=True):
                same &= mine == part[first]
            stands[left[same]] = first[same]
            if same.all():
                return stands
            left, hashes = left[~same], _mixed(hashes[~same])
            own = [mine[~same] for mine in own]
        met: dict[str, int] = {}
        stands[left] = [met.setdefault(self.name(touch), touch) for touch in left.tolist()]
        return stands

    def _parts(self) -> list[Words]:
        """The size of each touch and its bytes, eight at a time."""
        parts: list[Words] = [self.sizes.astype(np.uint64)]
        longest = min(int(self.sizes.max()), LONG_BYTES)
        for skip in range(0, longest, WORD_BYTES):
            word = self.words[np.minimum(self.begins + skip, len(self.words) - 1)]
            parts.append(word & _MASKS[np.clip(self.sizes - skip, 0, WORD_BYTES)])
        return parts


def _mixed(hashes: Words) -> Words:
    mixed: Words = hashes * _SPREAD
    mixed ^= mixed >> _HALF
    return mixed


def _cut(paths: Sequence[str], separator: str) -> _Block:
    mark = separator
    if len(separator) > 1:
        # What ends one path and begins the next is no separator: each is cut by itself.
        mark = _absent(paths)
        paths = [path.replace(separator, mark) for path in paths]
    text = mark.join(paths)
    ascii_ = text.isascii()
    # Characters of one width, so that lengths of texts are lengths in the array.
    encoding, width = ("ascii", 1) if ascii_ else ("utf-32-le", 4)
    raw = text.encode(encoding, "surrogatepass")
    characters = np.frombuffer(raw, dtype=np.uint8 if ascii_ else "<u4")
    marks = np.flatnonzero(characters == ord(mark))
    begins = np.concatenate([[0], marks + 1])
    sizes = np.append(marks, len(characters)) - begins
    ends = np.cumsum(np.fromiter(map(len, paths), dtype=np.int64, count=len(paths)) + 1) - 1
    last = np.append(np.searchsorted(marks, ends[:-1]), len(marks))
    padded = np.frombuffer(raw + bytes(WORD_BYTES), dtype=np.uint8)
    words = np.lib.stride_tricks.as_strided(
        padded[:WORD_BYTES].view("<u8"), (len(raw) + 1,), (1,), writeable=False
    )
    return _Block(raw, encoding, begins * width, sizes * width, np.diff(last, prepend=-1), words)


def _absent(paths: Sequence[str]) -> str:
    """A character that no path has."""
    text = "".join(paths)
    return next(mark for mark in map(chr, range(0x110000)) if mark not in text)
