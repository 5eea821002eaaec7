"""What units were served first: every promise of the port, on every database, and who asks it."""

import asyncio
import datetime as dt
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from touchstone_assignment.decision import Decision, Reason

from services.assignment.adapters.sql import migrate_assignment
from services.assignment.adapters.sql_sticky import SqlStickyStore
from services.assignment.application.sticky import StickyColumn, StickyKeeper
from services.assignment.domain.sticky import Ids, Kept, unit_key
from services.assignment.serving_ports import KeptUnits, StickyStore
from shared.errors import Code, DomainError
from shared.state.database import Database
from shared.testing.fakes import FixedClock

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
A, B = unit_key("user", b"a"), unit_key("user", b"b")
OUTCOMES = {key: Decision(key, Reason.SPLIT, key) for key in ("control", "green")}
CONTROL, GREEN = OUTCOMES["control"], OUTCOMES["green"]
NOT_TARGETED = Decision(None, Reason.NOT_TARGETED)


@pytest.fixture
def store(database: Database) -> StickyStore:
    migrate_assignment(database)
    return SqlStickyStore(database)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def kept(variant: str = "green", second: int = 0, **changes: object) -> Kept:
    return Kept(variant, 7, START + dt.timedelta(seconds=second), **changes)  # type: ignore[arg-type]


def put(store: StickyStore, project: str, wanted: KeptUnits) -> KeptUnits:
    experiments = {experiment for experiment, _ in wanted}
    units = {unit for _, unit in wanted}
    return store.keep(project, experiments, units, lambda found: {**wanted, **found})


def test_what_was_kept_is_read_as_it_was(store: StickyStore) -> None:
    wanted = {("button", A): kept(), ("button", B): kept("control", tainted=True, belongs_to=A)}
    assert put(store, "acme", wanted) == wanted
    assert store.read("acme", {"button"}, {A, B}) == wanted
    assert store.read("acme", {"button", "other"}, {A}) == {("button", A): kept()}
    assert store.read("acme", {"other"}, {A, B}) == {}
    assert store.read("rival", {"button"}, {A, B}) == {}


def test_a_unit_brings_along_the_one_that_it_belongs_to(store: StickyStore) -> None:
    wanted = {("button", A): kept(), ("button", B): kept(belongs_to=A)}
    put(store, "acme", wanted)
    assert store.read("acme", {"button"}, {B}) == wanted


def test_the_first_to_keep_a_unit_decides_for_the_second(store: StickyStore) -> None:
    put(store, "acme", {("button", A): kept("green")})
    second = put(store, "acme", {("button", A): kept("control"), ("button", B): kept("control")})
    assert second == {("button", A): kept("green"), ("button", B): kept("control")}


def test_what_is_there_is_replaced(store: StickyStore) -> None:
    put(store, "acme", {("button", A): kept("green")})
    changed = {("button", A): kept("control", tainted=True)}
    store.keep("acme", {"button"}, {A}, lambda _found: changed)
    assert store.read("acme", {"button"}, {A}) == changed


def test_an_error_in_between_keeps_nothing(store: StickyStore) -> None:
    calls: list[KeptUnits] = []

    def fail_later(found: KeptUnits) -> KeptUnits:
        calls.append(found)
        if len(calls) == 2:
            raise LookupError
        return {("button", A): kept()}

    with pytest.raises(LookupError):
        store.keep("acme", {"button"}, {A}, fail_later)
    assert store.read("acme", {"button"}, {A}) == {}


def test_many_units_of_many_experiments_at_once(store: StickyStore) -> None:
    units = [unit_key("user", b"%d" % number) for number in range(10_000)]
    wanted = {("button", unit): kept() for unit in units}
    put(store, "acme", wanted)
    assert store.read("acme", {f"e{n}" for n in range(999)} | {"button"}, units) == wanted


def test_of_many_who_come_at_once_all_get_the_same(
    store: StickyStore, threads: ThreadPoolExecutor
) -> None:
    units = [unit_key("user", b"%d" % number) for number in range(20)]
    start = threading.Barrier(8)

    def keep(side: int) -> KeptUnits:
        start.wait()
        # Each begins elsewhere: what one holds the other wants.
        order = units[side:] + units[:side]
        return put(store, "acme", {("button", unit): kept(f"v{side}") for unit in order})

    answers = list(threads.map(keep, range(8)))
    stored = store.read("acme", {"button"}, units)
    assert len(stored) == 20
    assert all(answer == stored for answer in answers)


def test_a_store_that_is_away_is_unavailable(store: StickyStore, database: Database) -> None:
    database.close()
    for call in (
        lambda: store.read("acme", {"button"}, {A}),
        lambda: put(store, "acme", {("button", A): kept()}),
    ):
        with pytest.raises(DomainError) as caught:
            call()
        assert caught.value.code is Code.UNAVAILABLE


def column(
    ids: Sequence[Ids | None], *decisions: Decision, sticky: bool = True, **changes: Decision
) -> StickyColumn:
    return StickyColumn("button", sticky, OUTCOMES | changes, ids, decisions)


class Asked:
    """A keeper over the store, and how often it asked."""

    def __init__(self, store: StickyStore, threads: ThreadPoolExecutor) -> None:
        self._store = store
        self.clock = FixedClock(START)
        self.calls: list[str] = []
        self.hang = threading.Event()
        self.hang.set()
        self.keeper = StickyKeeper(self, self.clock, threads, patience_s=0.5, pause_s=0.1)

    def read(self, *what: object) -> KeptUnits:
        self.calls.append("read")
        self.hang.wait()
        return self._store.read(*what)  # type: ignore[arg-type]

    def keep(self, *what: object) -> KeptUnits:
        self.calls.append("keep")
        return self._store.keep(*what)  # type: ignore[arg-type]

    async def serve(self, one: StickyColumn) -> list[Decision]:
        self.clock.advance(dt.timedelta(seconds=1))
        (cells,) = await self.keeper.apply("acme", 7, [one])
        return list(cells)


@pytest.fixture
def asked(store: StickyStore, threads: ThreadPoolExecutor) -> Asked:
    return Asked(store, threads)


def sticky(outcome: Decision, tainted: bool = False) -> Decision:
    return Decision(outcome.variant, Reason.STICKY, outcome.value, tainted=tainted)


async def test_a_call_reads_once_and_writes_once_when_somebody_is_new(asked: Asked) -> None:
    assert await asked.serve(column([Ids(A), Ids(B)], GREEN, CONTROL)) == [GREEN, CONTROL]
    assert asked.calls == ["read", "keep"]
    again = await asked.serve(column([Ids(A), Ids(B)], CONTROL, CONTROL))
    assert again == [sticky(GREEN), sticky(CONTROL)]
    assert asked.calls == ["read", "keep", "read"]


async def test_a_call_without_ids_that_count_asks_nothing(asked: Asked) -> None:
    missing = Decision(None, Reason.MISSING_UNIT)
    assert await asked.serve(column([None], missing)) == [missing]
    assert asked.calls == []


@pytest.mark.parametrize(
    ("reason", "is_sticky", "stands"),
    [
        (Reason.NOT_IN_SLOTS, False, False),
        (Reason.NOT_IN_DOMAIN, False, False),
        (Reason.VARIANT_DROPPED, False, False),
        (Reason.NOT_TARGETED, True, False),
        (Reason.NOT_TARGETED, False, True),
        (Reason.KILLED, True, True),
        (Reason.NOT_RUNNING, True, True),
        (Reason.HOLDOUT, True, True),
        (Reason.PREREQUISITE, True, True),
        (Reason.FORCED, True, True),
    ],
)
async def test_what_stands_above_what_is_kept(
    asked: Asked, reason: Reason, is_sticky: bool, stands: bool
) -> None:
    await asked.serve(column([Ids(A)], GREEN, sticky=is_sticky))
    said = Decision(None, reason)
    (found,) = await asked.serve(column([Ids(A)], said, sticky=is_sticky))
    assert found == (said if stands else sticky(GREEN))


@pytest.mark.parametrize("said", [NOT_TARGETED, Decision("green", Reason.FORCED)])
async def test_who_is_out_or_forced_is_not_kept(asked: Asked, said: Decision) -> None:
    await asked.serve(column([Ids(A)], said))
    assert await asked.serve(column([Ids(A)], CONTROL)) == [CONTROL]


async def test_a_kept_variant_that_is_dropped_is_not_replaced(asked: Asked) -> None:
    await asked.serve(column([Ids(A)], GREEN))
    only_control = StickyColumn("button", True, {"control": CONTROL}, [Ids(A)], [CONTROL])
    (found,) = await asked.serve(only_control)
    assert found == Decision(None, Reason.VARIANT_DROPPED)


async def test_the_order_of_units_in_a_call_does_not_matter(asked: Asked) -> None:
    both, device = Ids(A, B), Ids(None, B)
    assert await asked.serve(column([device, both], CONTROL, GREEN)) == [sticky(GREEN), GREEN]


async def test_a_tainted_unit_is_told_from_then_on(asked: Asked) -> None:
    await asked.serve(column([Ids(None, B)], GREEN))
    await asked.serve(column([Ids(A)], CONTROL))
    for ids in (Ids(A, B), Ids(A), Ids(None, B)):
        assert await asked.serve(column([ids], CONTROL)) == [sticky(GREEN, tainted=True)]


async def test_while_the_store_is_away_the_rules_decide_and_it_is_said_once(
    asked: Asked, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="touchstone.assignment")
    await asked.serve(column([Ids(A)], GREEN))
    database.close()
    for _ in range(5):
        assert await asked.serve(column([Ids(A)], CONTROL)) == [CONTROL]
    assert asked.calls == ["read", "keep", "read"]
    await asyncio.sleep(0.15)
    assert await asked.serve(column([Ids(A)], CONTROL)) == [CONTROL]
    assert asked.calls == ["read", "keep", "read", "read"]
    assert len(caplog.messages) == 1
    assert "the rules decide alone" in caplog.messages[0]


async def test_a_store_that_hangs_holds_nobody_up(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="touchstone.assignment")
    asked.hang.clear()
    assert await asked.serve(column([Ids(A)], GREEN)) == [GREEN]
    asked.hang.set()
    await asyncio.sleep(0.15)
    assert await asked.serve(column([Ids(A)], CONTROL)) == [CONTROL]
    assert await asked.serve(column([Ids(A)], GREEN)) == [sticky(CONTROL)]
    assert [message.split()[-2:] for message in caplog.messages] == [
        ["decide", "alone"],
        ["read", "again"],
    ]
