"""CheckService over its contract: salts, proportions, and the search for a balanced salt."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import check_service_pb2 as pb
from touchstone.assignment.v1 import check_service_pb2_grpc, experiment_pb2

from shared.errors import Code, DomainError
from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.server.status import from_rpc_error
from shared.testing.fakes import FixedClock
from tests.contract.serving_world import PROJECT, START, World, open_world, unit

EXPERIMENT = f"{PROJECT}/experiments/button"
OF_BUTTON = pb.CheckSampleRatioRequest(experiment=EXPERIMENT)
HALVES = [experiment_pb2.Variant(key=name, weight=5000) for name in ("control", "green")]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, assignment_http_address="") as found:
        yield found


async def check(world: World, method: str, request: Any) -> Any:
    stub = check_service_pb2_grpc.CheckServiceStub(world.channel)
    return await getattr(stub, method)(request, metadata=world.metadata)


async def refused(world: World, method: str, request: Any) -> DomainError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(world, method, request)
    return from_rpc_error(caught.value)


async def draft(world: World, key: str = "button", **fields: Any) -> None:
    sent = experiment_pb2.Experiment(**({"variants": HALVES} | fields))
    await world.call("CreateExperiment", parent=PROJECT, experiment_id=key, experiment=sent)


async def test_the_salts_of_a_project_pass(world: World) -> None:
    for key in ("one", "two", "three"):
        await world.start(key)
    found = await check(world, "CheckSalts", pb.CheckSaltsRequest(parent=PROJECT, units=5_000))
    assert (found.salts, found.tests, len(found.findings)) == (6, 6 + 15, 0)
    assert 0 < found.least_p_value < 1


async def test_what_was_assigned_is_tested_by_different_units(world: World) -> None:
    await world.start("button")
    for _ in range(16):
        await world.assign([unit(user=f"u{n}") for n in range(400)], "button")
    found = await check(
        world, "CheckSampleRatio", pb.CheckSampleRatioRequest(experiment=EXPERIMENT)
    )
    assert sum(variant.units for variant in found.variants) == 400
    assert [variant.expected for variant in found.variants] == [200, 200]
    assert found.p_value > 1e-6
    assert found.config_version > 0


async def test_before_anybody_came_there_is_nothing_to_test(world: World) -> None:
    await world.start("button")
    found = await check(
        world, "CheckSampleRatio", pb.CheckSampleRatioRequest(experiment=EXPERIMENT)
    )
    assert not found.HasField("p_value")
    assert [variant.units for variant in found.variants] == [0, 0]


async def test_a_switchback_has_no_ratio_of_units(world: World) -> None:
    await world.start("button", switchback=experiment_pb2.Switchback(window_s=3600))
    error = await refused(world, "CheckSampleRatio", OF_BUTTON)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


def fill(folder: Path, units: int) -> None:
    rows = [
        {
            "project": "demo",
            "position": 1,
            "event_id": f"e{n}",
            "event_time": START - dt.timedelta(days=1),
            "unit_id": f"u{n}",
            "event_name": "purchase",
            "value": float(n % 97),
        }
        for n in range(units)
    ]
    LakeWriter(folder / "lake", "journal", FixedClock()).append(
        {"conversions": table_of("conversions", rows)}, 1
    )


def search(**fields: Any) -> pb.FindBalancedSaltRequest:
    start = Timestamp()
    start.FromDatetime(START - dt.timedelta(days=7))
    base: dict[str, Any] = {"conversions": ["purchase"], "start_time": start, "candidates": 20}
    return pb.FindBalancedSaltRequest(**({"experiment": EXPERIMENT} | base | fields))


async def ended(world: World, answer: Any) -> operations_pb2.Operation:
    request = operations_pb2.WaitOperationRequest(name=answer.operation.name)
    stub = operations_pb2_grpc.OperationsStub(world.channel)
    for _ in range(10):
        found = await stub.WaitOperation(request, metadata=world.metadata)
        if found.done:
            return found
    raise AssertionError(f"{answer.operation.name} goes on and on")


async def test_a_draft_gets_the_salt_that_balances_it_best(world: World, tmp_path: Path) -> None:
    fill(tmp_path, 600)
    await draft(world)
    before = (await world.call("GetExperiment", name=EXPERIMENT)).experiment
    found = await ended(world, await check(world, "FindBalancedSalt", search()))
    result = pb.FindBalancedSaltResult()
    assert found.response.Unpack(result), found.error
    assert (result.units, result.candidates) == (600, 20)
    assert result.largest_difference < result.median_difference
    assert [one.covariate for one in result.covariates] == ["purchase sum", "purchase units"]
    after = (await world.call("GetExperiment", name=EXPERIMENT)).experiment
    assert after.salt == result.salt != before.salt
    assert after.config_version > before.config_version


async def test_a_search_without_units_ends_with_the_reason(world: World) -> None:
    await draft(world)
    found = await ended(world, await check(world, "FindBalancedSalt", search()))
    assert found.error.code == 9
    assert "0 units of type 'user'" in found.error.message


async def test_a_started_experiment_keeps_its_salt(world: World) -> None:
    await world.start("button")
    error = await refused(world, "FindBalancedSalt", search())
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


async def test_times_that_make_no_sense_are_named(world: World) -> None:
    await draft(world)
    later = Timestamp()
    later.FromDatetime(START + dt.timedelta(days=1))
    error = await refused(world, "FindBalancedSalt", search(end_time=later))
    assert error.message.startswith("end_time is ")
    error = await refused(world, "FindBalancedSalt", search(start_time=later))
    assert error.message.startswith("start_time is ")


async def test_another_projects_experiment_is_not_found(world: World) -> None:
    request = pb.CheckSampleRatioRequest(experiment="projects/other/experiments/button")
    assert (await refused(world, "CheckSampleRatio", request)).code is Code.NOT_FOUND
