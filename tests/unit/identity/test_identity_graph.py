"""The fold of the edge log, against a reference that keeps sets and looks at each link."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.identity.belonging import Belonging, Stitching, belonging
from shared.identity.graph import (
    NO_TYPE,
    EdgeState,
    Identities,
    Integers,
    Units,
    fold,
)
from tests.unit.identity.identity_reference import Entry, columns, slow_fold, slow_owner

MOST_UNITS = 9
# How fast the machine is says nothing of the fold.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def units_of(draw, count: int) -> Units:
    types = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    blocked = draw(st.lists(st.sampled_from([False] * 9 + [True]), min_size=count, max_size=count))
    limits = draw(st.lists(st.integers(1, 4), min_size=3, max_size=3))
    ranks = draw(st.lists(st.integers(0, 2), min_size=3, max_size=3))
    return Units(
        np.array(types, dtype=np.int64),
        np.array(blocked, dtype=np.bool_),
        np.array(limits, dtype=np.int64),
        np.array(ranks, dtype=np.int64),
    )


@st.composite
def logs(draw) -> tuple[list[Entry], Units]:
    count = draw(st.integers(1, MOST_UNITS))
    unit = st.integers(0, count - 1)
    entry = st.builds(
        Entry, unit, unit, st.integers(0, 6), st.sampled_from([False, False, False, True])
    )
    return draw(st.lists(entry, max_size=16)), draw(units_of(count))


def parts(identities: Identities) -> set[frozenset[int]]:
    groups: dict[int, set[int]] = {}
    for unit, owner in enumerate(identities.canonical.tolist()):
        groups.setdefault(owner, set()).add(unit)
    return {frozenset(group) for group in groups.values()}


def plain(count: int, types: list[int] | None = None, limit: int = 100) -> Units:
    held: Integers = np.array(types or [0] * count, dtype=np.int64)
    width = int(held.max()) + 1
    blocked = np.zeros(count, dtype=np.bool_)
    return Units(held, blocked, np.full(width, limit), np.zeros(width, dtype=np.int64))


@patient
@given(logs())
def test_the_fold_is_that_of_the_reference(log: tuple[list[Entry], Units]) -> None:
    entries, units = log
    found, expected = fold(columns(entries), units), slow_fold(entries, units)
    assert [EdgeState(state) for state in found.states] == expected.states
    assert found.full_types.tolist() == expected.full_types
    assert parts(found) == expected.parts


@patient
@given(logs())
def test_no_identity_is_ever_above_a_limit(log: tuple[list[Entry], Units]) -> None:
    entries, units = log
    for part in parts(fold(columns(entries), units)):
        held = np.bincount(units.types[list(part)], minlength=3)
        assert (held <= np.maximum(units.limits, 1)).all()


@patient
@given(logs())
def test_the_canonical_unit_is_of_the_highest_rank_and_then_the_first_seen(log) -> None:
    entries, units = log
    found = fold(columns(entries), units)
    for part in parts(found):
        ranks = units.ranks[units.types]
        best = min(part, key=lambda unit: (-ranks[unit], unit))
        assert set(found.canonical[list(part)].tolist()) == {best}
        assert found.members(best).tolist() == sorted(part)


@patient
@given(logs(), st.randoms(use_true_random=False))
def test_without_a_refusal_the_order_of_links_is_of_no_account(log, random) -> None:
    entries, units = log
    links = [entry for entry in entries if not entry.unlink]
    units = replace(units, limits=np.full(3, MOST_UNITS))
    shuffled = list(links)
    random.shuffle(shuffled)
    one, other = fold(columns(links), units), fold(columns(shuffled), units)
    assert one.canonical.tolist() == other.canonical.tolist()


@patient
@given(logs())
def test_an_unlink_leaves_what_there_would_be_without_those_links(log) -> None:
    entries, units = log
    found = fold(columns(entries), units)
    kept = [
        entry
        for place, entry in enumerate(entries)
        if not entry.unlink
        and not any(e.unlink and e.pair == entry.pair for e in entries[place + 1 :])
    ]
    rebuilt = fold(columns(kept), units)
    assert found.canonical.tolist() == rebuilt.canonical.tolist()


@patient
@given(logs(), st.integers(-1, 7))
def test_identities_as_of_a_time_are_those_of_the_links_until_then(log, time_us: int) -> None:
    entries, units = log
    found = fold(columns(entries), units)
    then = found.as_of(time_us)
    states = [EdgeState(state) for state in found.states]
    for unit in range(len(units)):
        expected = slow_owner(entries, states, units, unit, time_us)
        assert set(then.members(unit).tolist()) == expected


def owner_at(table: Belonging, unit: int, time_us: int) -> tuple[int, bool] | None:
    rows = np.flatnonzero(
        (table.units == unit) & (table.from_us <= time_us) & (time_us < table.until_us)
    )
    assert len(rows) <= 1, "the times of one unit overlap"
    return None if not len(rows) else (int(table.owners[rows[0]]), bool(table.several[rows[0]]))


@patient
@given(logs(), st.integers(0, 2), st.sampled_from(Stitching))
def test_events_belong_to_the_first_seen_unit_of_the_type(log, id_type: int, stitching) -> None:
    entries, units = log
    found = fold(columns(entries), units)
    states = [EdgeState(state) for state in found.states]
    table = belonging(found, id_type, stitching)
    for unit in range(len(units)):
        for time_us in range(-1, 8):
            until = time_us if stitching is Stitching.POINT_IN_TIME else 100
            linked = slow_owner(entries, states, units, unit, until)
            owners = sorted(u for u in linked if units.types[u] == id_type)
            expected = (owners[0], len(owners) > 1) if owners else None
            assert owner_at(table, unit, time_us) == expected


def test_one_phone_with_many_customer_numbers_keeps_the_first() -> None:
    phone, one, two, three = range(4)
    units = replace(plain(4, [0, 1, 1, 1]), limits=np.array([5, 1]))
    found = fold(columns([Entry(phone, one), Entry(phone, two), Entry(phone, three)]), units)
    assert [EdgeState(s).name for s in found.states] == ["ACTIVE", "REFUSED_LIMIT", "REFUSED_LIMIT"]
    assert found.full_types.tolist() == [NO_TYPE, 1, 1]
    assert parts(found) == {frozenset({phone, one}), frozenset({two}), frozenset({three})}


def test_a_refused_link_is_made_when_what_stood_in_its_way_is_taken_back() -> None:
    phone, one, two = range(3)
    units = replace(plain(3, [0, 1, 1]), limits=np.array([5, 1]))
    log = [Entry(phone, one), Entry(phone, two), Entry(one, phone, unlink=True)]
    found = fold(columns(log), units)
    assert [EdgeState(s).name for s in found.states] == ["UNLINKED", "ACTIVE", "UNLINK"]


def test_a_link_after_an_unlink_counts_again() -> None:
    log = [Entry(0, 1), Entry(0, 1, unlink=True), Entry(1, 0)]
    found = fold(columns(log), plain(2))
    assert [EdgeState(s).name for s in found.states] == ["UNLINKED", "UNLINK", "ACTIVE"]
    assert found.canonical.tolist() == [0, 0]


def test_nothing_folds_to_nothing() -> None:
    none: Integers = np.zeros(0, dtype=np.int64)
    found = fold(columns([]), Units(none, np.zeros(0, dtype=np.bool_), none, none))
    assert len(found.canonical) == 0


@pytest.mark.parametrize("repeats", [2, 255, 256, 257, 512])
def test_a_link_that_is_repeated_any_number_of_times_is_one_link(repeats: int) -> None:
    found = fold(columns([Entry(0, 1)] * repeats), plain(2))
    assert found.canonical.tolist() == [0, 0]


def test_a_long_chain_in_a_crowded_component_needs_no_deep_calls() -> None:
    size = 20_000
    chain = [Entry(unit, unit + 1) for unit in range(size - 1)]
    found = fold(columns(chain), plain(size, limit=1000))
    assert (found.states == EdgeState.REFUSED_LIMIT).sum() == size // 1000 - 1
