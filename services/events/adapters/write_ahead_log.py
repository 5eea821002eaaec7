"""Find damage in a write-ahead log that SQLite would pass over in silence.

After a crash SQLite reads its log up to the first frame whose checksum is wrong, and takes that
for the end: a power cut tears the last transaction so. A bit that flips further up looks the same
to it, and takes every commit behind with it.

Source: "Database File Format", section 4, https://www.sqlite.org/fileformat2.html#walformat. A
header of 32 bytes (magic, version, page size, checkpoint number, two salts, two checksums) is
followed by frames of 24 bytes (page number, pages in the file after a commit or 0, the salts of
the header, two checksums) and a page each. A checksum is of everything before it, too.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

_HEADER = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
_SUMMED = 8
"""Of the head of a frame only the page number and the commit mark are in the checksum."""
_MAGIC = 0x377F0682
"""The lowest bit is set when the words of the checksums are big-endian."""
_WORD_BITS = 32
_WORD = (1 << _WORD_BITS) - 1


def damaged_at(log: Path) -> int | None:
    """The byte of the log from which on SQLite would ignore commits that were synced.

    None when nothing is missing but, perhaps, the last transaction, which a power cut may have
    torn before anybody was told of it: at most one commit stands behind the first wrong frame
    then. An end that is cut off cannot be told from that, either. Takes the memory of a frame.
    OSError when the log cannot be read.
    """
    with log.open("rb") as file:
        content = file.read(_HEADER.size)
        if len(content) < _HEADER.size:
            return None
        header = _Header(*_HEADER.unpack(content))
        if not header.is_right(content):
            # A header is synced before a frame is written: no power cut tears it.
            return 0 if file.read(_FRAME.size) else None
        at, its_commits = _first_wrong(file, header)
        commits = its_commits + _commits(file, header)
        return at if commits > 1 else None


@dataclass(frozen=True, slots=True)
class _Header:
    magic: int
    version: int
    page_bytes: int
    checkpoint: int
    salt_1: int
    salt_2: int
    sum_1: int
    sum_2: int

    def is_right(self, content: bytes) -> bool:
        """Whether it is a header, and as it was written."""
        summed = content[: _HEADER.size - _SUMMED]
        return self.magic & ~1 == _MAGIC and self.checksum(summed, (0, 0)) == self.sums

    @property
    def sums(self) -> tuple[int, int]:
        return self.sum_1, self.sum_2

    @property
    def salts(self) -> tuple[int, int]:
        return self.salt_1, self.salt_2

    @property
    def frame_bytes(self) -> int:
        return _FRAME.size + self.page_bytes

    def checksum(self, content: bytes, before: tuple[int, int]) -> tuple[int, int]:
        """Each word in turn is added to the sum of the two sums before it.

        That is Fibonacci's recurrence with something added in each step, so that a word counts as
        often in the end as the Fibonacci number of its distance from it, modulo 2 to the 32.
        """
        start = np.array([before[0], (before[1] - before[0]) & _WORD], np.uint32)
        words = np.frombuffer(content, ">u4" if self.magic & 1 else "<u4")
        added = np.concatenate([start, words.astype(np.uint32)])
        times = _fibonacci(len(added))
        return int(np.dot(added, times[1:])), int(np.dot(added, times[:-1]))


@lru_cache(maxsize=2)
def _fibonacci(words: int) -> npt.NDArray[np.uint32]:
    """The Fibonacci numbers from that of `words` down to 0, modulo 2 to the 32."""
    numbers = [0, 1]
    while len(numbers) <= words:
        numbers.append((numbers[-1] + numbers[-2]) & _WORD)
    return np.array(numbers[::-1], np.uint32)


def _first_wrong(file: BinaryIO, header: _Header) -> tuple[int, int]:
    """Where the first wrong frame begins, and 1 when it is a commit. The file stands behind it."""
    sums = header.sums
    at = _HEADER.size
    while len(frame := file.read(header.frame_bytes)) == header.frame_bytes:
        _, pages, *salts, sum_1, sum_2 = _FRAME.unpack_from(frame)
        summed = header.checksum(frame[:_SUMMED] + frame[_FRAME.size :], sums)
        follows = summed == (sum_1, sum_2)
        salted = tuple(salts) == header.salts
        if not (follows and salted):
            marked = pages > 0 or _was_commit(header, frame, sums)
            return at, int((follows or salted) and marked)
        sums = summed
        at += header.frame_bytes
    return at, 0


def _was_commit(header: _Header, frame: bytes, before: tuple[int, int]) -> bool:
    """Whether the one bit of its commit mark was lost."""
    page_number, _, _, _, *sums = _FRAME.unpack_from(frame)
    page = frame[_FRAME.size :]
    return any(
        header.checksum(struct.pack(">II", page_number, 1 << bit) + page, before) == tuple(sums)
        for bit in range(_WORD_BITS)
    )


def _commits(file: BinaryIO, header: _Header) -> int:
    """How many of the frames from here on are commits of this log, whatever their checksums."""
    commits = 0
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        _, pages, *salts, _, _ = _FRAME.unpack(head)
        commits += pages > 0 and tuple(salts) == header.salts
        file.seek(header.page_bytes, 1)
    return commits
