"""The worked example over the wire: a real server and generated clients."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import json_format
from touchstone.attribution.v1 import money_pb2
from touchstone.attribution.v1 import scenario_service_pb2 as pb
from touchstone.attribution.v1 import scenario_service_pb2_grpc as rpc

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.security.caller import Role
from shared.server.run import start_server
from tests.contract.attribution_world import free_port, key_of

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "scene.yaml"


@pytest.fixture
async def value(tmp_path: Path) -> AsyncIterator[Any]:
    settings = Settings(data=tmp_path, attribution_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    key = key_of(application, "demo", Role.VIEWER)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        stub = rpc.ScenarioServiceStub(channel)

        async def ask(request: pb.ValueScenarioRequest) -> pb.ValueScenarioResponse:
            found: pb.ValueScenarioResponse = await stub.ValueScenario(
                request, metadata=(("authorization", f"Bearer {key}"),)
            )
            return found

        yield ask
    await running.drain()


def example() -> pb.ValueScenarioRequest:
    return json_format.ParseDict(yaml.safe_load(EXAMPLE.read_text()), pb.ValueScenarioRequest())


async def test_the_worked_example_and_what_does_not_agree_in_it(value: Any) -> None:
    found = await value(example())

    assert [round(row.value.value, 6) for row in found.products] == [10_000, 4_200, 360, 6_909]
    assert found.total.value == pytest.approx(21_469)
    assert found.direct_and_total.value == pytest.approx(57_869)
    assert f"{found.uplift.value:.2%}" == "58.98%"
    flagged = {
        pb.ScenarioQuantity.Name(check.quantity): (check.given, round(check.derived, 2))
        for check in found.checks
        if check.flagged
    }
    assert flagged == {
        "SCENARIO_QUANTITY_VALUE_PER_USER": (49.35, 44.74),
        "SCENARIO_QUANTITY_TOTAL": (2.14, 2.15),
        "SCENARIO_QUANTITY_DIRECT_PAYBACK_YEARS": (2, 1.65),
    }


async def test_a_measured_share_carries_its_error_and_its_experiment(value: Any) -> None:
    request = example()
    share = request.products[1].share
    share.std_err, share.measured_by = 0.03, "projects/demo/experiments/promotion"

    found = await value(request)

    assert found.products[1].value.std_err == pytest.approx(2000 * 0.03 / 3 * 21)
    assert found.total.std_err == pytest.approx(420)
    share.measured_by = ""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await value(request)
    assert "products.consumer finance.share.std_err" in str(refused.value.details())


async def test_what_is_not_given_is_said(value: Any) -> None:
    request = example()
    for field in ("investment", "direct_income", "contract_years"):
        request.ClearField(field)
    del request.stated[:]

    found = await value(request)

    assert found.uplift.undefined == money_pb2.MONEY_UNDEFINED_NOT_GIVEN
    assert not found.payback_years.HasField("value")
    request.products[0].users.value = 3
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await value(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
