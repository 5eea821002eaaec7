"""Batches on disk while the service is away. For POSIX systems: it locks with flock.

A folder has slots, one a process; the slot of a process that has ended is taken over by another.
A slot holds segments, each written once and read once:

    segment = MAGIC, record, record, ...
    record  = length of the body (4 bytes, little-endian), number of events (4), CRC-32 of these
              and the body (4), body

A batch counts as spooled after fdatasync of its segment, and fsync of the folder when the segment
is new. A crash may leave the end of a segment unreadable: those batches were never spooled.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from touchstone_events.buffer import Batch

MAGIC = b"TSPOOL1\n"
_COUNTS = struct.Struct("<II")
_CRC = struct.Struct("<I")
HEADER_BYTES = _COUNTS.size + _CRC.size
SLOTS = 256
_SUFFIX = ".segment"


@dataclass(slots=True)
class Segment:
    """A file of the spool: its bytes, and the events in it that are not acknowledged."""

    size: int
    events: int


class Spool:
    """One slot. For one thread; `claim` it first. OSError when a write fails."""

    def __init__(
        self, folder: Path, lock: int, limits: tuple[int, int], unreadable: Callable[[int], None]
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._most_bytes, self._segment_bytes = limits
        self._unreadable = unreadable
        self._open: int | None = None
        self._segments: dict[int, Segment] = {}
        """By number, oldest first; the last one may be open."""
        self._head: deque[Batch] = deque()
        """What is left of the oldest segment, once it was read."""
        self.events = 0
        self.size_bytes = 0
        for number in sorted(_numbers(folder)):
            self._know(number)

    def append(self, batch: Batch) -> bool:
        """Put a batch behind the others; durable on return. False when there is no room."""
        record = _record(batch)
        if self.size_bytes + len(record) + len(MAGIC) > self._most_bytes:
            return False
        new = self._open is None
        try:
            file = self._create() if self._open is None else self._open
            self._write(file, record)
            os.fdatasync(file) if hasattr(os, "fdatasync") else os.fsync(file)
            if new:
                _sync_folder(self._folder)
        except OSError:
            # Whether the record is whole, nobody knows: nothing may be written behind it.
            self._finish()
            raise
        last = self._last()
        last.events += batch.events
        self.events += batch.events
        if last.size >= self._segment_bytes:
            self._finish()
        return True

    def first(self) -> Batch | None:
        """The oldest batch; None when there is none."""
        while not self._head and self._segments:
            number = next(iter(self._segments))
            if len(self._segments) == 1:
                self._finish()
            try:
                self._head.extend(read_records(self._path(number).read_bytes(), lambda _: None))
            except OSError:
                # The disk may give it back another day: the file stays, for a later process.
                self._unreadable(self._segments[number].size)
                self._forget(number)
                continue
            if not self._head:
                with contextlib.suppress(OSError):
                    self._remove(number)
        return self._head[0] if self._head else None

    def acknowledge(self) -> None:
        """Forget the oldest batch. After a crash, all of its segment may come again."""
        number = next(iter(self._segments))
        count = self._head.popleft().events
        self._segments[number].events -= count
        self.events -= count
        if not self._head:
            self._remove(number)

    def close(self) -> None:
        """Let another process have the slot."""
        self._finish()
        os.close(self._lock)

    def _know(self, number: int) -> None:
        path = self._path(number)
        try:
            data = path.read_bytes()
        except OSError:
            self._unreadable(path.stat().st_size)
            return
        events = sum(batch.events for batch in read_records(data, self._unreadable))
        self._segments[number] = Segment(len(data), events)
        self.size_bytes += len(data)
        self.events += events

    def _create(self) -> int:
        number = 1 + max(_numbers(self._folder), default=0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        file = self._open = os.open(self._path(number), flags, 0o600)
        self._segments[number] = Segment(0, 0)
        self._write(file, MAGIC)
        return file

    def _write(self, file: int, data: bytes) -> None:
        while data:
            written = os.write(file, data)
            self._last().size += written
            self.size_bytes += written
            data = data[written:]

    def _last(self) -> Segment:
        return next(reversed(self._segments.values()))

    def _finish(self) -> None:
        file, self._open = self._open, None
        if file is not None:
            os.close(file)

    def _remove(self, number: int) -> None:
        # A file that cannot be deleted must not be sent again and again.
        self._forget(number)
        self._path(number).unlink(missing_ok=True)

    def _forget(self, number: int) -> None:
        segment = self._segments.pop(number)
        self.size_bytes -= segment.size
        self.events -= segment.events

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016d}{_SUFFIX}"


def claim(folder: Path, limits: tuple[int, int], unreadable: Callable[[int], None]) -> Spool | None:
    """The first slot that no process holds; None when all are held.

    `limits` are the most bytes of a slot and of a segment; `unreadable` is told how many bytes of
    a segment cannot be read.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(SLOTS):
        slot = folder / f"slot-{number:03d}"
        slot.mkdir(mode=0o700, exist_ok=True)
        if (lock := _lock(slot)) is not None:
            return Spool(slot, lock, limits, unreadable)
    return None


def claim_orphan(
    folder: Path, limits: tuple[int, int], unreadable: Callable[[int], None]
) -> Spool | None:
    """A slot with something in it that no process holds."""
    for slot in sorted(folder.glob("slot-*")):
        if next(_numbers(slot), None) is not None and (lock := _lock(slot)) is not None:
            return Spool(slot, lock, limits, unreadable)
    return None


def read_records(data: bytes, unreadable: Callable[[int], None]) -> Iterator[Batch]:
    """The whole records of a segment, in order; `unreadable` is told the bytes that are none."""
    bad = 0
    at = len(MAGIC)
    if data[:at] != MAGIC:
        bad, at = len(data), len(data)
    while at < len(data):
        start = at + HEADER_BYTES
        if start > len(data):
            bad += len(data) - at
            break
        length, count = _COUNTS.unpack_from(data, at)
        end = start + length
        if end > len(data):
            bad += len(data) - at
            break
        body = data[start:end]
        (crc,) = _CRC.unpack_from(data, at + _COUNTS.size)
        if crc == _checksum(data[at : at + _COUNTS.size], body):
            yield Batch(body, count)
        else:
            bad += end - at
        at = end
    if bad:
        unreadable(bad)


def _record(batch: Batch) -> bytes:
    counts = _COUNTS.pack(len(batch.body), batch.events)
    return counts + _CRC.pack(_checksum(counts, batch.body)) + batch.body


def _checksum(counts: bytes, body: bytes) -> int:
    # Not 0 for zeros: a file system may leave a hole of zeros where a crash cut a write.
    return zlib.crc32(body, zlib.crc32(counts, 1))


def _numbers(folder: Path) -> Iterator[int]:
    for path in folder.glob(f"*{_SUFFIX}"):
        if path.stem.isdecimal():
            yield int(path.stem)


def _lock(slot: Path) -> int | None:
    file = os.open(slot / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
