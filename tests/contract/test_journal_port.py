"""What Journal promises, over every adapter. A factory opens the same journal again and again."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.events.adapters.journal_watch import JournalWatch
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.ports import Journal
from shared.errors import Code, DomainError
from shared.testing.fakes import CountingIds

Open = Callable[[], Journal]


@pytest.fixture(params=["sqlite", "watched"])
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[Journal] = []

    def open_it() -> Journal:
        for before in opened:
            before.close()
        journal = SqliteJournal(tmp_path / "events" / "journal.db", CountingIds())
        watched = JournalWatch(journal, lambda: 0.0)
        opened.append(journal if request.param == "sqlite" else watched)
        return opened[-1]

    yield open_it
    for journal in opened:
        journal.close()


def everything(journal: Journal) -> list[tuple[int, bytes]]:
    return [(e.position, e.batches) for e in journal.read(0, 10**9)]


def test_a_new_journal_is_empty(open_journal: Open) -> None:
    journal = open_journal()
    assert (journal.last, journal.backlog_bytes, journal.usable) == (0, 0, True)
    assert everything(journal) == []
    journal.trim(0)


def test_batches_return_byte_for_byte_in_the_order_of_positions(open_journal: Open) -> None:
    journal = open_journal()
    first = journal.append(b"a" + b"\x00\xff" * 1000)
    second = journal.append(b"b")
    assert 0 < first < second == journal.last
    assert everything(journal) == [(first, b"a" + b"\x00\xff" * 1000), (second, b"b")]


def test_what_was_appended_is_there_after_reopening(open_journal: Open) -> None:
    journal = open_journal()
    journal.append(b"a")
    position = journal.append(b"b")
    again = open_journal()
    assert again.id == journal.id
    assert again.last == position
    assert [batches for _, batches in everything(again)] == [b"a", b"b"]
    assert again.backlog_bytes > 0


def test_reading_starts_after_a_position(open_journal: Open) -> None:
    journal = open_journal()
    positions = [journal.append(str(i).encode()) for i in range(5)]
    assert [e.position for e in journal.read(positions[2], 10**9)] == positions[3:]
    assert journal.read(positions[-1], 10**9) == []


def test_reading_is_bounded_but_never_stuck(open_journal: Open) -> None:
    journal = open_journal()
    for _ in range(3):
        journal.append(b"x" * 1000)
    assert len(journal.read(0, 1)) == 1
    assert len(journal.read(0, 2_100)) == 2
    assert len(journal.read(0, 10**9)) == 3


def test_trimming_forgets_up_to_and_including(open_journal: Open) -> None:
    journal = open_journal()
    first, second = journal.append(b"a"), journal.append(b"b")
    journal.trim(first)
    assert [p for p, _ in everything(journal)] == [second]
    journal.trim(second)
    assert journal.backlog_bytes == 0
    assert journal.last == second


def test_a_position_is_never_used_twice(open_journal: Open) -> None:
    journal = open_journal()
    last = max(journal.append(b"a"), journal.append(b"b"))
    journal.trim(last)
    again = open_journal()
    assert again.last == last
    assert again.append(b"c") > last


def test_use_after_close_is_refused(open_journal: Open) -> None:
    journal = open_journal()
    journal.append(b"a")
    journal.close()
    journal.close()
    assert not journal.usable
    for call in (
        lambda: journal.append(b"b"),
        lambda: journal.read(0, 1),
        lambda: journal.trim(1),
    ):
        with pytest.raises(DomainError, match="closed") as raised:
            call()
        assert raised.value.code is Code.UNAVAILABLE
        assert raised.value.reason == "STORAGE_UNAVAILABLE"
    assert [batches for _, batches in everything(open_journal())] == [b"a"]


def test_concurrent_writers_get_positions_of_their_own(open_journal: Open) -> None:
    journal = open_journal()
    got: dict[int, bytes] = {}

    def write(name: int) -> None:
        for i in range(20):
            batch = f"{name}:{i}".encode()
            got[journal.append(batch)] = batch

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(everything(journal)) == got
    assert len(got) == 80
