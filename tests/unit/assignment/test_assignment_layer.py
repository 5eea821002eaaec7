"""The slot ledger: no slot has two owners, and a row is written once."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.layer import TOTAL_SLOTS, Layer, SlotRange
from services.assignment.domain.revision import Revision
from shared.errors import Code, DomainError
from tests.unit.assignment.making import Make

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
REST = timedelta(days=7)


def test_allocation_takes_the_lowest_free_slots(make: Make) -> None:
    layer = make.layer().allocate("a", 3000, make.at(2)).allocate("b", 2000, make.at(3))
    assert layer.ledger == (SlotRange(0, 3000, "a", 2), SlotRange(3000, 5000, "b", 3))
    assert layer.config_version == 3
    assert layer.free_slots(make.start) == 5000


def test_growing_appends_and_asking_for_less_changes_nothing(make: Make) -> None:
    layer = make.layer().allocate("a", 1000, make.at(2)).allocate("b", 1000, make.at(3))
    grown = layer.allocate("a", 1500, make.at(4))
    assert grown.ledger[:2] == layer.ledger
    assert grown.ledger[2:] == (SlotRange(2000, 2500, "a", 4),)
    assert grown.allocate("a", 1500, make.at(5)) is grown
    assert grown.allocate("a", 10, make.at(5)) is grown


def test_a_full_layer_says_who_holds_it(make: Make) -> None:
    layer = make.layer().allocate("a", 9000, make.at(2))
    with pytest.raises(DomainError) as caught:
        layer.allocate("b", 1001, make.at(3))
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "LAYER_FULL")
    held = "held by experiment 'a'"
    for part in ("needs 1001", "1000 of 10000 are free", held, "create another layer"):
        assert part in caught.value.message
    assert layer.allocate("b", 1000, make.at(3)).free_slots(make.start) == 0


def test_released_slots_rest_and_then_return(make: Make) -> None:
    full = make.layer().allocate("a", TOTAL_SLOTS, make.at(2))
    released = full.release("a", REST, make.at(3))
    assert released.owned_by("a") == ()
    assert released.ledger[0].release_time == make.start
    just_before = make.at(4, REST - timedelta(microseconds=1))
    with pytest.raises(DomainError, match="rest until"):
        released.allocate("b", 1, just_before)
    again = released.allocate("b", TOTAL_SLOTS, make.at(4, REST))
    assert again.ledger[0] == released.ledger[0]
    assert again.owned_by("b") == (SlotRange(0, TOTAL_SLOTS, "b", 4),)


def test_releasing_twice_or_what_is_not_owned_changes_nothing(make: Make) -> None:
    layer = make.layer().allocate("a", 10, make.at(2)).release("a", REST, make.at(3))
    assert layer.release("a", REST, make.at(4)) is layer
    assert layer.release("b", REST, make.at(4)) is layer


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grow", "release"]),
        st.sampled_from(["a", "b", "c", "d"]),
        st.integers(1, 4000),
        st.integers(0, 10),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_history_keeps_one_owner_a_slot_and_only_appends(
    steps: list[tuple[str, str, int, int]],
) -> None:
    now = START
    layer = Layer("p", "l", "", "user", "layer/l", HashVersion.FLAGD_V2, 1, now)
    for version, (verb, experiment, slots, days) in enumerate(steps, start=2):
        now += timedelta(days=days)
        before, at = layer.ledger, Revision(version, now)
        if verb == "release":
            layer = layer.release(experiment, REST, at)
        else:
            try:
                layer = layer.allocate(experiment, slots, at)
            except DomainError:
                assert slots > layer.free_slots(now)
        for old, new in zip(before, layer.ledger, strict=False):
            ranges = (old.first, old.end, old.experiment_id, old.since_version)
            assert ranges == (new.first, new.end, new.experiment_id, new.since_version)
            assert old.release_time in (None, new.release_time)
        assert len(layer.ledger) >= len(before)
        taken = [0] * TOTAL_SLOTS
        for row in layer.ledger:
            if row.rests_or_is_held(now):
                for slot in range(row.first, row.end):
                    taken[slot] += 1
        assert max(taken) <= 1
        assert layer.free_slots(now) == taken.count(0)
