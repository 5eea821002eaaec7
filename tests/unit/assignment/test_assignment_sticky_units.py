"""What a unit was served first goes on, whatever ids it comes with and in whatever order."""

import datetime as dt
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assignment.domain.sticky import Ids, Kept, first_served, settle, unit_key

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def at(second: int, variant: str = "a", **changes: object) -> Kept:
    return Kept(variant, 1, START + dt.timedelta(seconds=second), **changes)  # type: ignore[arg-type]


def served(kept: dict[str, Kept], ids: Ids, fresh: Kept | None) -> Kept | None:
    settle(kept, ids, fresh)
    return first_served(kept, ids)


def test_a_key_tells_types_and_ids_apart_and_shows_neither() -> None:
    keys = {unit_key("user", b"u1"), unit_key("user", b"u2"), unit_key("device", b"u1")}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}
    assert unit_key("user", b"u1") == "6daf61bb15aa1c6ea28586674afdbd35"


def test_nothing_is_kept_of_a_unit_that_gets_no_variant() -> None:
    kept: dict[str, Kept] = {}
    assert served(kept, Ids("u"), None) is None
    assert served(kept, Ids("u", "d"), None) is None
    assert kept == {}


def test_what_came_first_stays() -> None:
    kept: dict[str, Kept] = {}
    assert served(kept, Ids("u"), at(1, "a")) == at(1, "a")
    assert served(kept, Ids("u"), at(2, "b")) == at(1, "a")


def test_the_customer_goes_on_with_what_the_device_was_served() -> None:
    kept: dict[str, Kept] = {}
    served(kept, Ids(None, "d"), at(1, "a"))
    assert served(kept, Ids("u", "d"), at(2, "b")) == at(1, "a")
    assert kept == {"u": at(1, "a"), "d": at(1, "a", belongs_to="u")}
    assert served(kept, Ids("u"), at(3, "b")) == at(1, "a")


def test_a_new_device_goes_on_with_what_the_customer_was_served() -> None:
    kept: dict[str, Kept] = {}
    served(kept, Ids("u"), at(1, "a"))
    served(kept, Ids("u", "d"), at(2, "b"))
    assert served(kept, Ids(None, "d"), at(3, "b")) == at(1, "a")


@pytest.mark.parametrize("device_s", [1, 3])
def test_of_two_variants_the_first_goes_on_and_both_are_tainted(device_s: int) -> None:
    kept: dict[str, Kept] = {}
    served(kept, Ids("u"), at(2, "a"))
    served(kept, Ids(None, "d"), at(device_s, "b"))
    first = at(2, "a", tainted=True) if device_s > 2 else at(device_s, "b", tainted=True)
    for ids in (Ids("u", "d"), Ids("u"), Ids(None, "d")):
        assert served(kept, ids, at(9)) == first


def test_a_device_follows_its_customer_who_met_an_earlier_one() -> None:
    kept: dict[str, Kept] = {}
    served(kept, Ids(None, "early"), at(1, "b"))
    served(kept, Ids("u", "late"), at(2, "a"))
    served(kept, Ids("u", "early"), at(3))
    assert served(kept, Ids(None, "late"), at(4)) == at(1, "b", tainted=True)


def test_a_shared_device_keeps_its_first_owner_and_its_variant() -> None:
    kept: dict[str, Kept] = {}
    served(kept, Ids("anna", "d"), at(2, "a"))
    served(kept, Ids("bert"), at(1, "b"))
    assert served(kept, Ids("bert", "d"), at(3)) == at(1, "b", tainted=True)
    assert served(kept, Ids("anna"), at(4)) == at(2, "a")
    assert kept["d"].belongs_to == "anna"
    assert kept["d"].variant == "a"
    assert kept["d"].tainted


@dataclass
class World:
    """Customers u0 to u2, each with devices of its own, served by a hash of whatever id counts."""

    kept: dict[str, Kept] = field(default_factory=dict)
    second: int = 0

    def serve(self, ids: Ids) -> Kept:
        self.second += 1
        key = ids.own or ids.anonymous
        assert key is not None
        found = served(self.kept, ids, at(self.second, "ab"[hash_of(key)]))
        assert found is not None
        return found


def hash_of(key: str) -> int:
    return int(unit_key("t", key.encode()), 16) % 2


visits = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(["own", "device", "both"])),
    max_size=30,
)


@given(visits)
def test_in_any_order_a_person_is_served_one_variant_once_the_ids_came_together(
    seen: list[tuple[int, int, str]],
) -> None:
    world = World()
    told: dict[int, list[tuple[str, str]]] = {}
    together: dict[int, set[str]] = {}
    for user, device, how in seen:
        own, anonymous = f"u{user}", f"u{user}-d{device}"
        ids = Ids(own if how != "device" else None, anonymous if how != "own" else None)
        kept = world.serve(ids)
        told.setdefault(user, []).append((own if how == "own" else anonymous, kept.variant))
        if how == "both":
            together.setdefault(user, {own}).add(anonymous)
            told[user].append((own, kept.variant))
        group = together.get(user, set())
        variants = {first_served(world.kept, Ids(own))} if group else set()
        for key in group - {own}:
            variants.add(first_served(world.kept, Ids(None, key)))
        assert len({one.variant for one in variants if one}) <= 1
        own_now = world.kept.get(own)
        if group and own_now is not None:
            was_told = {variant for key, variant in told[user] if key in group}
            assert own_now.tainted == (len(was_told) > 1)


@given(visits)
def test_serving_again_changes_nothing(seen: list[tuple[int, int, str]]) -> None:
    world = World()
    for user, device, how in seen:
        own = f"u{user}" if how != "device" else None
        anonymous = f"d{device}" if how != "own" else None
        world.serve(Ids(own, anonymous))
        before = dict(world.kept)
        world.serve(Ids(own, anonymous))
        assert world.kept == before
