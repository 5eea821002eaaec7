"""Spend: the promises of its store over every database, and its RPCs over a real server."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from touchstone.attribution.v1 import spend_service_pb2 as pb
from touchstone.attribution.v1 import spend_service_pb2_grpc as rpc

from services.attribution.adapters.spend_sql import SqlSpendStore, migrate_spend
from services.attribution.composition import compose
from services.attribution.domain.economics import Spend, SpendKey
from services.attribution.settings import Settings
from services.attribution.spend_ports import SpendSelection
from shared.security.audit import SqlAuditLog
from shared.security.caller import Role
from shared.server.run import Application, start_server
from shared.state.database import Database
from shared.testing.ports import free_port
from tests.contract.attribution_world import key_of

DAY = dt.date(2026, 1, 31)


def spent(source: str, channel: str, campaign: str, day: int, amount: float = 1.0) -> Spend:
    key = SpendKey(source, channel, campaign, DAY + dt.timedelta(days=day))
    return Spend(key, amount, "CNY")


ROWS = (
    spent("a", "Ads", "", 0),
    spent("a", "ads", "", 0, 0.1),
    spent("b", "ads", "", 0),
    spent("a", "ads", "", 1),
    spent("a", "ads", "Ä'%_ x", 0, 1e15),
    spent("a", "mail ", "", 0, 0.0),
)


@pytest.fixture
def database(database: Database) -> Database:
    migrate_spend(database)
    return database


def test_rows_are_kept_exactly_and_listed_in_the_order_of_their_keys(database: Database) -> None:
    with database.begin() as connection:
        store = SqlSpendStore(connection)
        store.put("one", ROWS)
        store.put("two", ROWS[:1])
    with database.read() as connection:
        store = SqlSpendStore(connection)
        everything = store.page(SpendSelection("one"), None, 100)
        assert everything == sorted(ROWS, key=lambda row: row.key.sort_key())
        some = store.page(SpendSelection("one"), everything[1].key, 2)
        assert some == everything[2:4]
        assert store.page(SpendSelection("one"), everything[-1].key, 2) == []
        assert store.page(SpendSelection("three"), None, 2) == []
        mail = SpendSelection("one", source="a", channel="ads", last_day=DAY)
        assert [row.amount for row in store.page(mail, None, 9)] == [0.1, 1e15]
        later = SpendSelection("one", first_day=DAY + dt.timedelta(days=1))
        assert store.page(later, None, 9) == [ROWS[3]]


def test_a_key_is_there_once_and_what_is_deleted_is_gone(database: Database) -> None:
    dearer = [replace(row, amount=7.0, currency="USD") for row in ROWS[:2]]
    many = [spent("many", "ads", f"c{n}", 0) for n in range(1_200)]
    with database.begin() as connection:
        store = SqlSpendStore(connection)
        store.put("one", ROWS)
        store.put("one", dearer)
        store.put("two", ROWS)
        store.put("one", many)
        store.put("one", [])
    with database.begin() as connection:
        store = SqlSpendStore(connection)
        keys = [row.key for row in (*ROWS, *many)]
        known = {row.key: row for row in store.known("one", keys)}
        assert len(known) == len(keys)
        assert [known[row.key] for row in dearer] == dearer
        assert store.known("one", [SpendKey("a", "ads", "none", DAY)]) == []
        store.remove("one", [many[3].key, SpendKey("a", "ads", "none", DAY)])
        assert len(store.known("one", keys)) == len(keys) - 1
        assert store.delete(SpendSelection("one", source="many", last_day=DAY)) == 1_199
        assert store.delete(SpendSelection("one", source="many")) == 0
        assert store.delete(SpendSelection("one", source="a", channel="ads")) == 3
    with database.read() as connection:
        store = SqlSpendStore(connection)
        left = [row.key.source for row in store.page(SpendSelection("one"), None, 9)]
        assert left == ["a", "b", "a"]
        assert len(store.page(SpendSelection("two"), None, 9)) == len(ROWS)


@dataclass
class World:
    """The server, and keys of an experimenter, a viewer and another project."""

    application: Application
    spend: Any
    keys: dict[str, str]

    async def call(self, method: str, request: Any, who: str = "demo") -> Any:
        metadata = (("authorization", f"Bearer {self.keys[who]}"),)
        return await getattr(self.spend, method)(request, metadata=metadata)

    async def put(self, *rows: pb.Spend, **fields: Any) -> pb.ImportSpendResponse:
        request = pb.ImportSpendRequest(parent="projects/demo", rows=rows, **fields)
        found: pb.ImportSpendResponse = await self.call("ImportSpend", request)
        return found


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    settings = Settings(
        data=tmp_path,
        attribution_address=f"127.0.0.1:{free_port()}",
        database_url=database_url,
    )
    application = compose(settings)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        yield World(
            application,
            rpc.SpendServiceStub(channel),
            {
                "demo": key_of(application, "demo", Role.EXPERIMENTER),
                "viewer": key_of(application, "demo", Role.VIEWER),
                "other": key_of(application, "other", Role.VIEWER, Role.EXPERIMENTER),
            },
        )
    await running.drain()


def row(day: str = "2026-01-31", amount: float = 5.0, **fields: str) -> pb.Spend:
    asked = {"source": "books", "channel": "ads", "currency": "CNY"} | fields
    return pb.Spend(day=day, amount=amount, **asked)


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    code: grpc.StatusCode = refused.value.code()
    return code


def counts(done: pb.ImportSpendResponse) -> tuple[int, int, int]:
    return done.added, done.replaced, done.unchanged


async def test_importing_again_counts_nothing_twice(world: World) -> None:
    rows = [row(), row("2026-02-01"), row(campaign="spring")]
    assert counts(await world.put(*rows)) == (3, 0, 0)
    assert counts(await world.put(*rows)) == (0, 0, 3)
    assert counts(await world.put(row(amount=6.0), *rows[1:])) == (0, 1, 2)
    refuse = {"existing": pb.EXISTING_SPEND_REFUSE}
    assert counts(await world.put(row(amount=6.0), row("2026-02-02"), **refuse)) == (1, 0, 1)
    assert await code_of(world.put(*rows, **refuse)) is grpc.StatusCode.ALREADY_EXISTS
    contradiction = world.put(row(), row(amount=6.0))
    assert await code_of(contradiction) is grpc.StatusCode.INVALID_ARGUMENT
    assert counts(await world.put(row(amount=9.0), validate_only=True)) == (0, 1, 0)

    listed = await world.call("ListSpend", pb.ListSpendRequest(parent="projects/demo"), "viewer")
    assert [(one.campaign, one.day, one.amount) for one in listed.rows] == [
        ("", "2026-01-31", 6.0),
        ("", "2026-02-01", 5.0),
        ("", "2026-02-02", 5.0),
        ("spring", "2026-01-31", 5.0),
    ]


async def test_a_renamed_campaign_is_not_counted_under_both_names(world: World) -> None:
    others = [row(source="agency"), row("2026-02-02", campaign="spring")]
    await world.put(row(campaign="spring"), row(campaign="brand"), row("2026-02-01"), *others)
    told = [row(campaign="spring-26"), row(campaign="brand"), row("2026-02-01", 6.0)]
    days = {"existing": pb.EXISTING_SPEND_REPLACE_DAYS}

    tried = await world.put(*told, validate_only=True, **days)
    done = await world.put(*told, **days)
    again = await world.put(*told, **days)

    assert (counts(done), done.deleted) == ((1, 1, 1), 1)
    assert tried == done
    assert (counts(again), again.deleted) == ((0, 0, 3), 0)
    listed = await world.call("ListSpend", pb.ListSpendRequest(parent="projects/demo"))
    # Other sources and other days are left alone.
    assert [(one.campaign, one.day[-5:], one.source, one.amount) for one in listed.rows] == [
        ("", "01-31", "agency", 5.0),
        ("", "02-01", "books", 6.0),
        ("brand", "01-31", "books", 5.0),
        ("spring", "02-02", "books", 5.0),
        ("spring-26", "01-31", "books", 5.0),
    ]


async def test_an_import_is_repeated_by_its_request_id_and_stands_in_the_audit_log(
    world: World,
) -> None:
    once = await asyncio.gather(*(world.put(row(), request_id="r1") for _ in range(2)))
    assert [counts(done) for done in once] == [(1, 0, 0)] * 2
    with world.application.platform.database.read() as connection:
        log = SqlAuditLog(connection, world.application.platform.audit_keys)
        (entry,) = [each.event for each in log.entries("demo", limit=9)]
    assert entry.method == "/touchstone.attribution.v1.SpendService/ImportSpend"
    assert entry.resource == "projects/demo/spend"


async def test_spend_is_listed_page_by_page_and_deleted_by_source(world: World) -> None:
    await world.put(*(row(f"2026-03-{day:02}") for day in range(1, 8)), row(source="platform"))
    asked: dict[str, Any] = {"parent": "projects/demo", "source": "books"}
    days: list[str] = []
    token = ""
    while True:
        asked |= {"page_size": 3, "page_token": token, "first_day": "2026-03-02"}
        page = await world.call("ListSpend", pb.ListSpendRequest(**asked))
        days += [one.day[-2:] for one in page.rows]
        token = page.next_page_token
        if not token:
            break
    assert days == ["02", "03", "04", "05", "06", "07"]

    books: dict[str, Any] = {"parent": "projects/demo", "source": "books"}
    some = pb.DeleteSpendRequest(first_day="2026-03-02", last_day="2026-03-04", **books)
    assert (await world.call("DeleteSpend", some)).deleted == 3
    assert (await world.call("DeleteSpend", pb.DeleteSpendRequest(**books))).deleted == 4
    left = await world.call("ListSpend", pb.ListSpendRequest(parent="projects/demo"))
    assert [one.source for one in left.rows] == ["platform"]


async def test_what_is_no_spend_is_refused(world: World) -> None:
    for wrong in (
        row("2026-02-30"),
        row(amount=-1.0),
        row(amount=float("nan")),
        row(currency="yuan"),
        row(source=""),
        row(channel="a\nb"),
    ):
        assert await code_of(world.put(wrong)) is grpc.StatusCode.INVALID_ARGUMENT
    backwards = pb.ListSpendRequest(
        parent="projects/demo", first_day="2026-02-02", last_day="2026-02-01"
    )
    assert await code_of(world.call("ListSpend", backwards)) is grpc.StatusCode.INVALID_ARGUMENT
    request = pb.ImportSpendRequest(parent="projects/demo", rows=[row()])
    denied = await code_of(world.call("ImportSpend", request, "viewer"))
    assert denied is grpc.StatusCode.PERMISSION_DENIED
    assert await code_of(world.call("ImportSpend", request, "other")) is grpc.StatusCode.NOT_FOUND
