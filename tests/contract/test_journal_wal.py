"""What a damaged or torn write-ahead log of the journal leads to: never to a silent loss."""

import itertools
import shutil
import struct
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from services.events.adapters.sqlite_file import open_file
from services.events.adapters.sqlite_journal import SCHEMA, VERSION, SqliteJournal
from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.adapters.write_ahead_log import damaged_at
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from shared.errors import Code, DomainError
from shared.testing.fakes import CountingIds

HEADER, HEAD, PAGE = 32, 24, 4096
FRAME = HEAD + PAGE
SMALL, LARGE = b"small", b"large" * 4_000
COMMIT_MARK = 4
"""Where it stands in a frame."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What kill -9 left of a journal, and the size that its log had before the last append."""

    file: bytes
    log: bytes
    last_at: int
    entries: Sequence[bytes]

    def open(self, folder: Path, log: bytes) -> SqliteJournal:
        """The journal with another log in place of its own."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "j.db").write_bytes(self.file)
        (folder / "j.db-wal").write_bytes(log)
        return SqliteJournal(folder / "j.db", CountingIds())

    def read(self, folder: Path, log: bytes) -> Sequence[bytes]:
        """The entries that it shows then."""
        journal = self.open(folder, log)
        try:
            return [entry.batches for entry in journal.read(0, 10**9)]
        finally:
            journal.close()


def crash(folder: Path, entries: Sequence[bytes], restart_after: int = 0) -> Crash:
    """Append and crash; SQLite writes its log from the start again after so many entries."""
    journal = SqliteJournal(folder / "live.db", CountingIds())
    log = folder / "live.db-wal"
    for number, entry in enumerate(entries, 1):
        last_at = log.stat().st_size
        journal.append(entry)
        if number == restart_after:
            journal._connection.execute("PRAGMA wal_checkpoint(RESTART)")
    left = Crash((folder / "live.db").read_bytes(), log.read_bytes(), last_at, entries)
    journal.close()
    return left


def flipped(content: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def places(log: bytes) -> Iterator[int]:
    """In every field of the header and of the heads of the frames, and some of each page."""
    yield from range(0, HEADER, 3)
    for frame in range(HEADER, len(log), FRAME):
        yield from range(frame, frame + HEAD, 3)
        yield from range(frame + HEAD, frame + FRAME, 1021)


def test_a_flipped_bit_anywhere_loses_the_last_commit_at_most_or_is_told(tmp_path: Path) -> None:
    left = crash(tmp_path, [SMALL, LARGE, SMALL, SMALL, LARGE])
    outcomes = {"all": 0, "refused": 0, "last": 0}
    for place in places(left.log):
        try:
            read = left.read(tmp_path / "again", flipped(left.log, place, place % 8))
        except DomainError:
            outcomes["refused"] += 1
            continue
        if read != left.entries:
            assert read == left.entries[:-1], f"byte {place} lost more than the last commit"
            assert place >= left.last_at, f"byte {place} belongs to an earlier commit"
        outcomes["all" if read == left.entries else "last"] += 1
    assert outcomes["refused"] > outcomes["last"] > 0


def test_a_commit_mark_that_loses_its_only_bit_is_found(tmp_path: Path) -> None:
    """The frame is then no commit any more: one commit alone is left behind the damage."""
    left = crash(tmp_path, [SMALL, SMALL, SMALL])
    place = left.last_at - FRAME + COMMIT_MARK
    (pages,) = struct.unpack_from(">I", left.log, place)
    assert pages.bit_count() == 1
    log = left.log[:place] + bytes(4) + left.log[place + 4 :]
    with pytest.raises(DomainError, match="is damaged at byte"):
        left.open(tmp_path / "again", log)


def test_what_is_wrong_and_what_to_do_is_said(tmp_path: Path) -> None:
    left = crash(tmp_path, [SMALL, SMALL, SMALL])
    with pytest.raises(DomainError) as raised:
        left.open(tmp_path / "again", flipped(left.log, HEADER + HEAD + 7, 0))
    assert raised.value.code is Code.UNAVAILABLE
    assert raised.value.message == (
        f"the write-ahead log {tmp_path}/again/j.db-wal is damaged at byte {HEADER}, and what was "
        "acknowledged after that cannot be read: restore a backup; if there is none, move the log "
        f"and {tmp_path}/again/j.db away to start a new one without what was acknowledged last"
    )
    assert (tmp_path / "again" / "j.db-wal").stat().st_size == len(left.log), "left alone"


def torn(left: Crash, pieces: Sequence[tuple[int, int]]) -> bytes:
    """The log when of its last transaction only these pieces reached the disk."""
    log = bytearray(left.log[: left.last_at])
    for start, end in pieces:
        log.extend(bytes(max(0, end - len(log))))
        log[start:end] = left.log[start:end]
    return bytes(log)


def test_a_last_transaction_that_was_torn_in_any_order_starts(tmp_path: Path) -> None:
    left = crash(tmp_path, [LARGE, SMALL, b"torn" * 2_000])
    frames = [(at, at + FRAME) for at in range(left.last_at, len(left.log), FRAME)]
    assert 3 <= len(frames) <= 6
    for count in range(len(frames)):
        for pieces in itertools.combinations(frames, count):
            read = left.read(tmp_path / "again", torn(left, pieces))
            assert read == left.entries[:-1], f"{pieces} of {frames}"
    assert left.read(tmp_path / "again", torn(left, frames)) == left.entries


def test_a_last_transaction_that_was_torn_inside_of_its_pages_starts(tmp_path: Path) -> None:
    left = crash(tmp_path, [LARGE, SMALL, LARGE])
    dice = np.random.default_rng(20261122)
    first = left.last_at - left.last_at % 512
    sectors = [(max(at, left.last_at), at + 512) for at in range(first, len(left.log), 512)]
    sectors[-1] = (sectors[-1][0], len(left.log))
    for _ in range(40):
        kept = [sector for sector in sectors if dice.random() < 0.9]
        read = left.read(tmp_path / "again", torn(left, kept))
        assert read in (left.entries[:-1], left.entries)


def test_an_end_that_is_cut_off_starts(tmp_path: Path) -> None:
    """Nothing tells it from a torn one: see tests/robustness/README.md."""
    left = crash(tmp_path, [SMALL, SMALL, SMALL])
    for size in range(0, len(left.log), 997):
        read = left.read(tmp_path / "again", left.log[:size])
        assert read == left.entries[: len(read)]


def test_commits_of_an_earlier_round_of_the_log_are_not_missed(tmp_path: Path) -> None:
    left = crash(tmp_path, [LARGE, SMALL, SMALL, SMALL], restart_after=3)
    assert len(left.log) == left.last_at, "the last one was written over the first"
    assert left.read(tmp_path / "again", left.log) == left.entries
    assert left.read(tmp_path / "again", flipped(left.log, HEADER + HEAD, 0)) == left.entries[:-1]


def test_what_a_crash_tore_off_is_gone_before_anything_is_written(tmp_path: Path) -> None:
    """Its commit would stand behind the next torn one, and two are damage."""
    left = crash(tmp_path, [SMALL, SMALL, LARGE])
    log = tmp_path / "again" / "j.db-wal"
    log.parent.mkdir()
    (tmp_path / "again" / "j.db").write_bytes(left.file)
    log.write_bytes(torn(left, [(len(left.log) - FRAME, len(left.log))]))
    connection = open_file(tmp_path / "again" / "j.db", SCHEMA, VERSION)
    assert log.stat().st_size == 0
    connection.close()


def sums(words: Sequence[int], first: int, second: int) -> tuple[int, int]:
    """The checksums of the file format, word by word as it is written there."""
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def big_endian(log: bytes) -> bytes:
    """The log as a machine of the other byte order writes it."""
    first, *others = struct.unpack_from(">6I", log)
    head = struct.pack(">6I", first | 1, *others)
    told = sums(struct.unpack(">6I", head), 0, 0)
    written = head + struct.pack(">2I", *told)
    for at in range(HEADER, len(log), FRAME):
        start, page = log[at : at + 8], log[at + HEAD : at + FRAME]
        told = sums(struct.unpack(f">{2 + PAGE // 4}I", start + page), *told)
        written += log[at : at + 16] + struct.pack(">2I", *told) + page
    return written


def test_a_log_of_the_other_byte_order_is_checked_as_well(tmp_path: Path) -> None:
    left = crash(tmp_path, [SMALL, LARGE, SMALL])
    log = big_endian(left.log)
    assert left.read(tmp_path / "again", log) == left.entries
    with pytest.raises(DomainError, match="is damaged at byte 32"):
        left.open(tmp_path / "again", flipped(log, HEADER + 100, 0))


def test_a_log_of_any_size_takes_the_memory_of_a_frame(tmp_path: Path) -> None:
    left = crash(tmp_path, [SMALL, b"x" * 8_000_000, SMALL])
    log = tmp_path / "large-wal"
    log.write_bytes(left.log)
    tracemalloc.start()
    try:
        assert damaged_at(log) is None
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000 < len(left.log)


def test_the_log_of_the_rejected_events_is_checked_as_well(tmp_path: Path) -> None:
    store = SqliteRejectedEvents(tmp_path / "r.db", Limits())
    for number in range(3):
        why = Rejection(f"e{number}", Reason.INVALID_FIELD, "value", "is NaN; allowed: finite")
        store.keep([RejectedEvent("acme", why, 1_000_000, "backend", b"payload")])
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    log = (tmp_path / "r.db-wal").read_bytes()
    shutil.copy(tmp_path / "r.db", crashed)
    store.close()
    (crashed / "r.db-wal").write_bytes(flipped(log, HEADER + 100, 0))
    with pytest.raises(DomainError, match=r"r\.db-wal is damaged at byte 32"):
        SqliteRejectedEvents(crashed / "r.db", Limits())
