"""flagd's protocols over the wire: a real server and store, generated clients of each version."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from flagd.evaluation.v1 import evaluation_pb2 as v1
from flagd.evaluation.v1 import evaluation_pb2_grpc as v1_grpc
from flagd.evaluation.v2 import evaluation_pb2 as v2
from flagd.evaluation.v2 import evaluation_pb2_grpc as v2_grpc
from flagd.sync.v1 import sync_pb2, sync_pb2_grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc
from touchstone.assignment.v1 import (
    assignment_service_pb2,
    assignment_service_pb2_grpc,
    experiment_pb2,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
)
from touchstone.common.v1.unit_pb2 import UnitId

from services.assignment.adapters.sql import migrate_assignment
from services.assignment.api.flagd.streams import with_silence
from services.assignment.composition import assemble
from services.assignment.settings import Settings
from shared.errors import Code, DomainError
from shared.security.audit import NO_PROJECT, Outcome, SqlAuditLog
from shared.security.caller import Role
from shared.server.platform import open_platform
from shared.server.status import from_rpc_error
from shared.testing.ports import free_port
from shared.testing.serving import Served, add_key, bearer, serving

Metadata = tuple[tuple[str, str], ...]
VERSIONS = [(v1, v1_grpc), (v2, v2_grpc)]
BY_VERSION = pytest.mark.parametrize(("pb", "stubs"), VERSIONS, ids=["v1", "v2"])


@dataclass
class Rig:
    """A server with its two ports, and ways to call it."""

    served: Served
    side: grpc.aio.Channel
    key: Metadata

    async def experiment(self, key: str = "button", start: bool = True, **fields: Any) -> None:
        stub = experiment_service_pb2_grpc.ExperimentServiceStub(self.served.channel)
        halves = [
            experiment_pb2.Variant(key="control", weight=5000),
            experiment_pb2.Variant(key="green", weight=5000),
        ]
        await stub.CreateExperiment(
            experiment_service_pb2.CreateExperimentRequest(
                parent="projects/demo",
                experiment_id=key,
                experiment=experiment_pb2.Experiment(**({"variants": halves} | fields)),
            ),
            metadata=self.served.owner,
        )
        if start:
            await self.verb("Start", key)

    async def verb(self, verb: str, key: str = "button", **fields: Any) -> None:
        stub = experiment_service_pb2_grpc.ExperimentServiceStub(self.served.channel)
        request = getattr(experiment_service_pb2, f"{verb}ExperimentRequest")
        name = f"projects/demo/experiments/{key}"
        await getattr(stub, f"{verb}Experiment")(
            request(name=name, **fields), metadata=self.served.owner
        )

    async def assigned(self, unit: str, key: str = "button") -> str:
        stub = assignment_service_pb2_grpc.AssignmentServiceStub(self.served.channel)
        reply = await stub.Assign(
            assignment_service_pb2.AssignRequest(
                units=[assignment_service_pb2.UnitContext(ids=[UnitId(type="user", id=unit)])],
                experiments=[key],
            ),
            metadata=self.key,
        )
        return str(reply.units[0].decisions[0].variant)


@pytest.fixture
def flag_sets() -> str:
    return "demo"


@pytest.fixture
async def rig(tmp_path, flag_sets) -> AsyncIterator[Rig]:
    settings = Settings(
        data=tmp_path,
        assignment_address=f"127.0.0.1:{free_port()}",
        assignment_poll_s=0.05,
        drain_grace_s=2.0,
        flagd_address=f"127.0.0.1:{free_port()}",
        flagd_projects=flag_sets,
        flagd_streams=6,
    )
    platform = open_platform(settings)
    migrate_assignment(platform.database)
    async with serving(assemble(settings, platform)) as served:
        key = bearer(add_key(platform, "demo", Role.ASSIGN).text)
        add_key(platform, "other", Role.ASSIGN)
        async with grpc.aio.insecure_channel(served.running.side_address) as side:
            yield Rig(served, side, key)


def context(**attributes: Any) -> Struct:
    made = Struct()
    made.update(attributes)
    return made


def selector(text: str) -> Metadata:
    return (("flagd-selector", text),)


async def refused(call: Any) -> DomainError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


@BY_VERSION
async def test_a_flag_is_what_assign_gives(rig, pb, stubs):
    await rig.experiment()
    stub = stubs.ServiceStub(rig.served.channel)
    found = set()
    for number in range(30):
        unit = f"u-{number}"
        reply = await stub.ResolveString(
            pb.ResolveStringRequest(flag_key="button", context=context(targetingKey=unit)),
            metadata=rig.key,
        )
        assert reply.variant == reply.value == await rig.assigned(unit)
        assert reply.reason == "SPLIT"
        found.add(reply.value)
    assert found == {"control", "green"}
    metadata = MessageToDict(reply.metadata)
    assert metadata["flagSetId"] == "demo"
    assert metadata["experiment"] == metadata["layer"] == "button"
    assert metadata["hashVersion"] == "flagd-v2"
    assert metadata["version"] == str(int(metadata["configVersion"]))


async def test_an_attribute_of_the_unit_types_name_stands_before_the_targeting_key(rig):
    await rig.experiment()
    stub = v2_grpc.ServiceStub(rig.served.channel)
    for number in range(10):
        given = context(targetingKey="somebody", user=f"u-{number}")
        reply = await stub.ResolveString(
            v2.ResolveStringRequest(flag_key="button", context=given), metadata=rig.key
        )
        assert reply.value == await rig.assigned(f"u-{number}")


TYPED: list[tuple[str, str, list[Any]]] = [
    ("BOOLEAN", "ResolveBoolean", [False, True]),
    ("STRING", "ResolveString", ["plain", "fancy"]),
    ("INTEGER", "ResolveInt", [3, 4]),
    ("INTEGER", "ResolveFloat", [3.0, 4.0]),
    ("FLOAT", "ResolveFloat", [0.5, 2.0]),
    ("OBJECT", "ResolveObject", [{"size": 1.0, "in": ["a"]}, {"size": 2.0}]),
]


def typed(kind: str, values: list[Any]) -> dict[str, Any]:
    variants = []
    for key, value in zip(("control", "green"), values, strict=True):
        variant = experiment_pb2.Variant(key=key, weight=5000)
        if kind == "OBJECT":
            variant.payload.update(value)
        else:
            wrapped = Struct()
            wrapped.update({"value": value})
            variant.value.CopyFrom(wrapped.fields["value"])
        variants.append(variant)
    number = experiment_pb2.ValueType.Value(f"VALUE_TYPE_{kind}")
    return {"variants": variants, "value_type": number}


@BY_VERSION
@pytest.mark.parametrize(("kind", "method", "values"), TYPED)
async def test_each_type_is_answered_by_its_rpc(rig, pb, stubs, kind, method, values):
    await rig.experiment(**typed(kind, values))
    stub = stubs.ServiceStub(rig.served.channel)
    request = getattr(pb, f"{method}Request")
    found = []
    for number in range(20):
        given = context(targetingKey=f"u-{number}")
        reply = await getattr(stub, method)(
            request(flag_key="button", context=given), metadata=rig.key
        )
        value = MessageToDict(reply.value) if kind == "OBJECT" else reply.value
        assert value == values[["control", "green"].index(reply.variant)]
        found.append(reply.variant)
    assert set(found) == {"control", "green"}


@BY_VERSION
async def test_whoever_gets_no_variant_gets_the_controls_value(rig, pb, stubs):
    await rig.experiment(**typed("INTEGER", [7, 8]))
    await rig.verb("Pause")
    stub = stubs.ServiceStub(rig.served.channel)
    reply = await stub.ResolveInt(
        pb.ResolveIntRequest(flag_key="button", context=context(targetingKey="u")),
        metadata=rig.key,
    )
    assert (reply.value, reply.variant, reply.reason) == (7, "default", "DISABLED")
    if pb is v2:
        assert reply.HasField("value")
        assert reply.HasField("variant")


@BY_VERSION
async def test_what_cannot_be_answered_says_why(rig, pb, stubs):
    await rig.experiment()
    await rig.experiment("size", **typed("FLOAT", [0.5, 0.25]))
    stub = stubs.ServiceStub(rig.served.channel)
    given = context(targetingKey="u-1")
    text, whole = pb.ResolveStringRequest, pb.ResolveIntRequest
    for call, code, reason in (
        (stub.ResolveString(text(flag_key="no", context=given), metadata=rig.key),
         Code.NOT_FOUND, "RESOURCE_NOT_FOUND"),
        (stub.ResolveInt(whole(flag_key="button", context=given), metadata=rig.key),
         Code.INVALID_ARGUMENT, "INVALID_FIELD"),
        (stub.ResolveInt(whole(flag_key="size", context=given), metadata=rig.key),
         Code.INVALID_ARGUMENT, "INVALID_FIELD"),
        (stub.ResolveString(text(flag_key="button"), metadata=rig.key),
         Code.FAILED_PRECONDITION, "TARGETING_KEY_MISSING"),
        (stub.ResolveString(text(flag_key="button", context=context(targetingKey="a\nb")),
                            metadata=rig.key),
         Code.FAILED_PRECONDITION, "INVALID_CONTEXT"),
    ):  # fmt: skip
        error = await refused(call)
        assert (error.code, error.reason) == (code, reason)


async def test_all_flags_come_at_once_in_the_first_version(rig):
    await rig.experiment()
    await rig.experiment("size", **typed("FLOAT", [0.5, 0.25]))
    await rig.experiment("shop", unit_type="shop")
    stub = v1_grpc.ServiceStub(rig.served.channel)
    reply = await stub.ResolveAll(
        v1.ResolveAllRequest(context=context(targetingKey="u-1", shop=5)), metadata=rig.key
    )
    # The targeting key is the id of whatever the flag is about.
    assert set(reply.flags) == {"button", "size", "shop"}
    assert reply.flags["button"].string_value == await rig.assigned("u-1")
    assert reply.flags["size"].double_value in (0.5, 0.25)
    assert reply.flags["size"].reason == "SPLIT"
    assert MessageToDict(reply.metadata)["flagSetId"] == "demo"
    reply = await stub.ResolveAll(
        v1.ResolveAllRequest(context=context(user="u-1")), metadata=rig.key
    )
    assert set(reply.flags) == {"button", "size"}


async def events(stream: Any, count: int) -> list[tuple[str, dict[str, str]]]:
    found = []
    async for event in stream:
        flags = MessageToDict(event.data).get("flags", {})
        found.append((event.type, {key: change["type"] for key, change in flags.items()}))
        if len(found) == count:
            break
    return found


@BY_VERSION
async def test_a_stream_is_ready_at_once_and_names_every_flag_then_those_that_change(
    rig, pb, stubs
):
    await rig.experiment()
    await rig.experiment("other")
    stream = stubs.ServiceStub(rig.served.channel).EventStream(
        pb.EventStreamRequest(), metadata=rig.key
    )
    assert await events(stream, 2) == [
        ("provider_ready", {}),
        ("configuration_change", {"button": "update", "other": "update"}),
    ]
    await rig.verb("Pause", "other")
    assert await events(stream, 1) == [("configuration_change", {"other": "update"})]
    await rig.verb("Stop", "other")
    await rig.experiment("third", start=False)
    await rig.verb("Archive", "other")
    changes: dict[str, str] = {}
    while set(changes.items()) != {("third", "write"), ("other", "delete")}:
        ((_, change),) = await events(stream, 1)
        changes |= change
    stream.cancel()


async def test_a_stream_without_flags_is_ready_too(rig):
    stream = v2_grpc.ServiceStub(rig.served.channel).EventStream(
        v2.EventStreamRequest(), metadata=rig.key
    )
    assert await events(stream, 1) == [("provider_ready", {})]
    await rig.experiment()
    assert await events(stream, 1) == [("configuration_change", {"button": "write"})]
    stream.cancel()


async def test_streams_end_with_unavailable_when_the_server_drains(rig):
    evaluation = v2_grpc.ServiceStub(rig.served.channel).EventStream(
        v2.EventStreamRequest(), metadata=rig.key
    )
    sync = sync_pb2_grpc.FlagSyncServiceStub(rig.side).SyncFlags(sync_pb2.SyncFlagsRequest())
    assert (await events(evaluation, 1))[0][0] == "provider_ready"
    assert (await anext(aiter(sync))).flag_configuration
    rig.served.running.draining.set()
    for stream in (evaluation, sync):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stream:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_silent_stream_says_that_it_is_alive():
    async def never() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    found = [item async for item in _first(with_silence(never(), 0.01), 3)]
    assert found == [1, None, None]


async def _first(source: AsyncIterator[Any], count: int) -> AsyncIterator[Any]:
    async for item in source:
        yield item
        count -= 1
        if not count:
            return


async def test_the_selector_of_another_project_is_not_found(rig):
    await rig.experiment()
    stub = v2_grpc.ServiceStub(rig.served.channel)
    request = v2.ResolveStringRequest(flag_key="button", context=context(targetingKey="u"))
    own = await stub.ResolveString(request, metadata=(*rig.key, *selector("flagSetId=demo")))
    assert own.reason == "SPLIT"
    for other in ("other", "nobody"):
        metadata = (*rig.key, *selector(f"flagSetId={other}"))
        error = await refused(stub.ResolveString(request, metadata=metadata))
        assert (error.code, error.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    error = await refused(stub.ResolveString(request, metadata=(*rig.key, *selector("flags.json"))))
    assert error.code is Code.INVALID_ARGUMENT


async def test_nobody_comes_in_at_the_main_port_without_a_key(rig):
    stub = v2_grpc.ServiceStub(rig.served.channel)
    error = await refused(stub.ResolveString(v2.ResolveStringRequest(flag_key="button")))
    assert error.code is Code.UNAUTHENTICATED
    wrong = bearer(add_key(rig.served.platform, "demo", Role.VIEWER).text)
    error = await refused(
        stub.ResolveString(v2.ResolveStringRequest(flag_key="button"), metadata=wrong)
    )
    assert error.code is Code.PERMISSION_DENIED


class TestSideDoor:
    """The port for clients that cannot present a credential."""

    async def test_the_only_flag_set_needs_no_selector(self, rig):
        await rig.experiment()
        request = v2.ResolveStringRequest(flag_key="button", context=context(targetingKey="u-1"))
        for metadata in ((), selector("flagSetId=demo")):
            reply = await v2_grpc.ServiceStub(rig.side).ResolveString(request, metadata=metadata)
            assert reply.value == await rig.assigned("u-1")

    async def test_a_project_that_is_not_listed_is_not_found_and_audited(self, rig):
        stub = v2_grpc.ServiceStub(rig.side)
        for other in ("other", "nobody"):
            error = await refused(
                stub.ResolveString(
                    v2.ResolveStringRequest(flag_key="button"),
                    metadata=selector(f"flagSetId={other}"),
                )
            )
            assert (error.code, error.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
            assert "TOUCHSTONE_FLAGD_PROJECTS" in error.message
        with rig.served.platform.database.read() as connection:
            log = SqlAuditLog(connection, rig.served.platform.audit_keys)
            noted = [entry.event for entry in log.entries(NO_PROJECT, limit=10)]
        assert {(event.method, event.outcome) for event in noted} == {
            ("/flagd.evaluation.v2.Service/ResolveString", Outcome.DENIED)
        }

    @pytest.mark.parametrize("flag_sets", [""])
    async def test_nothing_is_served_when_no_project_is_listed(self, rig):
        await rig.experiment()
        for metadata in ((), selector("flagSetId=demo")):
            error = await refused(
                v2_grpc.ServiceStub(rig.side).ResolveString(
                    v2.ResolveStringRequest(flag_key="button"), metadata=metadata
                )
            )
            assert error.code is Code.NOT_FOUND

    @pytest.mark.parametrize("flag_sets", ["demo,other"])
    async def test_of_several_one_has_to_be_selected(self, rig):
        await rig.experiment()
        stub = v2_grpc.ServiceStub(rig.side)
        request = v2.ResolveStringRequest(flag_key="button", context=context(targetingKey="u"))
        error = await refused(stub.ResolveString(request))
        assert error.code is Code.INVALID_ARGUMENT
        assert (
            await stub.ResolveString(request, metadata=selector("flagSetId=demo"))
        ).reason == "SPLIT"
        error = await refused(stub.ResolveString(request, metadata=selector("flagSetId=other")))
        assert error.code is Code.NOT_FOUND

    async def test_nothing_else_is_reachable(self, rig):
        name = "touchstone.assignment.v1"
        for method in (
            f"/{name}.AssignmentService/Assign",
            f"/{name}.ExperimentService/ListExperiments",
            "/touchstone.common.v1.AccessService/ListKeys",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ):
            call = rig.side.unary_unary(method)(b"", metadata=rig.served.owner)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(rig.side).Check(health_pb2.HealthCheckRequest())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    async def test_streams_are_bounded_and_leave_those_of_the_main_port_alone(self, rig):
        stub = v2_grpc.ServiceStub(rig.side)
        streams = [stub.EventStream(v2.EventStreamRequest()) for _ in range(3)]
        for stream in streams:
            assert (await events(stream, 1))[0][0] == "provider_ready"
        error = await refused(events(stub.EventStream(v2.EventStreamRequest()), 1))
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
        main = v2_grpc.ServiceStub(rig.served.channel)
        another = main.EventStream(v2.EventStreamRequest(), metadata=rig.key)
        assert (await events(another, 1))[0][0] == "provider_ready"
        for stream in (*streams, another):
            stream.cancel()

    @pytest.mark.parametrize(
        ("host", "shared", "setting"),
        [
            ("0.0.0.0", False, "TOUCHSTONE_ALLOW_PLAINTEXT"),
            ("127.0.0.1", True, "TOUCHSTONE_FLAGD_ADDRESS"),
        ],
        ids=["plaintext", "taken"],
    )
    def test_where_it_may_not_or_cannot_listen_nothing_starts(
        self, tmp_path, host, shared, setting
    ):
        main = f"127.0.0.1:{free_port()}"
        settings = Settings(
            data=tmp_path,
            assignment_address=main,
            flagd_address=main if shared else f"{host}:{free_port()}",
            flagd_projects="demo",
        )
        platform = open_platform(settings)
        migrate_assignment(platform.database)

        async def serve() -> None:
            async with serving(assemble(settings, platform)):
                pass

        with pytest.raises(DomainError) as caught:
            asyncio.run(serve())
        platform.database.close()
        assert setting in caught.value.message


class TestSync:
    """Documents for clients that evaluate in process."""

    async def test_the_document_comes_at_once_and_again_on_change(self, rig):
        await rig.experiment()
        stub = sync_pb2_grpc.FlagSyncServiceStub(rig.side)
        stream = stub.SyncFlags(sync_pb2.SyncFlagsRequest(provider_id="one"))
        first = await stream.read()
        document = json.loads(first.flag_configuration)
        assert set(document["flags"]) == {"button"}
        assert document["metadata"]["flagSetId"] == "demo"
        sent = MessageToDict(first.sync_context)
        assert sent == {"flagSetId": "demo", "configVersion": document["metadata"]["version"]}
        await rig.experiment("second")
        second = json.loads((await stream.read()).flag_configuration)
        assert "second" in second["flags"]
        assert int(second["metadata"]["version"]) > int(document["metadata"]["version"])
        fetched = await stub.FetchAllFlags(sync_pb2.FetchAllFlagsRequest())
        assert "second" in json.loads(fetched.flag_configuration)["flags"]
        told = await stub.GetMetadata(sync_pb2.GetMetadataRequest())
        assert MessageToDict(told.metadata)["flagSetId"] == "demo"
        stream.cancel()

    async def test_a_dialect_has_the_experiments_of_its_hash(self, rig):
        await rig.experiment("old")
        await rig.experiment("new", hash_version=experiment_pb2.HASH_VERSION_FLAGD_V3)
        stub = sync_pb2_grpc.FlagSyncServiceStub(rig.served.channel)

        async def flags(field: str = "", header: str = "") -> set[str]:
            metadata = (*rig.key, *(selector(header) if header else ()))
            reply = await stub.FetchAllFlags(
                sync_pb2.FetchAllFlagsRequest(selector=field), metadata=metadata
            )
            return set(json.loads(reply.flag_configuration)["flags"])

        assert await flags() == {"old"}
        assert await flags("flagSetId=demo,dialect=flagd-v3") == {"new"}
        assert await flags(header="dialect=flagd-v3") == {"new"}
        assert await flags("dialect=flagd-v2", header="dialect=flagd-v3") == {"new"}
        error = await refused(
            stub.FetchAllFlags(
                sync_pb2.FetchAllFlagsRequest(selector="dialect=flagd-v1"), metadata=rig.key
            )
        )
        assert error.code is Code.INVALID_ARGUMENT

    async def test_what_only_the_server_decides_is_not_in_it(self, rig):
        await rig.experiment()
        await rig.experiment("kept", sticky=True)
        stub = sync_pb2_grpc.FlagSyncServiceStub(rig.side)
        reply = await stub.FetchAllFlags(sync_pb2.FetchAllFlagsRequest())
        assert set(json.loads(reply.flag_configuration)["flags"]) == {"button"}

    async def test_the_selector_of_a_request_selects_at_the_side_door(self, rig):
        stub = sync_pb2_grpc.FlagSyncServiceStub(rig.side)
        error = await refused(
            stub.FetchAllFlags(sync_pb2.FetchAllFlagsRequest(selector="flagSetId=other"))
        )
        assert error.code is Code.NOT_FOUND


async def command(rig: Rig, *arguments: object) -> tuple[int, str, str]:
    """The exit code and what the command line wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.cli",
        *map(str, arguments),
        env={
            **os.environ,
            "TOUCHSTONE_ASSIGNMENT_ADDRESS": rig.served.running.address,
            "TOUCHSTONE_API_KEY": rig.served.owner[0][1].removeprefix("Bearer "),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


async def test_a_document_of_another_flagd_becomes_drafts(rig, tmp_path):
    split = {"fractional": [["control", 50], ["green", 50], [None, 100]]}
    flag = {
        "state": "ENABLED",
        "variants": {"control": False, "green": True},
        "defaultVariant": "control",
        "targeting": {"if": [{"in": [{"var": "country"}, ["US"]]}, split]},
    }
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": {"button": flag}}))
    code, out, error = await command(rig, "flags", "import", path, "--dry-run")
    assert (code, "could be taken" in out) == (0, True), error
    code, out, _ = await command(rig, "flags", "import", path)
    assert (code, "draft" in out) == (0, True)
    await rig.verb("Start")
    stub = v2_grpc.ServiceStub(rig.served.channel)
    seen = set()
    for number in range(40):
        for country in ("US", "DE"):
            given = context(targetingKey=f"u-{number}", country=country)
            reply = await stub.ResolveBoolean(
                v2.ResolveBooleanRequest(flag_key="button", context=given), metadata=rig.key
            )
            assert reply.value == (reply.variant == "green")
            seen.add((country, reply.variant))
    assert seen == {("US", "control"), ("US", "green"), ("US", "default"), ("DE", "default")}
    # What is there, and what splits nothing, is said and does not keep the others out.
    more = {"button": flag, "second": flag, "fixed": {**flag, "targeting": None}}
    path.write_text(json.dumps({"flags": more}))
    code, out, _ = await command(rig, "flags", "import", path, "--output", "json")
    assert code == 3
    outcomes = {row["flag"]: row["outcome"] for row in json.loads(out)["flags"]}
    assert outcomes == {"button": "as it was", "second": "draft", "fixed": "not taken"}


async def test_units_keep_by_a_flag_what_they_keep_by_assign(rig):
    await rig.experiment(anonymous_unit_type="device", sticky=True)
    stub = v2_grpc.ServiceStub(rig.served.channel)

    async def asked(**attributes: Any) -> tuple[str, str]:
        request = v2.ResolveStringRequest(flag_key="button", context=context(**attributes))
        reply = await stub.ResolveString(request, metadata=rig.key)
        return reply.value, reply.reason

    changed = 0
    for number in range(20):
        user, device = f"u-{number}", f"d-{number}"
        first, _ = await asked(device=device)
        # After the login the person keeps what the device was served, and Assign says so, too.
        assert await asked(targetingKey=user, device=device) == (first, "TARGETING_MATCH")
        assert await rig.assigned(user) == first
        alone, _ = await asked(targetingKey=f"other-{number}")
        changed += alone != first
    assert changed
