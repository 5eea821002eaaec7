"""The worked example over the wire: a real server and generated clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import json_format
from touchstone.attribution.v1 import money_pb2
from touchstone.attribution.v1 import scenario_service_pb2 as pb
from touchstone.attribution.v1 import scenario_service_pb2_grpc as rpc
from touchstone.results.v1 import results_pb2, results_service_pb2

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.security.caller import Role
from shared.server.run import start_server
from shared.testing.ports import free_port
from tests.contract.attribution_world import key_of

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "scene.yaml"


MEASURED = pb.MeasuredComparison(
    experiment="projects/demo/experiments/promotion",
    variant="shown",
    control="held-out",
    metric="projects/demo/metrics/came",
)


def number(value: float) -> results_pb2.Estimate:
    return results_pb2.Estimate(value=value)


def results(alert: bool = False) -> results_service_pb2.GetResultsResponse:
    """A share of 0.25, from 0.2 to 0.3."""
    arms = [("held-out", 500), ("shown", 520), ("other", 10)]
    compared = results_pb2.Comparison(
        variant="shown",
        difference=number(0.25),
        std_err=number(0.025),
        difference_interval=results_pb2.Interval(low=0.2, high=0.3),
    )
    nothing = results_pb2.Estimate(not_estimable=results_pb2.NOT_ESTIMABLE_ONE_UNIT)
    metric = results_pb2.MetricResults(
        metric_version=3,
        arms=[results_pb2.ArmEstimate(variant=v, units=units) for v, units in arms],
        comparisons=[compared, results_pb2.Comparison(variant="other", difference=nothing)],
    )
    return results_service_pb2.GetResultsResponse(
        results=results_pb2.Results(
            metrics=[metric],
            sample_ratio=results_pb2.SampleRatioCheck(alert=alert),
            provenance=results_pb2.Provenance(watermark="w", config_version=7),
        )
    )


@dataclass
class Answering(grpc.GenericRpcHandler):
    """A results service that says this, or a status, and remembers what it was asked by whom."""

    says: results_service_pb2.GetResultsResponse | grpc.StatusCode
    asked: list[results_service_pb2.GetResultsRequest] = field(default_factory=list)
    by: list[str] = field(default_factory=list)

    def service(self, handler_call_details: Any) -> Any:
        self.by.append(str(dict(handler_call_details.invocation_metadata)["authorization"]))

        async def answer(request: bytes, context: Any) -> bytes:
            self.asked.append(results_service_pb2.GetResultsRequest.FromString(request))
            if not isinstance(self.says, grpc.StatusCode):
                return self.says.SerializeToString()
            await context.abort(self.says, "so it is")
            raise AssertionError

        return grpc.unary_unary_rpc_method_handler(answer)


@dataclass
class World:
    """The server, where it looks for results, and the caller's key."""

    stub: Any
    results_address: str
    key: str

    async def __call__(self, request: pb.ValueScenarioRequest) -> pb.ValueScenarioResponse:
        found: pb.ValueScenarioResponse = await self.stub.ValueScenario(
            request, metadata=(("authorization", f"Bearer {self.key}"),)
        )
        return found

    @asynccontextmanager
    async def beside(self, results: Answering) -> AsyncIterator[None]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([results])
        server.add_insecure_port(self.results_address)
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)


@pytest.fixture
async def value(tmp_path: Path) -> AsyncIterator[World]:
    settings = Settings(
        data=tmp_path,
        attribution_address=f"127.0.0.1:{free_port()}",
        results_address=f"127.0.0.1:{free_port()}",
    )
    application = compose(settings)
    running = await start_server(application)
    key = key_of(application, "demo", Role.VIEWER)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        yield World(rpc.ScenarioServiceStub(channel), settings.results_address, key)
    await running.drain()


def example() -> pb.ValueScenarioRequest:
    return json_format.ParseDict(yaml.safe_load(EXAMPLE.read_text()), pb.ValueScenarioRequest())


async def test_the_worked_example_and_what_does_not_agree_in_it(value: World) -> None:
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


async def test_a_measured_share_carries_its_error_and_its_experiment(value: World) -> None:
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


async def test_what_is_not_given_is_said(value: World) -> None:
    request = example()
    for name in ("investment", "direct_income", "contract_years"):
        request.ClearField(name)
    del request.stated[:]

    found = await value(request)

    assert found.uplift.undefined == money_pb2.MONEY_UNDEFINED_NOT_GIVEN
    assert not found.payback_years.HasField("value")
    request.products[0].users.value = 3
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await value(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def measuring(given: float | None = None) -> pb.ValueScenarioRequest:
    """The example, where an experiment measures the share of consumer finance."""
    request = example()
    share = request.products[1].share
    share.CopyFrom(pb.ScenarioInput(value=given, comparison=MEASURED))
    return request


async def test_an_experiment_measures_an_input_with_its_interval(value: World) -> None:
    promotion = Answering(results())
    async with value.beside(promotion):
        found = await value(measuring())

    (one,) = found.measurements
    assert (one.product, one.input) == ("consumer finance", "share")
    assert (one.difference.value.value, one.difference.value.std_err) == (0.25, 0.025)
    assert (one.difference.low.value, one.difference.high.value) == (0.2, 0.3)
    assert (one.units, one.control_units, one.untrusted) == (520, 500, False)
    assert (one.provenance.metric_version, list(one.provenance.config_versions)) == (3, [7])
    assert (one.comparison.as_of, one.comparison.experiment) == ("w", MEASURED.experiment)
    assert found.products[1].users.value == pytest.approx(2000 * 0.25 / 3)
    assert found.products[1].value.std_err == pytest.approx(2000 * 0.025 / 3 * 21)
    assert not [check for check in found.checks if check.input]
    # It was asked as the caller, and at a cut: no look is taken.
    assert promotion.by == [f"Bearer {value.key}"]
    assert promotion.asked[0].as_of
    assert list(promotion.asked[0].metrics) == [MEASURED.metric]


@pytest.mark.parametrize(("given", "flagged"), [(0.22, False), (0.31, True)])
async def test_a_given_number_that_contradicts_the_experiment_is_flagged(
    value: World, given: float, flagged: bool
) -> None:
    async with value.beside(Answering(results(alert=True))):
        found = await value(measuring(given))

    check = found.checks[0]
    assert (check.quantity, check.input) == (pb.SCENARIO_QUANTITY_INPUT, "share")
    assert (check.given, check.derived, check.flagged) == (given, 0.25, flagged)
    expected = pb.AGREEMENT_INCONSISTENT if flagged else pb.AGREEMENT_WITHIN_INTERVAL
    assert check.agreement == expected
    assert f"{given} is given and 0.25 measured" in check.message
    # What was measured counts.
    assert found.products[1].users.value == pytest.approx(2000 * 0.25 / 3)
    assert found.measurements[0].untrusted


def turned(comparison: pb.MeasuredComparison) -> None:
    comparison.variant, comparison.control = "held-out", "shown"


async def test_variants_are_compared_as_they_are_named(value: World) -> None:
    request = measuring()
    turned(request.products[1].share.comparison)
    async with value.beside(Answering(results())):
        (one,) = (await value(request)).measurements

    assert one.difference.value.value == -0.25
    assert (one.difference.low.value, one.difference.high.value) == (-0.3, -0.2)
    assert (one.units, one.control_units) == (500, 520)


async def test_what_measures_nothing_says_why(value: World) -> None:
    async def refused(request: pb.ValueScenarioRequest) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await value(request)
        return error.value.code(), str(error.value.details())

    code, said = await refused(measuring())
    assert code is grpc.StatusCode.UNAVAILABLE
    assert value.results_address in said
    for status, expected in (
        (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.PERMISSION_DENIED),
        (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION),
    ):
        async with value.beside(Answering(status)):
            code, said = await refused(measuring())
        assert (code, "so it is" in said) == (expected, True)
    assert "products.consumer finance.share.comparison" in said
    request = measuring()
    request.products[1].share.comparison.variant = "other"
    async with value.beside(Answering(results())):
        assert "at this cut: one unit" in (await refused(request))[1]
    request.products[1].share.comparison.experiment = "projects/other/experiments/promotion"
    assert (await refused(request))[0] is grpc.StatusCode.NOT_FOUND
    request = measuring()
    request.products[1].share.std_err = 0.1
    assert (await refused(request))[0] is grpc.StatusCode.INVALID_ARGUMENT
    request = example()
    request.products[1].share.ClearField("value")
    assert "products.consumer finance.share.value" in (await refused(request))[1]
