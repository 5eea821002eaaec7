"""What RejectedEvents promises, over every adapter and the fake of the unit tests."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection, Wanted
from services.events.ports import RejectedEvents
from shared.errors import Code, DomainError
from tests.unit.events.events_fakes import MemoryRejected

Open = Callable[..., RejectedEvents]
ALL = Wanted()
LIMITS = Limits(kept_rejections=3, kept_rejection_bytes=10_000)


@pytest.fixture(params=["sqlite", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[RejectedEvents] = []

    def open_it(limits: Limits = LIMITS) -> RejectedEvents:
        before = opened[-1] if opened else None
        if before is not None:
            before.close()
        if request.param == "sqlite":
            opened.append(SqliteRejectedEvents(tmp_path / "events" / "r.db", limits))
        else:
            kept = before.numbered if isinstance(before, MemoryRejected) else {}
            opened.append(MemoryRejected(limits, kept))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def rejected(event_id: str, project: str = "acme", payload: bytes = b"p") -> RejectedEvent:
    why = Rejection(event_id, Reason.INVALID_FIELD, "value", "is NaN; allowed: finite")
    return RejectedEvent(project, why, 1_000_000, "backend", payload)


def names(store: RejectedEvents, project: str = "acme", wanted: Wanted = ALL) -> list[str]:
    return [kept.event.rejection.event_id for kept in store.newest(project, wanted, None, 100)]


def number_of(store: RejectedEvents, event_id: str, project: str = "acme") -> int:
    (number,) = store.numbers(project, Wanted(event_id=event_id), 0, 100)
    return number


def test_every_field_returns_newest_first(open_store: Open) -> None:
    store = open_store()
    odd = replace(rejected("b", payload=b"\x00\xff"), door="OTLP", source="")
    store.keep([rejected("a"), odd])
    store.keep([rejected("c")])
    expected = [rejected("c"), odd, rejected("a")]
    listed = store.newest("acme", ALL, None, 10)
    assert [kept.event for kept in listed] == [replace(one, payload=b"") for one in expected]
    assert [kept.payload_bytes for kept in listed] == [1, 2, 1]
    numbers = [kept.number for kept in listed]
    assert [store.get("acme", numbers)[number] for number in numbers] == expected
    assert store.newest("nobody", ALL, None, 10) == []
    store.keep([])
    assert names(store) == ["c", "b", "a"]


def test_pages_go_down_from_a_number_and_portions_up(open_store: Open) -> None:
    store = open_store(Limits())
    store.keep([rejected(str(n)) for n in range(5)])
    first = store.newest("acme", ALL, None, 2)
    second = store.newest("acme", ALL, first[-1].number, 2)
    assert [k.event.rejection.event_id for k in (*first, *second)] == ["4", "3", "2", "1"]
    numbers = store.numbers("acme", ALL, 0, 3)
    assert list(numbers) == sorted(numbers)
    assert [store.get("acme", [n])[n].rejection.event_id for n in numbers] == ["0", "1", "2"]
    assert len(store.numbers("acme", ALL, numbers[-1], 3)) == 2
    assert [store.count("acme", ALL, above) for above in (0, numbers[-1])] == [5, 2]


def test_everything_that_is_given_must_apply(open_store: Open) -> None:
    store = open_store(Limits())
    conflict = Rejection("b", Reason.CONFLICTING_DUPLICATE, "event_id", "was used before")
    store.keep(
        [
            rejected("a"),
            replace(rejected("b"), rejection=conflict, source="shop", receive_time_us=2_000_000),
            replace(rejected("c"), source="Shop", receive_time_us=3_000_000),
            rejected("b", project="rival"),
        ]
    )
    reasons = frozenset({Reason.CONFLICTING_DUPLICATE})
    for wanted, expected in (
        (ALL, ["c", "b", "a"]),
        (Wanted(reasons=reasons), ["b"]),
        (Wanted(reasons=reasons | {Reason.INVALID_FIELD}), ["c", "b", "a"]),
        (Wanted(source="shop"), ["b"]),
        (Wanted(event_id="c"), ["c"]),
        (Wanted(event_id="' OR 1=1 --"), []),
        (Wanted(start_us=2_000_000), ["c", "b"]),
        (Wanted(end_us=2_000_000), ["a"]),
        (Wanted(start_us=2_000_000, end_us=3_000_000), ["b"]),
        (Wanted(reasons=reasons, source="Shop"), []),
    ):
        assert names(store, wanted=wanted) == expected
        assert len(store.numbers("acme", wanted, 0, 100)) == len(expected)
        assert store.count("acme", wanted, 0) == len(expected)


def test_a_large_payload_is_cut_and_marked(open_store: Open) -> None:
    store = open_store(Limits(kept_payload_bytes=10))
    store.keep([rejected("a", payload=b"x" * 10), rejected("b", payload=b"x" * 11)])
    kept = list(store.get("acme", store.numbers("acme", ALL, 0, 2)).values())
    assert [(len(event.payload), event.truncated) for event in kept] == [(10, False), (10, True)]


def test_of_an_erased_unit_nothing_is_kept(open_store: Open) -> None:
    store = open_store()
    why = Rejection("a", Reason.UNIT_ERASED, "unit.id", "is 'anna'")
    store.keep([RejectedEvent("acme", why, 1_000_000, "annas-phone", b"anna")])
    store.keep([rejected("b", payload=b"anna")])
    store.settle("acme", [], {number_of(store, "b"): replace(why, event_id="b")})
    for event in store.get("acme", store.numbers("acme", ALL, 0, 10)).values():
        assert (event.payload, event.source, event.truncated) == (b"", "", False)
        assert "anna" not in repr(event)


def test_what_is_stored_leaves_and_what_is_not_gets_its_newest_reason(open_store: Open) -> None:
    store = open_store()
    store.keep([rejected("a"), rejected("b"), rejected("c"), rejected("a", project="rival")])
    a, b = number_of(store, "a"), number_of(store, "b")
    why = Rejection("b", Reason.TOO_LARGE, "properties", "take too much")
    store.settle("acme", [a, 99], {b: why, 98: why})
    assert names(store) == ["c", "b"]
    assert store.get("acme", [a, b]) == {b: replace(rejected("b"), rejection=why)}
    assert names(store, "rival") == ["a"]
    store.settle("acme", [number_of(store, "a", "rival")], {})
    assert names(store, "rival") == ["a"]
    assert names(open_store()) == ["c", "b"]


def test_a_new_reason_that_makes_two_the_same_leaves_one(open_store: Open) -> None:
    store = open_store()
    why = Rejection("a", Reason.TOO_LARGE, "properties", "take too much")
    store.keep([rejected("a"), replace(rejected("a"), rejection=why)])
    first, second = store.numbers("acme", ALL, 0, 10)
    store.settle("acme", [], {first: why})
    assert store.numbers("acme", ALL, 0, 10) == [second]


def test_what_left_makes_room(open_store: Open) -> None:
    store = open_store()
    store.keep([rejected("a", payload=b"a" * 9_000), rejected("b")])
    store.settle("acme", [number_of(store, "a")], {})
    store.keep([rejected("c", payload=b"c" * 9_000)])
    assert names(store) == ["c", "b"]


def test_a_number_is_not_used_twice(open_store: Open) -> None:
    store = open_store()
    store.keep([rejected("a")])
    number = number_of(store, "a")
    store.settle("acme", [number], {})
    store.keep([rejected("b")])
    assert number_of(store, "b") > number


def test_what_was_kept_is_there_after_reopening(open_store: Open) -> None:
    open_store().keep([rejected("a")])
    assert names(open_store()) == ["a"]


def test_the_same_rejection_is_kept_once(open_store: Open) -> None:
    store = open_store()
    for _ in range(5):
        store.keep([rejected("a"), rejected("b"), rejected("a")])
    assert names(store) == ["b", "a"]
    store.keep([rejected("a", payload=b"other")])
    assert names(store) == ["a", "b", "a"]


def test_a_project_sees_its_own(open_store: Open) -> None:
    store = open_store()
    store.keep([rejected("a"), rejected("a", project="rival")])
    (number,) = store.numbers("rival", ALL, 0, 10)
    assert store.get("rival", [number]) == {number: rejected("a", project="rival")}
    assert store.get("acme", [number]) == {}


def test_the_oldest_make_room(open_store: Open) -> None:
    store = open_store()
    for number in range(10):
        store.keep([rejected(str(number))])
    assert names(store) == ["9", "8", "7"]
    store.keep([rejected(str(number)) for number in range(20, 30)])
    assert names(store) == ["29", "28", "27"]


def test_large_ones_make_room_by_their_bytes(open_store: Open) -> None:
    store = open_store()
    store.keep([rejected("small"), rejected("a", payload=b"a" * 6_000)])
    store.keep([rejected("b", payload=b"b" * 6_000)])
    assert names(store) == ["b"]
    store.keep([rejected("c", payload=b"c" * 4_000)])
    assert names(store) == ["c", "b"]


def test_a_project_pushes_out_nothing_of_another(open_store: Open) -> None:
    store = open_store()
    store.keep([rejected("mine")])
    for number in range(10):
        store.keep([rejected(str(number), "rival", bytes([number]) * 9_000)])
    assert names(store) == ["mine"]
    assert names(store, "rival") == ["9"]


def test_limits_hold_across_a_restart(open_store: Open) -> None:
    open_store().keep([rejected("a", payload=b"a" * 6_000), rejected("b")])
    again = open_store()
    again.keep([rejected("c", payload=b"c" * 6_000)])
    assert names(again) == ["c", "b"]


def test_use_after_close_is_refused(open_store: Open) -> None:
    store = open_store()
    usable = [store.usable]
    store.close()
    store.close()
    usable.append(store.usable)
    assert usable == [True, False]
    calls: list[Callable[[], object]] = [
        lambda: store.keep([rejected("a")]),
        lambda: store.newest("acme", ALL, None, 1),
        lambda: store.numbers("acme", ALL, 0, 1),
        lambda: store.count("acme", ALL, 0),
        lambda: store.get("acme", [1]),
        lambda: store.settle("acme", [1], {}),
    ]
    for call in calls:
        with pytest.raises(DomainError, match="closed") as raised:
            call()
        assert raised.value.code is Code.UNAVAILABLE


OLD_SCHEMA = """
CREATE TABLE rejected (
    number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, project TEXT NOT NULL,
    event_id TEXT NOT NULL, reason TEXT NOT NULL, field TEXT NOT NULL, message TEXT NOT NULL,
    receive_time_us INTEGER NOT NULL, source TEXT NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX rejected_by_project ON rejected (project, number);
PRAGMA user_version = 1
"""
OLD_INSERT = """
INSERT OR IGNORE INTO rejected
(digest, project, event_id, reason, field, message, receive_time_us, source, payload)
VALUES (?, ?, ?, 'INVALID_FIELD', 'value', 'is NaN; allowed: finite', 1000000, 'backend', ?)
"""


def old_insert(path: Path, digest: bytes, event_id: str, payload: bytes) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(OLD_INSERT, (digest, "acme", event_id, payload))
    connection.close()


def test_a_file_of_before_is_read_and_stays_writable_for_the_program_of_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD_SCHEMA)
    connection.close()
    old_insert(path, b"1", "a", b"p")
    old_insert(path, b"2", "cut", b"x" * 100)
    for _ in range(2):
        store = SqliteRejectedEvents(path, Limits(kept_payload_bytes=100))
        kept = store.get("acme", [1, 2])
        store.close()
        assert kept[1] == rejected("a")
        assert kept[2].truncated
    old_insert(path, b"3", "b", b"p")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
    store = SqliteRejectedEvents(path, Limits())
    assert store.get("acme", [3]) == {3: rejected("b")}
    store.close()


def test_calls_at_once_lose_no_count(open_store: Open) -> None:
    """What each takes is counted, so that the limits hold whoever comes first."""
    store = open_store(Limits(kept_rejections=50))
    with ThreadPoolExecutor(8) as threads:
        for number in range(200):
            threads.submit(store.keep, [rejected(str(number))])
    assert len(names(store)) == 50
    store.keep([rejected("one more")])
    assert len(names(store)) == 50


def test_a_disk_that_has_room_again_is_used_again(tmp_path: Path) -> None:
    store = SqliteRejectedEvents(tmp_path / "r.db", Limits())
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(DomainError, match="disk is full"):
        store.keep([rejected("a", payload=b"x" * 50_000)])
    assert store.usable
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.keep([rejected("a", payload=b"x" * 50_000)])
    assert names(store) == ["a"]
    store.close()


def test_after_an_unknown_failure_nothing_is_kept_until_it_is_opened_anew(tmp_path: Path) -> None:
    store = SqliteRejectedEvents(tmp_path / "r.db", Limits())
    store.keep([rejected("a")])
    store._connection.execute("PRAGMA query_only = ON")  # stands for EIO: a write that fails
    with pytest.raises(DomainError):
        store.keep([rejected("b")])
    store._connection.execute("PRAGMA query_only = OFF")
    assert not store.usable
    for call in (lambda: store.keep([rejected("c")]), lambda: store.settle("acme", [1], {})):
        with pytest.raises(DomainError):
            call()
    store.close()
    again = SqliteRejectedEvents(tmp_path / "r.db", Limits())
    assert names(again) == ["a"]
    again.close()
