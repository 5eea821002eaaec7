"""The assignment service over its contract: a real server, a real store, generated clients."""

import asyncio
import base64
import datetime as dt
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import (
    assignment_service_pb2,
    assignment_service_pb2_grpc,
    domain_service_pb2,
    domain_service_pb2_grpc,
    experiment_pb2,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
    layer_pb2,
    layer_service_pb2,
    layer_service_pb2_grpc,
    schema_service_pb2,
    schema_service_pb2_grpc,
)
from touchstone.common.v1.unit_pb2 import UnitId
from touchstone_assignment.bucketing import HashVersion, bucketer, unit_bytes

from services.assignment.adapters.sql import migrate_assignment
from services.assignment.composition import assemble
from services.assignment.settings import Settings
from shared.errors import Code, DomainError
from shared.ids import RandomIds
from shared.security.caller import Role
from shared.security.keys import SqlKeyStore, make_key
from shared.server.platform import open_platform
from shared.server.run import Platform, start_server
from shared.server.status import from_rpc_error
from shared.testing.fakes import FixedClock
from shared.testing.ports import free_port

State = experiment_pb2.Experiment
START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
PROJECT = "projects/demo"
REASON = assignment_service_pb2.DecisionReason


def key_of(platform: Platform, project: str, *roles: Role) -> str:
    new = make_key(RandomIds(), project, "test", frozenset(roles), platform.clock.now())
    with platform.database.begin() as connection:
        store = SqlKeyStore(connection)
        if not store.has_project(project):
            store.add_project(project, platform.clock.now())
        store.add(new.key)
    return new.text


class Client:
    """Calls RPCs by name with the key of one project."""

    modules = (
        assignment_service_pb2,
        experiment_service_pb2,
        layer_service_pb2,
        schema_service_pb2,
        domain_service_pb2,
    )

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._stubs: tuple[Any, ...] = (
            assignment_service_pb2_grpc.AssignmentServiceStub(channel),
            experiment_service_pb2_grpc.ExperimentServiceStub(channel),
            layer_service_pb2_grpc.LayerServiceStub(channel),
            schema_service_pb2_grpc.SchemaServiceStub(channel),
            domain_service_pb2_grpc.DomainServiceStub(channel),
        )
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def call(self, method: str, /, **fields: Any) -> Any:
        for module, stub in zip(self.modules, self._stubs, strict=True):
            if hasattr(stub, method):
                request = getattr(module, f"{method}Request")(**fields)
                return await getattr(stub, method)(request, metadata=self._metadata)
        raise LookupError(method)

    async def refused(self, method: str, /, **fields: Any) -> DomainError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, **fields)
        return from_rpc_error(caught.value)

    async def create(self, key: str = "button", **fields: Any) -> Any:
        draft = experiment(**fields.pop("experiment", {}))
        reply = await self.call(
            "CreateExperiment", parent=PROJECT, experiment_id=key, experiment=draft, **fields
        )
        return reply.experiment

    async def verb(self, verb: str, key: str = "button", **fields: Any) -> Any:
        name = f"{PROJECT}/experiments/{key}"
        return (await self.call(f"{verb}Experiment", name=name, **fields)).experiment

    async def assign(
        self, units: Sequence[str], *experiments: str, explain: bool = False
    ) -> assignment_service_pb2.AssignResponse:
        reply: assignment_service_pb2.AssignResponse = await self.call(
            "Assign", units=[user(unit) for unit in units], experiments=experiments, explain=explain
        )
        return reply


def user(unit: str, kind: str = "user") -> assignment_service_pb2.UnitContext:
    return assignment_service_pb2.UnitContext(ids=[UnitId(type=kind, id=unit)])


def experiment(**fields: Any) -> experiment_pb2.Experiment:
    halves = [
        experiment_pb2.Variant(key="control", weight=5000),
        experiment_pb2.Variant(key="green", weight=5000),
    ]
    return experiment_pb2.Experiment(**({"variants": halves} | fields))


@dataclass(frozen=True, slots=True)
class World:
    """A running server, and clients of two projects."""

    demo: Client
    other: Client
    clock: FixedClock
    platform: Platform


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = Settings(data=tmp_path, assignment_address=f"127.0.0.1:{free_port()}")
    clock = FixedClock(START)
    platform = replace(open_platform(settings), clock=clock)
    migrate_assignment(platform.database)
    running = await start_server(assemble(settings, platform))
    async with grpc.aio.insecure_channel(settings.assignment_address) as channel:
        yield World(
            demo=Client(channel, key_of(platform, "demo", *Role)),
            other=Client(channel, key_of(platform, "other", *Role)),
            clock=clock,
            platform=platform,
        )
    await running.drain()


async def test_the_whole_life_of_an_experiment(world: World) -> None:
    draft = await world.demo.create(experiment={"display_name": "Button", "owner": "ada"})
    assert draft.name == "projects/demo/experiments/button"
    assert (draft.state, draft.unit_type, draft.traffic_slots) == (State.STATE_DRAFT, "user", 10000)
    assert draft.layer == "projects/demo/layers/button"
    assert draft.control_variant == "control"
    assert draft.hash_version == experiment_pb2.HASH_VERSION_FLAGD_V2
    assert draft.create_time.ToDatetime(dt.UTC) == START
    assert draft.salt.startswith("split/")

    world.clock.advance(dt.timedelta(hours=1))
    running = await world.demo.verb("Start", etag=draft.etag)
    assert running.state == State.STATE_RUNNING
    assert running.start_time.ToDatetime(dt.UTC) == START + dt.timedelta(hours=1)
    assert running.config_version > draft.config_version
    assert (await world.demo.verb("Get")) == running
    assert (await world.demo.verb("Pause")).state == State.STATE_PAUSED
    assert (await world.demo.verb("Start")).start_time == running.start_time
    stopped = await world.demo.verb("Stop")
    assert stopped.stop_time.ToDatetime(dt.UTC) == START + dt.timedelta(hours=1)
    assert (await world.demo.verb("Archive")).state == State.STATE_ARCHIVED
    error = await world.demo.refused("StartExperiment", name=draft.name)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    assert "ARCHIVED" in error.message


async def test_assignments_equal_an_independent_computation(world: World) -> None:
    layer = await world.demo.call(
        "CreateLayer", parent=PROJECT, layer_id="checkout", layer=layer_pb2.Layer()
    )
    for key, slots in (("one", 2500), ("two", 4000)):
        await world.demo.create(
            key, experiment={"layer": f"{PROJECT}/layers/checkout", "traffic_slots": slots}
        )
        await world.demo.verb("Start", key)
    units = [f"u{number}" for number in range(900)] + ["café", "50%", "a b"]
    reply = await world.demo.assign(units)
    assert [found.experiment for found in reply.experiments] == ["one", "two"]
    assert [found.layer for found in reply.experiments] == ["checkout", "checkout"]
    salts = {key: (await world.demo.verb("Get", key)).salt for key in ("one", "two")}
    slot = bucketer(HashVersion.FLAGD_V2, layer.layer.salt, 10_000)
    for unit, row in zip(units, reply.units, strict=True):
        owner = "one" if slot(unit_bytes(unit)) < 2500 else "two"
        if slot(unit_bytes(unit)) >= 6500:
            owner = ""
        for key, decision in zip(("one", "two"), row.decisions, strict=True):
            split = bucketer(HashVersion.FLAGD_V2, salts[key], 10_000)(unit_bytes(unit))
            if key == owner:
                assert decision.variant == ("control" if split < 5000 else "green")
                assert decision.reason == REASON.DECISION_REASON_SPLIT
            else:
                assert decision.variant == ""
                assert decision.reason == REASON.DECISION_REASON_NOT_IN_SLOTS
            assert not decision.HasField("explanation")
    explained = await world.demo.assign(units, "one", "two", explain=True)
    for unit, plain, row in zip(units, reply.units, explained.units, strict=True):
        for decision in row.decisions:
            assert decision.explanation.slot == slot(unit_bytes(unit))
            assert decision.explanation.unit_id == unit
            decision.ClearField("explanation")
        assert row == plain


async def test_a_decision_says_why_there_is_none(world: World) -> None:
    await world.demo.create("draft")
    await world.demo.create("phones", experiment={"unit_type": "device"})
    await world.demo.verb("Start", "phones")
    external = experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL
    await world.demo.create("mail", experiment={"assignment_source": external})
    await world.demo.verb("Start", "mail")
    reply = await world.demo.assign(["u"], "draft", "phones", "mail", "nowhere")
    reasons = [
        REASON.Name(d.reason).removeprefix("DECISION_REASON_") for d in reply.units[0].decisions
    ]
    assert reasons == ["NOT_RUNNING", "MISSING_UNIT", "EXTERNAL", "UNKNOWN_EXPERIMENT"]
    await world.demo.verb("Stop", "phones")
    reply = await world.demo.call("Assign", units=[user("d", "device")], experiments=["draft"])
    assert reply.units[0].decisions[0].reason == REASON.DECISION_REASON_NOT_RUNNING
    empty = await world.demo.assign(["u", "v"])
    assert len(empty.units) == 2
    assert len(empty.experiments) == 0


async def test_a_ramp_keeps_every_variant_and_pausing_gives_them_back(world: World) -> None:
    await world.demo.create(experiment={"traffic_slots": 1000})
    await world.demo.verb("Start")
    units = [f"u{number}" for number in range(3000)]

    async def variants() -> list[str]:
        reply = await world.demo.assign(units, "button")
        return [row.decisions[0].variant for row in reply.units]

    before = await variants()
    for slots in (2000, 5000, 10_000):
        await world.demo.call(
            "UpdateExperiment",
            experiment=experiment_pb2.Experiment(
                name=f"{PROJECT}/experiments/button", traffic_slots=slots
            ),
            update_mask=FieldMask(paths=["traffic_slots"]),
        )
        after = await variants()
        assert all(new == old for new, old in zip(after, before, strict=True) if old)
        assert sum(map(bool, after)) > sum(map(bool, before))
        before = after
    assert set(before) == {"control", "green"}
    await world.demo.verb("Pause")
    assert set(await variants()) == {""}
    await world.demo.verb("Start")
    assert await variants() == before


async def test_a_layer_shows_its_ledger_and_slots_rest(world: World) -> None:
    shared = {"layer": f"{PROJECT}/layers/checkout", "traffic_slots": 6000}
    await world.demo.call(
        "CreateLayer", parent=PROJECT, layer_id="checkout", layer=layer_pb2.Layer()
    )
    await world.demo.create("one", experiment=shared)
    await world.demo.create("two", experiment=shared)
    await world.demo.verb("Start", "one")
    error = await world.demo.refused("StartExperiment", name=f"{PROJECT}/experiments/two")
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "LAYER_FULL")
    assert error.metadata["free"] == "4000"
    await world.demo.verb("Stop", "one")
    name = shared["layer"]
    layer = (await world.demo.call("GetLayer", name=name)).layer
    row = layer.ranges[0]
    assert (row.first_slot, row.end_slot, layer.free_slots) == (0, 6000, 4000)
    assert row.experiment == f"{PROJECT}/experiments/one"
    assert row.release_time.ToDatetime(dt.UTC) == START
    assert row.reusable_time.ToDatetime(dt.UTC) == START + dt.timedelta(days=7)
    world.clock.advance(dt.timedelta(days=7))
    await world.demo.verb("Start", "two")
    layer = (await world.demo.call("GetLayer", name=name)).layer
    assert layer.free_slots == 4000
    assert len(layer.ranges) == 2
    listed = (await world.demo.call("ListLayers", parent=PROJECT)).layers
    assert [(found.name, len(found.ranges), found.free_slots) for found in listed] == [
        (name, 0, 4000)
    ]


async def test_growing_beyond_the_layer_is_refused_and_changes_nothing(world: World) -> None:
    layer = f"{PROJECT}/layers/checkout"
    await world.demo.call(
        "CreateLayer", parent=PROJECT, layer_id="checkout", layer=layer_pb2.Layer()
    )
    for key in ("one", "two"):
        await world.demo.create(key, experiment={"layer": layer, "traffic_slots": 4000})
        await world.demo.verb("Start", key)
    await world.demo.verb("Pause", "one")

    def growth(slots: int) -> dict[str, Any]:
        name = f"{PROJECT}/experiments/one"
        return {
            "experiment": experiment_pb2.Experiment(name=name, traffic_slots=slots),
            "update_mask": FieldMask(paths=["traffic_slots"]),
        }

    error = await world.demo.refused("UpdateExperiment", **growth(6001))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "LAYER_FULL")
    assert (await world.demo.verb("Get", "one")).traffic_slots == 4000
    error = await world.demo.refused("UpdateExperiment", **growth(3999))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    await world.demo.call("UpdateExperiment", **growth(6000))
    found = (await world.demo.call("GetLayer", name=layer)).layer
    ranges = [(row.first_slot, row.end_slot) for row in found.ranges]
    assert ranges == [(0, 4000), (4000, 8000), (8000, 10_000)]
    assert found.free_slots == 0


async def test_two_starts_at_once_never_share_a_slot(world: World) -> None:
    layer = f"{PROJECT}/layers/checkout"
    await world.demo.call(
        "CreateLayer", parent=PROJECT, layer_id="checkout", layer=layer_pb2.Layer()
    )
    keys = [f"e{number}" for number in range(6)]
    for key in keys:
        await world.demo.create(key, experiment={"layer": layer, "traffic_slots": 2000})
    starts = [world.demo.verb("Start", key) for key in keys]
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    failures = [found for found in outcomes if isinstance(found, grpc.aio.AioRpcError)]
    assert [from_rpc_error(failure).reason for failure in failures] == ["LAYER_FULL"]
    found = (await world.demo.call("GetLayer", name=layer)).layer
    assert sorted((row.first_slot, row.end_slot) for row in found.ranges) == [
        (start, start + 2000) for start in range(0, 10_000, 2000)
    ]


async def test_experiments_without_a_named_layer_are_independent(world: World) -> None:
    for key in ("one", "two"):
        draft = await world.demo.create(key)
        assert draft.layer == f"{PROJECT}/layers/{key}"
        await world.demo.verb("Start", key)
    reply = await world.demo.assign([f"u{number}" for number in range(2000)])
    pairs = Counter(tuple(d.variant for d in row.decisions) for row in reply.units)
    assert len(pairs) == 4
    assert min(pairs.values()) > 400
    await world.demo.call("CreateLayer", parent=PROJECT, layer_id="three", layer=layer_pb2.Layer())
    for key, kind in (("three", "layer"), ("two", "experiment")):
        error = await world.demo.refused(
            "CreateExperiment", parent=PROJECT, experiment_id=key, experiment=experiment()
        )
        assert (error.code, error.metadata["kind"]) == (Code.ALREADY_EXISTS, kind)


async def test_an_external_experiment_states_its_times_and_holds_no_slots(world: World) -> None:
    begin, end = Timestamp(seconds=1_700_000_000), Timestamp(seconds=1_701_000_000)
    mail = {
        "assignment_source": experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL,
        "start_time": begin,
        "stop_time": end,
    }
    await world.demo.create("mail", experiment=mail)
    await world.demo.verb("Start", "mail")
    stopped = await world.demo.verb("Stop", "mail")
    assert (stopped.start_time, stopped.stop_time) == (begin, end)
    assert (stopped.layer, stopped.traffic_slots) == ("", 0)
    backwards = experiment(**(mail | {"stop_time": Timestamp(seconds=1)}))
    error = await world.demo.refused(
        "CreateExperiment", parent=PROJECT, experiment_id="bad", experiment=backwards
    )
    assert [violation.field for violation in error.violations] == ["stop_time"]


async def test_lists_page_without_gaps_and_tokens_are_bound(world: World) -> None:
    for number in range(5):
        await world.demo.create(f"e{number}")
        world.clock.advance(dt.timedelta(minutes=1))
    await world.demo.verb("Archive", "e0")
    seen: list[str] = []
    token = ""
    for _ in range(2):
        reply = await world.demo.call(
            "ListExperiments", parent=PROJECT, page_size=2, page_token=token
        )
        seen += [found.name.rpartition("/")[2] for found in reply.experiments]
        previous, token = token, reply.next_page_token
    assert seen == ["e4", "e3", "e2", "e1"]
    assert token == ""
    archived = await world.demo.call(
        "ListExperiments", parent=PROJECT, states=[State.STATE_ARCHIVED]
    )
    assert [found.name.rpartition("/")[2] for found in archived.experiments] == ["e0"]
    error = await world.demo.refused(
        "ListExperiments", parent=PROJECT, page_token=previous, states=[State.STATE_DRAFT]
    )
    assert error.reason == "INVALID_PAGE_TOKEN"
    scope, _ = json.loads(base64.urlsafe_b64decode(previous))
    for place in ("", "x", "9" * 30 + " e1", "1 E1"):
        forged = base64.urlsafe_b64encode(json.dumps([scope, place]).encode()).decode()
        error = await world.demo.refused("ListExperiments", parent=PROJECT, page_token=forged)
        assert error.reason == "INVALID_PAGE_TOKEN"
    assert (await world.other.refused("ListExperiments", parent=PROJECT)).code is Code.NOT_FOUND


async def test_payloads_come_back_and_travel_with_assignments(world: World) -> None:
    payload = Struct()
    payload.update({"colour": "grün", "sizes": [1, 2.5], "on": True, "none": None})
    variants = [
        experiment_pb2.Variant(key="a", weight=1, payload=payload),
        experiment_pb2.Variant(key="b", weight=9999, display_name="B"),
    ]
    draft = await world.demo.create(experiment={"variants": variants, "control_variant": "b"})
    assert list(draft.variants) == variants
    await world.demo.verb("Start")
    reply = await world.demo.assign(["u"])
    assert reply.experiments[0].variants[0].payload == payload
    assert not reply.experiments[0].variants[1].HasField("payload")
    counts = Counter(
        row.decisions[0].variant
        for row in (await world.demo.assign([f"u{n}" for n in range(500)])).units
    )
    assert counts["b"] >= 495


async def test_a_repeated_request_id_changes_nothing_twice(world: World) -> None:
    first = await world.demo.create(request_id="r1")
    assert await world.demo.create(request_id="r1") == first
    error = await world.demo.refused(
        "CreateExperiment",
        parent=PROJECT,
        experiment_id="other",
        experiment=experiment(),
        request_id="r1",
    )
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    error = await world.demo.refused(
        "CreateExperiment", parent=PROJECT, experiment_id="button", experiment=experiment()
    )
    assert (error.code, error.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")


async def test_validate_only_checks_everything_and_keeps_nothing(world: World) -> None:
    planned = await world.demo.create(validate_only=True)
    assert planned.state == State.STATE_DRAFT
    gone = await world.demo.refused("GetExperiment", name=planned.name)
    assert (gone.code, gone.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    await world.demo.create()
    assert (await world.demo.verb("Start", validate_only=True)).state == State.STATE_RUNNING
    assert (await world.demo.verb("Get")).state == State.STATE_DRAFT


async def test_a_stale_etag_is_aborted(world: World) -> None:
    draft = await world.demo.create()
    await world.demo.verb("Start")
    for verb in ("Pause", "Stop"):
        error = await world.demo.refused(f"{verb}Experiment", name=draft.name, etag=draft.etag)
        assert (error.code, error.reason) == (Code.ABORTED, "STALE_ETAG")
    error = await world.demo.refused(
        "UpdateExperiment",
        experiment=experiment_pb2.Experiment(name=draft.name, etag=draft.etag, owner="eve"),
        update_mask=FieldMask(paths=["owner"]),
    )
    assert error.code is Code.ABORTED


@pytest.mark.parametrize(
    ("draft", "field", "part"),
    [
        ({"variants": []}, "variants", "2 to 100"),
        ({"layer": "checkout"}, "name", "projects/"),
        ({"layer": "projects/demo/layers/none"}, "", "no layer"),
        ({"control_variant": "blue"}, "control_variant", "one of"),
        ({"unit_type": "User"}, "experiment.unit_type", ""),
        ({"traffic_slots": 10_001}, "experiment.traffic_slots", ""),
        ({"traffic_slots": -1}, "experiment.traffic_slots", ""),
        (
            {"variants": [experiment_pb2.Variant(key="a", weight=1) for _ in range(2)]},
            "variants",
            "sum to 2",
        ),
        (
            {"variants": [experiment_pb2.Variant(key="a", weight=5000) for _ in range(2)]},
            "variants",
            "2 times",
        ),
        ({"start_time": Timestamp(seconds=1)}, "start_time", "EXTERNAL"),
    ],
)
async def test_a_bad_draft_gets_a_clear_error(
    world: World, draft: dict[str, Any], field: str, part: str
) -> None:
    error = await world.demo.refused(
        "CreateExperiment", parent=PROJECT, experiment_id="bad", experiment=experiment(**draft)
    )
    assert error.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
    assert part in error.message
    if field:
        assert field in {violation.field for violation in error.violations}


async def test_payloads_without_a_finite_value_are_refused(world: World) -> None:
    payload = Struct()
    payload["x"] = float("nan")
    variants = [
        experiment_pb2.Variant(key="a", weight=5000, payload=payload),
        experiment_pb2.Variant(key="b", weight=5000),
    ]
    error = await world.demo.refused(
        "CreateExperiment",
        parent=PROJECT,
        experiment_id="bad",
        experiment=experiment(variants=variants),
    )
    assert [violation.field for violation in error.violations] == ["variants[0].payload"]


async def test_a_layer_of_another_unit_type_or_hash_is_refused(world: World) -> None:
    layer = layer_pb2.Layer(unit_type="device", hash_version=experiment_pb2.HASH_VERSION_FLAGD_V3)
    await world.demo.call("CreateLayer", parent=PROJECT, layer_id="devices", layer=layer)
    base = {"layer": f"{PROJECT}/layers/devices"}
    for extra, field in (
        ({}, "layer"),
        (
            {"unit_type": "device", "hash_version": experiment_pb2.HASH_VERSION_FLAGD_V2},
            "hash_version",
        ),
    ):
        error = await world.demo.refused(
            "CreateExperiment",
            parent=PROJECT,
            experiment_id="x",
            experiment=experiment(**base, **extra),
        )
        assert [violation.field for violation in error.violations] == [field]
    fits = await world.demo.create("x", experiment=base | {"unit_type": "device"})
    assert fits.hash_version == experiment_pb2.HASH_VERSION_FLAGD_V3


async def test_metrics_of_an_experiment_may_change_while_it_runs(world: World) -> None:
    spend, visits = f"{PROJECT}/metrics/spend", f"{PROJECT}/metrics/visits"
    draft = await world.demo.create(experiment={"metrics": [spend]})
    assert list(draft.metrics) == [spend]
    await world.demo.verb("Start")
    request = experiment_pb2.Experiment(name=draft.name, metrics=[spend, visits])
    mask = FieldMask(paths=["metrics"])
    await world.demo.call("UpdateExperiment", experiment=request, update_mask=mask)
    found = await world.demo.call("GetExperiment", name=draft.name)
    assert list(found.experiment.metrics) == [spend, visits]
    foreign = experiment_pb2.Experiment(name=draft.name, metrics=["projects/x/metrics/spend"])
    error = await world.demo.refused("UpdateExperiment", experiment=foreign, update_mask=mask)
    assert error.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("paths", "part"), [([], "at least one"), (["salt"], "'salt'"), (["state", "owner"], "'state'")]
)
async def test_an_update_names_fields_that_may_change(
    world: World, paths: list[str], part: str
) -> None:
    draft = await world.demo.create()
    error = await world.demo.refused(
        "UpdateExperiment",
        experiment=experiment_pb2.Experiment(name=draft.name),
        update_mask=FieldMask(paths=paths),
    )
    assert error.code is Code.INVALID_ARGUMENT
    assert part in error.message


@pytest.mark.parametrize(
    "request_fields",
    [
        {"units": []},
        {"units": [user("")]},
        {"units": [user("x" * 257)]},
        {"units": [user("a\tb")]},
        {"units": [user("u", "User")]},
        {"units": [assignment_service_pb2.UnitContext()]},
        {"units": [user("u")] * 5001},
        {"units": [user("u")], "experiments": ["a", "a"]},
        {"units": [user("u")], "experiments": ["A b"]},
        {
            "units": [
                assignment_service_pb2.UnitContext(
                    ids=[UnitId(type="user", id="a"), UnitId(type="user", id="b")]
                )
            ]
        },
    ],
)
async def test_bad_assign_requests_are_refused(
    world: World, request_fields: dict[str, Any]
) -> None:
    error = await world.demo.refused("Assign", **request_fields)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.violations


async def test_the_number_of_decisions_of_a_call_is_bounded(world: World) -> None:
    units = [user(f"u{number}") for number in range(1001)]
    experiments = [f"e{number}" for number in range(100)]
    error = await world.demo.refused("Assign", units=units, experiments=experiments)
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert "100000" in error.message
    reply = await world.demo.call("Assign", units=units[:1000], experiments=experiments)
    assert sum(len(row.decisions) for row in reply.units) == 100_000
    error = await world.demo.refused(
        "Assign", units=units[:101], experiments=experiments, explain=True
    )
    assert "10000" in error.message


async def test_projects_do_not_see_each_other(world: World) -> None:
    await world.demo.create()
    await world.demo.verb("Start")
    for method in ("GetExperiment", "StartExperiment", "StopExperiment", "ArchiveExperiment"):
        error = await world.other.refused(method, name=f"{PROJECT}/experiments/button")
        assert error.code is Code.NOT_FOUND
    assert len((await world.other.assign(["u"])).experiments) == 0
    reply = await world.other.assign(["u"], "button")
    assert reply.units[0].decisions[0].reason == REASON.DECISION_REASON_UNKNOWN_EXPERIMENT


async def test_decisions_go_on_when_the_store_is_away(world: World) -> None:
    await world.demo.create()
    await world.demo.verb("Start")
    before = await world.demo.assign(["u1", "u2"])
    world.platform.database.close()
    assert await world.demo.assign(["u1", "u2"]) == before
    error = await world.demo.refused("PauseExperiment", name=f"{PROJECT}/experiments/button")
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "STORAGE_UNAVAILABLE")
