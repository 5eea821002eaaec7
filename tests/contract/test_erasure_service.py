"""A unit is erased from everything, and stays erased."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from pathlib import Path

import grpc
import pytest
from touchstone.events.v1 import erasure_service_pb2 as pb
from touchstone.events.v1 import event_pb2, events_service_pb2

from shared.clock import SystemClock
from shared.server.status import from_rpc_error
from tests.contract.erasure_bench import Bench, event, events_service, stored, unit

SECRET = "customer-4711-0815"


def everything(prefix: str, id_: str) -> list[event_pb2.Event]:
    """An event of each kind of a unit, and two of others that name it."""
    return [
        event(f"{prefix}-buy", id_),
        event(
            f"{prefix}-seen",
            id_,
            exposure=event_pb2.Exposure(experiment="exp", variant="a"),
        ),
        event(f"{prefix}-touch", id_, touchpoint=event_pb2.Touchpoint(channel="mail")),
        event(f"{prefix}-flag", id_, evaluation=event_pb2.Evaluation(flag="f")),
        event(f"{prefix}-link", f"{prefix}-dev", identify=event_pb2.Identify(other_unit=unit(id_))),
        event(f"{prefix}-linked", f"{prefix}-dev", linked_units=[unit("x"), unit(id_)]),
    ]


@pytest.fixture
async def bench(tmp_path: Path):
    async with events_service(tmp_path / "data") as made:
        yield made


async def test_nothing_of_the_unit_is_left_and_all_of_the_others(bench: Bench) -> None:
    await bench.log(*everything("a", SECRET))
    bad = event("a-bad", SECRET, conversion=event_pb2.Conversion(event_name="NOT GOOD"))
    other_bad = event("b-bad", "other", conversion=event_pb2.Conversion(event_name="NOT GOOD"))
    assert len((await bench.log(bad, other_bad)).rejected) == 2
    # The same id as another type is another unit.
    namesake = event("c", "x", linked_units=[unit(SECRET, "device")])
    token = (await bench.log(*everything("b", "other"), namesake)).consistency_token
    assert len(await bench.visible(token)) == 13
    assert SECRET.encode() in stored(bench.settings.data)

    erasure = await bench.erased(SECRET)

    kept = [one.event_id for one in everything("b", "other")]
    assert await bench.visible() == sorted([*kept, "c"])
    assert await bench.rejected() == ["b-bad"]
    assert erasure.state == pb.ERASURE_STATE_PROVED
    assert {table.table: table.rows for table in erasure.proof.tables} == {
        "conversions": 2,
        "exposures": 1,
        "touchpoints": 1,
        "evaluations": 1,
        "identifies": 1,
    }
    assert (erasure.proof.rejected_events, erasure.proof.rows_found) == (1, 0)
    assert erasure.proof.bytes_found == 0
    assert erasure.proof.files_removed >= 5
    assert erasure.reason == "ticket 7"


async def test_no_byte_of_the_unit_is_left(bench: Bench) -> None:
    token = (await bench.log(*everything("a", SECRET))).consistency_token
    await bench.visible(token)
    await bench.log(event("bad", SECRET, conversion=event_pb2.Conversion(event_name="NOT GOOD")))
    await bench.erased(SECRET)
    assert SECRET.encode() not in stored(bench.settings.data)


async def test_what_arrives_later_of_before_is_refused_and_nothing_of_it_kept(bench: Bench) -> None:
    await bench.erased(SECRET)
    bad = event("a-bad", SECRET, conversion=event_pb2.Conversion(event_name="NOT GOOD"))
    answer = await bench.log(*everything("a", SECRET), bad, *everything("b", "other"))
    reasons = {item.item: item.reason for item in answer.rejected}
    assert {reasons[place] for place in range(6)} == {
        events_service_pb2.REJECTION_REASON_UNIT_ERASED
    }
    assert reasons[6] == events_service_pb2.REJECTION_REASON_INVALID_FIELD
    assert answer.accepted == 6
    assert await bench.visible(answer.consistency_token) == sorted(
        one.event_id for one in everything("b", "other")
    )
    assert await bench.rejected() == []
    assert SECRET.encode() not in stored(bench.settings.data)


async def test_what_happens_afterwards_is_accepted(bench: Bench) -> None:
    erasure = await bench.erased(SECRET)
    later = erasure.erase_time.ToDatetime(dt.UTC) + dt.timedelta(seconds=1)
    answer = await bench.log(event("new", SECRET, later))
    assert (answer.accepted, await bench.visible(answer.consistency_token)) == (1, ["new"])
    other = await bench.erased(SECRET)
    assert other.name != erasure.name
    assert await bench.visible() == []


async def test_readers_that_began_before_read_to_their_end(tmp_path: Path) -> None:
    async with events_service(tmp_path / "data", erasure_grace_s=1.5) as bench:
        token = (await bench.log(*everything("a", SECRET))).consistency_token
        await bench.visible(token)
        from shared.lake.snapshot import LakeEventTables

        snapshot = LakeEventTables(bench.settings.lake_path).snapshot("acme")
        begun = await bench.erase(SECRET)
        for _ in range(100):
            if not await bench.visible():
                break
            await asyncio.sleep(0.02)
        assert await bench.visible() == []
        with snapshot.read() as tables:
            assert tables["conversions"].count().to_pyarrow().as_py() == 2
        progress = pb.ErasureProgress()
        assert (await bench.operation(begun.operation.name)).metadata.Unpack(progress)
        assert progress.step == pb.ERASURE_STEP_WAITING_FOR_READERS
        erasure = await bench.ended(begun.operation.name)
        assert erasure.proof.files_removed >= 5
        assert SECRET.encode() not in stored(bench.settings.data)


async def test_other_projects_are_left_alone_and_see_nothing(bench: Bench) -> None:
    rival = bench.metadata("rival")
    await bench.log(event("mine", SECRET))
    token = (await bench.log(event("theirs", SECRET), metadata=rival)).consistency_token
    assert await bench.visible(token, "rival") == ["theirs"]
    erasure = await bench.erased(SECRET)
    assert await bench.visible(project="rival") == ["theirs"]
    assert (await bench.log(event("more", SECRET), metadata=rival)).accepted == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.erasures("GetErasure", pb.GetErasureRequest(name=erasure.name), rival)
    assert from_rpc_error(caught.value).code.name == "NOT_FOUND"


async def test_request_id_begins_one_erasure_and_validate_only_none(bench: Bench) -> None:
    checked = await bench.erase(SECRET, validate_only=True)
    assert not checked.HasField("operation")
    first = await bench.erase(SECRET, request_id="once")
    again = await bench.erase(SECRET, request_id="once")
    assert first == again
    listed = await bench.erasures("ListErasures", pb.ListErasuresRequest(parent="projects/acme"))
    assert [one.name for one in listed.erasures] == [first.erasure.name]


async def test_erasures_are_listed_newest_first_in_pages(bench: Bench) -> None:
    names = [(await bench.erase(f"unit-{n}")).erasure.name for n in range(5)]
    found, token = [], ""
    while True:
        request = pb.ListErasuresRequest(parent="projects/acme", page_size=2, page_token=token)
        page = await bench.erasures("ListErasures", request)
        found += [one.name for one in page.erasures]
        token = page.next_page_token
        if not token:
            break
    assert found == names[::-1]


async def test_older_backup_is_erased_again_before_the_service_is_ready(tmp_path: Path) -> None:
    """The data folder goes back in time; the ledger, which lies elsewhere, does not."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    ledger = {"erasures": tmp_path / "ledger"}
    async with events_service(data, **ledger) as bench:
        token = (await bench.log(*everything("a", SECRET), event("b", "other"))).consistency_token
        await bench.visible(token)
        bad = event("bad", SECRET, conversion=event_pb2.Conversion(event_name="NOT GOOD"))
        await bench.log(bad)
    shutil.copytree(data, backup)
    async with events_service(data, **ledger) as bench:
        first = await bench.erased(SECRET)
        assert await bench.visible() == ["b"]
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    async with events_service(data, **ledger) as bench:
        for _ in range(400):
            if bench.running.application.ready():
                break
            await asyncio.sleep(0.05)
        assert bench.running.application.ready()
        assert await bench.visible() == ["b"]
        assert await bench.rejected() == []
        for _ in range(200):
            found = await bench.erasures("GetErasure", pb.GetErasureRequest(name=first.name))
            if found.erasure.prove_time != first.prove_time:
                break
            await asyncio.sleep(0.05)
        assert found.erasure.prove_time.ToDatetime() > first.prove_time.ToDatetime()
        assert found.erasure.proof.files_removed >= 5
        assert SECRET.encode() not in stored(data)
    async with events_service(data, **ledger) as bench:
        assert bench.running.application.ready(), "what is reflected is not erased again"


async def test_erasing_while_events_arrive_loses_none(tmp_path: Path) -> None:
    async with events_service(tmp_path / "data", flush_interval_s=0.02) as bench:
        sent: list[str] = []
        going_on = True

        async def traffic() -> None:
            number = 0
            while going_on:
                names = [f"t{number}-{n}" for n in range(5)]
                batch = [event(name, f"unit-{name}") for name in names]
                answer = await bench.log(*batch, event(f"s{number}", SECRET, SystemClock().now()))
                sent.extend(names)
                token[0] = answer.consistency_token
                number += 1

        token = [""]
        task = asyncio.create_task(traffic())
        await asyncio.sleep(0.5)
        erasure = await bench.erased(SECRET)
        moment = erasure.erase_time.ToDatetime(dt.UTC)
        going_on = False
        await task
        visible = await bench.visible(token[0])
        assert sorted(sent) == [name for name in visible if name.startswith("t")]
        from shared.lake.snapshot import LakeEventTables

        with LakeEventTables(bench.settings.lake_path).snapshot("acme").read() as tables:
            rows = tables["conversions"].to_pyarrow().to_pylist()
        mine = [row for row in rows if row["unit_id"] == SECRET]
        assert all(row["event_time"] > moment and row["receive_time"] > moment for row in mine)
        assert erasure.proof.tables[0].rows > 0


async def test_every_id_of_an_identity_is_erased_together(bench: Bench) -> None:
    login = unit("login-1", "login")
    bought, late = event("buy", "u"), event("late", "u")
    for one in (bought, late):
        one.unit.CopyFrom(login)
    await bench.log(
        event("l1", SECRET, identify=event_pb2.Identify(other_unit=unit("d1", "device"))),
        event("l2", SECRET, identify=event_pb2.Identify(other_unit=login)),
        bought,
        event("stays", "somebody", identify=event_pb2.Identify(other_unit=unit("d2", "device"))),
    )
    begun = await bench.erase(SECRET, whole_identity=True)
    assert len(begun.linked_erasures) == 2
    await bench.ended(begun.operation.name)
    assert await bench.visible() == ["stays"]
    for one in begun.linked_erasures:
        found = await bench.erasures("GetErasure", pb.GetErasureRequest(name=one.name))
        assert found.erasure.state == pb.ERASURE_STATE_PROVED
    assert (await bench.log(late)).accepted == 0
