"""Replaying rejected events, over fakes of the store and of the way into the log."""

from collections.abc import Sequence

import pytest

from services.events.application.log_events import Logged
from services.events.application.replay_rejected import (
    PORTION,
    Item,
    Outcome,
    Replay,
    replay_rejected,
)
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from shared.errors import DomainError
from tests.unit.events.events_fakes import MemoryRejected, full_disk


class MemoryDoor:
    """Stores payloads; those that begin with `no` are rejected, with `??` unreadable."""

    def __init__(self, fails_after: int = 10**9) -> None:
        self.stored: list[bytes] = []
        self._calls_left = fails_after

    def readable(self, payload: bytes) -> bool:
        return not payload.startswith(b"??")

    def log(self, project: str, payloads: Sequence[bytes]) -> Logged:
        assert project == "acme"
        if not self._calls_left:
            raise full_disk()
        self._calls_left -= 1
        places = range(len(payloads))
        rejected = [n for n in places if payloads[n].startswith(b"no")]
        duplicates = [n for n in places if payloads[n] in self.stored]
        self.stored += [payloads[n] for n in places if n not in rejected and n not in duplicates]
        why = Rejection("e", Reason.TOO_LARGE, "properties", "is too large now")
        return Logged(
            len(payloads) - len(rejected) - len(duplicates),
            tuple(duplicates),
            tuple((n, why) for n in rejected),
            len(self.stored),
        )


def kept(*payloads: bytes, reason: Reason = Reason.INVALID_FIELD) -> MemoryRejected:
    store = MemoryRejected()
    why = Rejection("e", reason, "value", "is NaN")
    store.keep([RejectedEvent("acme", why, 1, "shop", payload) for payload in payloads])
    return store


def replay(
    store: MemoryRejected, door: MemoryDoor, *items: Item, trial: bool = False
) -> list[Outcome]:
    done = replay_rejected(Replay("acme", items, trial), store, door)
    assert [one.number for one in done.results] == [item.number for item in items]
    return [one.outcome for one in done.results]


def test_what_is_stored_leaves_and_what_is_not_stays_with_its_newest_reason() -> None:
    store, door = kept(b"yes", b"no", b"??"), MemoryDoor()
    assert replay(store, door, *map(Item, (1, 2, 3, 4))) == [
        Outcome.ACCEPTED,
        Outcome.REJECTED,
        Outcome.NOT_REPLAYABLE,
        Outcome.NOT_FOUND,
    ]
    assert sorted(store.numbered) == [2, 3]
    assert store.numbered[2].rejection.reason is Reason.TOO_LARGE
    assert store.numbered[3].rejection.reason is Reason.INVALID_FIELD


def test_a_crash_before_the_store_is_settled_doubles_nothing() -> None:
    store, door = kept(b"yes"), MemoryDoor()
    store.failures.append(full_disk())
    with pytest.raises(DomainError):
        replay(store, door, Item(1))
    assert (door.stored, sorted(store.numbered)) == ([b"yes"], [1])
    assert replay(store, door, Item(1)) == [Outcome.DUPLICATE]
    assert (door.stored, sorted(store.numbered)) == ([b"yes"], [])


def test_a_failure_of_the_log_leaves_everything() -> None:
    store = kept(b"yes")
    with pytest.raises(DomainError):
        replay(store, MemoryDoor(fails_after=0), Item(1))
    assert sorted(store.numbered) == [1]


def test_a_later_failure_tells_what_was_not_tried() -> None:
    store = kept(*(b"%d" % number for number in range(2 * PORTION + 5)))
    door = MemoryDoor(fails_after=1)
    items = [Item(number) for number in sorted(store.numbered)]
    outcomes = replay(store, door, *items)
    assert outcomes == [Outcome.ACCEPTED] * PORTION + [Outcome.NOT_TRIED] * (PORTION + 5)
    assert len(store.numbered) == PORTION + 5
    assert replay(store, MemoryDoor(), *items) == (
        [Outcome.NOT_FOUND] * PORTION + [Outcome.ACCEPTED] * (PORTION + 5)
    )


def test_a_correction_is_stored_instead_and_a_bad_one_changes_nothing() -> None:
    store, door = kept(b"no", b"no-2", b"??"), MemoryDoor()
    before = dict(store.numbered)
    items = (Item(1, b"yes"), Item(2, b"no-3"), Item(3, b"mended"))
    assert replay(store, door, *items) == [Outcome.ACCEPTED, Outcome.REJECTED, Outcome.ACCEPTED]
    assert door.stored == [b"yes", b"mended"]
    assert store.numbered == {2: before[2]}


def test_a_trial_leaves_everything_where_it_is() -> None:
    store = kept(b"yes", b"no")
    before = dict(store.numbered)
    assert replay(store, MemoryDoor(), Item(1), Item(2), trial=True) == [
        Outcome.ACCEPTED,
        Outcome.REJECTED,
    ]
    assert store.numbered == before


def test_of_an_erased_unit_there_is_nothing_to_replay() -> None:
    store = kept(b"anna", reason=Reason.UNIT_ERASED)
    done = replay_rejected(Replay("acme", [Item(1)]), store, MemoryDoor())
    assert done.results[0].outcome is Outcome.NOT_REPLAYABLE
    assert "erased" in done.results[0].note
