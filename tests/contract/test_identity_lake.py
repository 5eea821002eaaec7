"""Identities read from the event tables, and the events that belong to units by them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from shared.errors import DomainError
from shared.identity.belonging import Stitching
from shared.identity.events import owned_events
from shared.identity.graph import EdgeState
from shared.identity.identity import Identity
from shared.identity.ownership import Ownership
from shared.identity.policy import DEFAULT_POLICY, IdentityPolicy, IdType, StoredPolicy
from shared.identity.reader import IdentityLimits, IdentityReader
from shared.lake.layout import unit_key
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.watermark import Watermark, write_watermark
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
NOW = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
Unit = tuple[str, str]


class Untouchable(Mapping[str, Any]):
    """Tables that must not be read."""

    def __getitem__(self, name: str) -> Any:
        raise AssertionError(f"{name} was read")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


class Lake:
    """A lake that events are put into one batch at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer = LakeWriter(folder, "journal", FixedClock(NOW))
        self.tables = LakeEventTables(folder)
        self.policies = FixedPolicies()
        self.reader = IdentityReader(self.policies)
        self.position = 0
        self.ids = itertools.count()

    def add(self, table: str, *rows: dict[str, Any], project: str = "acme") -> Watermark:
        self.position += 1
        complete = [
            {
                "event_id": f"e{next(self.ids):06}",
                "project": project,
                "position": self.position,
                "event_time": START,
                "content_digest": 1_000_003 * self.position,
            }
            | row
            for row in rows
        ]
        return self.writer.append({table: table_of(table, complete)}, self.position)

    def link(self, *pairs: tuple[Unit, Unit], **more: Any) -> Watermark:
        return self.add("identifies", *(link(one, other, **more) for one, other in pairs))

    def identity(self, project: str = "acme", reader: IdentityReader | None = None) -> Identity:
        snapshot = self.tables.snapshot(project)
        with snapshot.read() as tables:
            return (reader or self.reader).of(project, snapshot.watermark, tables)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def at(minutes: float) -> dt.datetime:
    return START + dt.timedelta(minutes=minutes)


def link(one: Unit, other: Unit, **more: Any) -> dict[str, Any]:
    return {
        "unit_type": one[0],
        "unit_id": one[1],
        "other_unit_type": other[0],
        "other_unit_id": other[1],
    } | more


def states(identity: Identity) -> list[str]:
    return [EdgeState(state).name for state in identity.graph.states]


def members(identity: Identity, unit: Unit) -> list[Unit]:
    (found,) = identity.resolve([unit])
    return [member.unit for member in found.members]


PHONE, TABLET = ("device", "phone"), ("device", "tablet")
ANN, BOB = ("customer", "ann"), ("customer", "bob")


def test_a_project_without_links_has_no_identity_and_asks_for_no_policy(lake: Lake) -> None:
    lake.add("exposures", {"unit_id": "u", "experiment": "x", "variant": "a"})
    lake.link((PHONE, ANN))
    identity = lake.identity("other")
    assert (identity.version, len(identity.log), lake.policies.asked) == ("", 0, 0)
    assert members(identity, PHONE) == [PHONE]
    assert members(lake.identity(), PHONE) == [PHONE, ANN]


def test_nothing_is_read_while_no_link_was_added(lake: Lake) -> None:
    lake.link((PHONE, ANN))
    before = lake.identity()
    watermark = lake.add("exposures", {"unit_id": "u", "experiment": "x", "variant": "a"})
    assert lake.reader.of("acme", watermark, Untouchable()) is before


def test_only_new_entries_are_read_and_the_answer_is_that_of_a_new_reader(lake: Lake) -> None:
    generator = np.random.default_rng(5)
    for _ in range(12):
        pairs = generator.integers(0, 25, (9, 2)).tolist()
        lake.link(
            *((("device", f"d{a}"), ("customer", f"c{b}")) for a, b in pairs),
            action="unlink" if generator.random() < 0.2 else None,
        )
        known, fresh = lake.identity(), lake.identity(reader=IdentityReader(FixedPolicies()))
        assert known.version == fresh.version
        assert states(known) == states(fresh)
        assert known.log.names.equals(fresh.log.names)
        assert known.graph.canonical.tolist() == fresh.graph.canonical.tolist()
        assert known.log.event_ids.equals(fresh.log.event_ids)


def test_the_log_is_ordered_by_position_then_event_time_then_event_id(lake: Lake) -> None:
    lake.add(
        "identifies",
        link(PHONE, BOB, event_id="a", event_time=at(2)),
        link(PHONE, ANN, event_id="c", event_time=at(1)),
        link(PHONE, ("customer", "cid"), event_id="b", event_time=at(1)),
    )
    lake.add("identifies", link(TABLET, BOB, event_id="0", event_time=at(0)))
    identity = lake.identity()
    assert identity.log.event_ids.to_pylist() == ["b", "c", "a", "0"]
    assert states(identity) == ["ACTIVE", "REFUSED_LIMIT", "REFUSED_LIMIT", "ACTIVE"]


def test_the_order_in_which_the_rows_of_one_position_are_stored_is_of_no_account(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(9)
    rows = [
        link(
            ("device", f"d{generator.integers(9)}"),
            ("customer", f"c{generator.integers(9)}"),
            event_id=f"l{number}",
            event_time=at(int(generator.integers(5))),
            content_digest=int(generator.integers(2**62)) * int(generator.choice([-1, 1])),
            action="unlink" if generator.random() < 0.2 else None,
        )
        for number in range(40)
    ]
    identities = []
    for name, order in (("one", range(40)), ("other", generator.permutation(40).tolist())):
        lake = Lake(tmp_path / name)
        lake.add("identifies", *(rows[number] for number in order))
        identities.append(lake.identity())
    one, other = identities
    assert one.version == other.version
    assert one.log.event_ids.equals(other.log.event_ids)
    assert states(one) == states(other)
    assert one.graph.canonical.tolist() == other.graph.canonical.tolist()


def test_projects_that_were_not_asked_about_lately_are_read_again(lake: Lake) -> None:
    reader = IdentityReader(lake.policies, IdentityLimits(cached_edges=1))
    lake.link((PHONE, ANN))
    lake.add("identifies", link(PHONE, BOB), project="other")
    before = lake.identity(reader=reader)
    assert members(lake.identity("other", reader), PHONE) == [PHONE, BOB]
    after = lake.identity(reader=reader)
    assert after is not before
    assert (after.version, members(after, PHONE)) == (before.version, [PHONE, ANN])
    assert lake.identity(reader=reader) is after


def test_an_unlink_takes_back_what_came_before_and_a_later_link_counts(lake: Lake) -> None:
    lake.link((PHONE, ANN), (TABLET, ANN))
    assert members(lake.identity(), ANN) == [PHONE, ANN, TABLET]
    lake.link((ANN, PHONE), action="unlink")
    assert members(lake.identity(), ANN) == [ANN, TABLET]
    lake.link((PHONE, ANN))
    assert members(lake.identity(), ANN) == [PHONE, ANN, TABLET]


@pytest.mark.parametrize(
    "placeholder", ["0", "00000000-0000-0000-0000-000000000000", " NULL ", "-1", "Anonymous", "--"]
)
def test_placeholders_never_link(lake: Lake, placeholder: str) -> None:
    lake.link((PHONE, ("login", placeholder)), (TABLET, ("login", placeholder)))
    identity = lake.identity()
    assert states(identity) == ["REFUSED_BLOCKED_ID"] * 2
    assert members(identity, TABLET) == [TABLET]


def test_another_policy_is_another_identity_of_the_same_log(lake: Lake) -> None:
    lake.link((PHONE, ANN), (PHONE, BOB))
    before = lake.identity()
    lake.policies.stored = StoredPolicy(IdentityPolicy((IdType("customer", 2, 1),)), 1, NOW)
    after = lake.identity()
    assert states(before) == ["ACTIVE", "REFUSED_LIMIT"]
    assert states(after) == ["ACTIVE", "ACTIVE"]
    assert after.resolve([BOB])[0].canonical == ANN
    assert (before.version[:2], after.version[:2]) == ("p0", "p1")
    assert before.version[2:] == after.version[2:]


def test_what_was_removed_from_the_table_is_forgotten(lake: Lake) -> None:
    lake.link((PHONE, ANN))
    lake.link((TABLET, BOB))
    before = lake.identity()
    table = DeltaTable(lake.folder / "identifies")
    table.delete("unit_id = 'phone'")
    versions = {**lake.writer.watermark.table_versions, "identifies": table.version()}
    write_watermark(lake.folder, Watermark("journal", lake.position, versions, NOW))
    after = lake.identity()
    assert members(after, PHONE) == [PHONE]
    assert members(after, TABLET) == [TABLET, BOB]
    assert after.version != before.version


def test_an_older_cut_gives_its_own_answer_and_spoils_no_later_one(lake: Lake) -> None:
    lake.link((PHONE, ANN))
    older = lake.tables.snapshot("acme")
    lake.link((TABLET, ANN))
    newest = lake.identity()
    with older.read() as tables:
        assert len(members(lake.reader.of("acme", older.watermark, tables), ANN)) == 2
    assert lake.identity() is newest
    assert len(members(newest, ANN)) == 3


def test_more_links_than_may_be_kept_are_refused(lake: Lake) -> None:
    lake.link((PHONE, ANN), (TABLET, ANN), (PHONE, TABLET))
    reader = IdentityReader(lake.policies, IdentityLimits(max_edges=2))
    with pytest.raises(DomainError) as caught:
        lake.identity(reader=reader)
    assert caught.value.reason == "LIMIT_EXCEEDED"


def test_members_tell_when_they_were_first_seen(lake: Lake) -> None:
    lake.link((PHONE, ANN), event_time=at(5))
    lake.link((TABLET, PHONE), event_time=at(3))
    (found,) = lake.identity().resolve([TABLET])
    assert found.canonical == ANN
    assert [(m.unit, m.first_seen) for m in found.members] == [
        (PHONE, at(5)),
        (ANN, at(5)),
        (TABLET, at(3)),
    ]


def visit(unit: Unit, minutes: float, *linked: Unit, **more: Any) -> dict[str, Any]:
    names = [{"type": id_type, "id": unit_id} for id_type, unit_id in linked]
    row = {"unit_type": unit[0], "unit_id": unit[1], "event_time": at(minutes)}
    return row | {"event_name": "visit", "linked_units": names or None} | more


def owned(lake: Lake, stitching: Stitching, merged: bool = True) -> tuple[dict[str, str], int]:
    """The customer of each conversion, and how many are ambiguous."""
    snapshot = lake.tables.snapshot("acme")
    with snapshot.read() as tables:
        identity = lake.reader.of("acme", snapshot.watermark, tables)
        ownership = Ownership("customer", identity, stitching, merged)
        found = owned_events(tables["conversions"], ("event_time", "event_id"), ownership)
        rows = found.rows.to_pyarrow().to_pylist()
    assert len(rows) == len({row["event_id"] for row in rows}), "an event was doubled"
    return {row["event_id"]: row["unit_id"] for row in rows}, found.ambiguous


def test_what_an_event_says_itself_comes_before_what_is_known(lake: Lake) -> None:
    lake.link((TABLET, ANN), (("session", "s"), BOB))
    lake.add(
        "conversions",
        visit(TABLET, 1, event_id="own"),
        visit(TABLET, 1, BOB, event_id="linked"),
        visit(BOB, 1, ANN, event_id="direct"),
        visit(PHONE, 1, ("session", "x"), ("session", "s"), event_id="session"),
        visit(PHONE, 1, event_id="nobody"),
    )
    found, ambiguous = owned(lake, Stitching.RETROACTIVE)
    assert found == {"own": "ann", "linked": "bob", "direct": "bob", "session": "bob"}
    assert ambiguous == 0


def test_linked_units_are_no_entries_of_the_log(lake: Lake) -> None:
    lake.add("conversions", visit(PHONE, 1, ANN, event_id="said"), visit(PHONE, 2, event_id="not"))
    assert owned(lake, Stitching.RETROACTIVE) == ({"said": "ann"}, 0)


def test_a_link_counts_from_its_time_on_at_a_point_in_time(lake: Lake) -> None:
    lake.link((PHONE, ANN), event_time=at(10))
    lake.add("conversions", *(visit(PHONE, m, event_id=f"{m}") for m in (9.99, 10, 11)))
    assert owned(lake, Stitching.POINT_IN_TIME)[0] == {"10": "ann", "11": "ann"}
    assert owned(lake, Stitching.RETROACTIVE)[0] == {"9.99": "ann", "10": "ann", "11": "ann"}


def test_customers_of_one_identity_stay_apart_or_are_one(lake: Lake) -> None:
    lake.policies.stored = StoredPolicy(IdentityPolicy((IdType("customer", 2),)), 1, NOW)
    lake.link((PHONE, ANN), (PHONE, BOB))
    lake.add("conversions", visit(PHONE, 1, event_id="phone"), visit(BOB, 1, event_id="bob"))
    assert owned(lake, Stitching.RETROACTIVE) == ({"phone": "ann", "bob": "ann"}, 0)
    assert owned(lake, Stitching.RETROACTIVE, merged=False) == ({"bob": "bob"}, 1)


def expected_owner(
    identity: Identity, event: dict[str, Any], stitching: Stitching, merged: bool
) -> tuple[str | None, bool]:
    """The rule of the module, for one event."""
    units = [(event["unit_type"], event["unit_id"])]
    units += [(one["type"], one["id"]) for one in event["linked_units"] or []]
    as_of = None
    if stitching is Stitching.POINT_IN_TIME:
        as_of = (event["event_time"] - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(
            microseconds=1
        )
    held = [
        [member.unit[1] for member in found.members if member.unit[0] == "customer"]
        for found in identity.resolve(units, as_of)
    ]
    named = next((place for place, unit in enumerate(units) if unit[0] == "customer"), None)
    if named is not None:
        return (held[named][0] if merged else units[named][1]), False
    alone = next((of for of in held if len(of) == 1 or (of and merged)), None)
    return (alone[0] if alone else None), alone is None and any(held)


@pytest.mark.parametrize("stitching", Stitching)
@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("limit", [1, 3])
def test_events_have_the_owner_that_the_rule_gives(
    lake: Lake, stitching: Stitching, merged: bool, limit: int
) -> None:
    types = tuple(IdType(name, limit) for name in ("customer", "device", "session"))
    lake.policies.stored = StoredPolicy(IdentityPolicy(types), 1, NOW)
    generator = np.random.default_rng(limit)

    def unit() -> Unit:
        return str(generator.choice(["customer", "device", "session"])), str(generator.integers(12))

    for _ in range(5):
        lake.add(
            "identifies",
            *(link(unit(), unit(), event_time=at(int(generator.integers(20)))) for _ in range(8)),
        )
    events = [
        visit(
            unit(),
            int(generator.integers(20)),
            *(unit() for _ in range(generator.integers(0, 3))),
            event_id=f"v{number}",
        )
        for number in range(300)
    ]
    lake.add("conversions", *events)
    identity = lake.identity()
    expected = {e["event_id"]: expected_owner(identity, e, stitching, merged) for e in events}
    found, ambiguous = owned(lake, stitching, merged)
    assert found == {name: owner for name, (owner, _) in expected.items() if owner is not None}
    assert ambiguous == sum(several for _, several in expected.values())
    assert len(found) > 100
    assert merged or limit == 1 or ambiguous > 5


def test_units_are_given_by_key_where_that_is_asked_for(lake: Lake) -> None:
    lake.link((PHONE, ANN))
    events: Sequence[dict[str, Any]] = (visit(PHONE, 1), visit(TABLET, 1, BOB), visit(ANN, 1))
    lake.add("conversions", *events)
    snapshot = lake.tables.snapshot("acme")
    with snapshot.read() as tables:
        identity = lake.reader.of("acme", snapshot.watermark, tables)
        ownership = Ownership("customer", identity, as_key=True)
        found = owned_events(tables["conversions"], ("event_time",), ownership).rows
        keys = sorted(found.to_pyarrow()["unit_key"].to_pylist())
    assert keys == sorted([unit_key(*ANN), unit_key(*ANN), unit_key(*BOB)])
    assert DEFAULT_POLICY.limit("customer") == 1
