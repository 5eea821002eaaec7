"""What AssignmentService says over its contract, besides plain decisions."""

import asyncio
import datetime as dt
import hashlib
import http.client
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from flagd.evaluation.v1 import evaluation_pb2, evaluation_pb2_grpc
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import domain_pb2, experiment_pb2, layer_pb2
from touchstone.assignment.v1.ruleset_pb2 import Ruleset
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.subject import Subject

from services.assignment.adapters.sql import SqlConfiguration
from shared.errors import Code
from shared.testing.ports import free_port
from tests.contract.serving_world import PROJECT, START, World, open_world, reason_of, unit


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, assignment_http_address="") as found:
        yield found


async def test_a_sticky_unit_keeps_its_variant_when_the_rules_would_drop_it(world: World) -> None:
    await world.start("button", sticky=True, traffic_slots=10_000)
    (first,) = await world.variants([unit(user="u1")], "button")
    assert first[1] == "SPLIT"
    assert await world.variants([unit(user="u1")], "button") == [(first[0], "STICKY", False)]
    explained = await world.assign([unit(user="u1")], "button", explain=True)
    decision = explained.units[0].decisions[0]
    assert (decision.variant, reason_of(decision)) == (first[0], "STICKY")
    assert "served first" in decision.explanation.detail
    await world.call("PauseExperiment", name=f"{PROJECT}/experiments/button")
    assert await world.variants([unit(user="u1")], "button") == [("", "NOT_RUNNING", False)]


async def test_to_fill_a_cache_keeps_nothing_and_shows_what_is_kept(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with open_world(tmp_path, assignment_http_address=address) as world:
        await world.start("button", sticky=True)

        def ofrep(path: str) -> Any:
            connection = http.client.HTTPConnection(address, timeout=20)
            body = json.dumps({"context": {"targetingKey": "u1"}})
            headers = {"content-type": "application/json", **dict(world.metadata)}
            connection.request("POST", f"/ofrep/v1/evaluate/flags{path}", body, headers)
            answer = json.loads(connection.getresponse().read())
            connection.close()
            return answer

        async def in_bulk() -> list[str]:
            (flag,) = (await asyncio.to_thread(ofrep, ""))["flags"]
            stub = evaluation_pb2_grpc.ServiceStub(world.channel)
            asked = evaluation_pb2.ResolveAllRequest()
            asked.context["targetingKey"] = "u1"
            found = await stub.ResolveAll(asked, metadata=world.metadata)
            assert flag["value"] == found.flags["button"].string_value
            return [flag["reason"], found.flags["button"].reason]

        assert await in_bulk() == ["SPLIT", "SPLIT"]
        assert await in_bulk() == ["SPLIT", "SPLIT"]
        one = await asyncio.to_thread(ofrep, "/button")
        assert one["reason"] == "SPLIT"
        assert await in_bulk() == ["TARGETING_MATCH", "TARGETING_MATCH"]
        kept = await world.variants([unit(user="u1")], "button")
        assert kept == [(one["variant"], "STICKY", False)]


async def test_to_ask_why_keeps_nothing(world: World) -> None:
    await world.start("button", anonymous_unit_type="device")
    for number in range(30):
        await world.assign([unit(user=f"u{number}")], "button", explain=True)
        await world.assign([unit(device=f"d{number}")], "button", explain=True)
    both = [unit(user=f"u{number}", device=f"d{number}") for number in range(30)]
    assert {found[1:] for found in await world.variants(both, "button")} == {("SPLIT", False)}


async def test_a_customer_goes_on_with_what_the_device_was_served(world: World) -> None:
    await world.start("button", anonymous_unit_type="device")
    devices = [unit(device=f"d{n}") for n in range(40)]
    before = await world.variants(devices, "button")
    assert {reason for _, reason, _ in before} == {"SPLIT"}
    both = [unit(user=f"u{n}", device=f"d{n}") for n in range(40)]
    after = await world.variants(both, "button")
    assert after == [(variant, "STICKY", False) for variant, _, _ in before]
    alone = await world.variants([unit(user=f"u{n}") for n in range(40)], "button")
    assert alone == after


async def test_two_variants_of_one_person_taint_it(world: World) -> None:
    await world.start("button", anonymous_unit_type="device")
    users = await world.variants([unit(user=f"u{n}") for n in range(40)], "button")
    world.clock.advance(dt.timedelta(seconds=1))
    devices = await world.variants([unit(device=f"d{n}") for n in range(40)], "button")
    both = await world.variants([unit(user=f"u{n}", device=f"d{n}") for n in range(40)], "button")
    differ = [user[0] != device[0] for user, device in zip(users, devices, strict=True)]
    assert any(differ)
    assert not all(differ)
    assert both == [
        (user[0], "STICKY", tainted) for user, tainted in zip(users, differ, strict=True)
    ]


async def test_an_old_version_decides_as_it_did(world: World) -> None:
    units = [unit(user=f"u{n}") for n in range(50)]
    await world.start("button", traffic_slots=2_000)
    before = await world.assign(units, "button")
    sent = experiment_pb2.Experiment(name=f"{PROJECT}/experiments/button", traffic_slots=10_000)
    await world.call("UpdateExperiment", experiment=sent, update_mask={"paths": ["traffic_slots"]})
    after = await world.assign(units, "button")
    assert after.units != before.units
    version = before.config_version
    again = await world.assign(units, "button", config_version=version)
    assert (again.units, again.config_version) == (before.units, version)
    error = await world.refused(
        "Assign", units=units[:1], experiments=["button"], config_version=999
    )
    assert error.code is Code.INVALID_ARGUMENT
    assert f"1 to {after.config_version}" in error.message


async def test_an_old_version_decides_at_the_time_that_is_asked_for(world: World) -> None:
    window = experiment_pb2.Switchback(window_s=3600)
    await world.start("prices", switchback=window)
    version = (await world.assign([unit(user="u")], "prices")).config_version
    seen = set()
    for hour in range(24):
        time = Timestamp()
        time.FromDatetime(START + dt.timedelta(hours=hour))
        reply = await world.assign([unit(user="u")], "prices", config_version=version, time=time)
        seen.add(reply.units[0].decisions[0].variant)
    assert seen == {"control", "green"}
    error = await world.refused("Assign", units=[unit(user="u")], time=Timestamp(seconds=1))
    assert "none without config_version" in error.message


async def test_the_age_of_the_configuration_is_told(world: World) -> None:
    await world.start("button")
    assert (await world.assign([unit(user="u")], "button")).config_age_s < 1
    world.running.application.platform.database.close()
    world.clock.advance(dt.timedelta(seconds=4))
    assert (await world.assign([unit(user="u")], "button")).config_age_s == 4


async def test_attributes_count_where_an_experiment_reads_them(world: World) -> None:
    await world.start("prices", switchback=experiment_pb2.Switchback(window_s=3600))
    window = experiment_pb2.Switchback(window_s=3600, region_attribute="region")
    await world.start("regions", switchback=window)
    named = unit(user="u")
    named.attributes.update({"region": "north"})
    reply = await world.assign([unit(user="u"), named], "prices", "regions")
    reasons = [[reason_of(one) for one in found.decisions] for found in reply.units]
    assert reasons == [["SPLIT", "MISSING_REGION"], ["SPLIT", "SPLIT"]]


async def test_parameters_come_from_whoever_sets_them(world: World) -> None:
    parameter = layer_pb2.Parameter(key="color", default_value=Value(string_value="grey"))
    layer = layer_pb2.Layer(parameters=[parameter], unit_type="user")
    await world.call("CreateLayer", parent=PROJECT, layer_id="checkout", layer=layer)
    variants = [experiment_pb2.Variant(key=key, weight=5000) for key in ("control", "green")]
    for variant in variants:
        variant.payload.update({"color": variant.key})
    await world.start(
        "button",
        layer=f"{PROJECT}/layers/checkout",
        variants=variants,
        traffic_slots=5_000,
        value_type=experiment_pb2.VALUE_TYPE_OBJECT,
    )
    units = [unit(user=f"u{n}") for n in range(60)]
    decided = await world.assign(units, "button")
    reply = await world.call("GetParameters", units=units, keys=["color", "unknown"])
    assert reply.config_version == decided.config_version
    for said, found in zip(reply.units, decided.units, strict=True):
        variant = found.decisions[0].variant
        assert list(said.values) == ["color"]
        value = said.values["color"]
        assert value.value.string_value == (variant or "grey")
        assert (value.experiment, value.variant) == ("button" if variant else "", variant)
    everything = await world.call("GetParameters", units=units[:2])
    assert [list(one.values) for one in everything.units] == [["color"]] * 2


async def test_holdouts_are_told(world: World) -> None:
    holdout = domain_pb2.Holdout(slots=5_000, unit_type="user")
    await world.call("CreateHoldout", parent=PROJECT, holdout_id="quarter", holdout=holdout)
    await world.start("button")
    units = [unit(user=f"u{n}") for n in range(60)]
    decided = await world.assign(units, "button")
    reply = await world.call("CheckHoldouts", units=[*units, unit(device="d")])
    held = [list(one.holdouts) for one in reply.units]
    assert held.pop() == []
    assert {tuple(one) for one in held} == {(), ("quarter",)}
    for out, found in zip(held, decided.units, strict=True):
        decision = found.decisions[0]
        assert (reason_of(decision) == "HOLDOUT") == bool(out)
        assert decision.because_of == ("quarter" if out else "")


class Watch:
    """One WatchConfig stream."""

    def __init__(self, world: World, known: str = "") -> None:
        self._call = world.open("WatchConfig", known_digest=known)

    async def next(self) -> Any:
        async with asyncio.timeout(10):
            return await self._call.read()


async def test_a_watcher_decides_as_the_server_does_after_every_change(world: World) -> None:
    units = [f"u{n}" for n in range(50)]
    watch = Watch(world)
    first = await watch.next()
    assert first.digest == hashlib.sha256(first.ruleset).hexdigest()
    await world.start("button", traffic_slots=5_000)
    while (message := await watch.next()).config_version < 2 or not message.ruleset:
        pass
    evaluator = compile_ruleset(Ruleset.FromString(message.ruleset), lambda _digest: None)  # type: ignore[arg-type,return-value]
    reply = await world.assign([unit(user=one) for one in units], "button")
    assert reply.config_version == message.config_version
    assert [one.decisions[0].variant or None for one in reply.units] == [
        evaluator.decide("button", Subject({"user": one})).variant for one in units
    ]
    assert message.HasField("confirm_time")


async def test_a_watcher_that_has_the_rules_is_told_so(world: World) -> None:
    await world.start("button")
    first = await Watch(world).next()
    assert first.ruleset
    again = await Watch(world, first.digest).next()
    assert (again.ruleset, again.digest) == (b"", first.digest)


async def test_a_watch_ends_with_unavailable_when_the_server_drains(tmp_path: Path) -> None:
    async with open_world(tmp_path, assignment_http_address="", drain_grace_s=1) as world:
        watch = Watch(world)
        await watch.next()
        drained = asyncio.create_task(world.running.drain())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.next()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await drained


async def test_watches_take_no_place_of_calls(tmp_path: Path) -> None:
    limits = {"max_concurrent_rpcs": 2, "max_watches": 6}
    async with open_world(tmp_path, assignment_http_address="", **limits) as world:
        watches = [Watch(world) for _ in range(3)]
        for watch in watches:
            await watch.next()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Watch(world).next()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await world.start("button")
        assert (await world.variants([unit(user="u")], "button"))[0][1] == "SPLIT"


async def test_an_id_list_comes_in_parts(world: World) -> None:
    error = None
    try:
        async for _ in world.open("GetIdList", digest="0" * 64):
            pass
    except grpc.aio.AioRpcError as failed:
        error = failed
    assert error is not None
    assert error.code() is grpc.StatusCode.NOT_FOUND
    fingerprints = bytes(range(256)) * 10_000
    digest = hashlib.sha256(fingerprints).hexdigest()
    database = world.running.application.platform.database
    with database.begin() as connection:
        SqlConfiguration(connection).id_lists.put("demo", digest, fingerprints)
    parts = [part.fingerprints async for part in world.open("GetIdList", digest=digest)]
    assert b"".join(parts) == fingerprints
    assert all(0 < len(part) <= 1_048_576 and len(part) % 8 == 0 for part in parts)
