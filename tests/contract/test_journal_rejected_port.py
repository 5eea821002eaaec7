"""What RejectedEvents promises, over every adapter and the fake of the unit tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from services.events.ports import RejectedEvents
from shared.errors import Code, DomainError
from tests.unit.events.events_fakes import MemoryRejected

Open = Callable[..., RejectedEvents]
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
            kept = before.kept if isinstance(before, MemoryRejected) else []
            opened.append(MemoryRejected(limits, kept))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def rejected(event_id: str, project: str = "acme", payload: bytes = b"p") -> RejectedEvent:
    why = Rejection(event_id, Reason.INVALID_FIELD, "value", "is NaN; allowed: finite")
    return RejectedEvent(project, why, 1_000_000, "backend", payload)


def names(store: RejectedEvents, project: str = "acme") -> list[str]:
    return [event.rejection.event_id for event in store.newest(project, 100)]


def test_every_field_returns_newest_first(open_store: Open) -> None:
    store = open_store()
    store.keep([rejected("a"), rejected("b", payload=b"\x00\xff")])
    store.keep([rejected("c")])
    expected = [rejected("c"), rejected("b", payload=b"\x00\xff"), rejected("a")]
    assert list(store.newest("acme", 10)) == expected
    assert list(store.newest("acme", 2)) == expected[:2]
    assert list(store.newest("nobody", 10)) == []
    store.keep([])
    assert names(store) == ["c", "b", "a"]


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
    assert list(store.newest("rival", 10)) == [rejected("a", project="rival")]


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
    store.close()
    store.close()
    for call in (lambda: store.keep([rejected("a")]), lambda: store.newest("acme", 1)):
        with pytest.raises(DomainError, match="closed") as raised:
            call()
        assert raised.value.code is Code.UNAVAILABLE
