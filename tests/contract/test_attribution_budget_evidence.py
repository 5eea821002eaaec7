"""Budgets that are measured by imported spend, a kept report and experiments: a real server."""

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import (
    attribution_pb2,
    budget_pb2,
    calibration_pb2,
    calibration_service_pb2,
    calibration_service_pb2_grpc,
    money_pb2,
    report_service_pb2,
    report_service_pb2_grpc,
    spend_service_pb2,
    spend_service_pb2_grpc,
)
from touchstone.attribution.v1 import economics_service_pb2 as pb
from touchstone.attribution.v1 import economics_service_pb2_grpc as rpc

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.security.caller import Role
from shared.server.run import start_server
from shared.testing.ports import free_port
from tests.contract.attribution_world import key_of, moment, timestamp
from tests.contract.money_world import write_money_events
from tests.contract.test_attribution_calibration import LINK, Refusing

PARENT = "projects/demo"
REPORT = f"{PARENT}/attributionReports/rep"
SPENDS = (10.0, 40.0, 20.0, 80.0, 30.0, 60.0)
"""By day, from day 1 on; the seventh day was not told of."""

BOUGHT = tuple(round(12 * math.log1p(spend / 20)) for spend in SPENDS)


@dataclass
class World:
    """The server, where it looks for results, and keys."""

    channel: grpc.aio.Channel
    results_address: str
    keys: dict[str, str]

    def metadata(self, who: str = "demo") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[who]}"),)

    async def spread(
        self, *lines: budget_pb2.BudgetLine, who: str = "viewer", **evidence: Any
    ) -> pb.AllocateBudgetResponse:
        asked: dict[str, Any] = {"report": REPORT} | evidence
        request = pb.AllocateBudgetRequest(
            lines=lines, total=50, evidence=pb.BudgetEvidence(**asked)
        )
        stub = rpc.EconomicsServiceStub(self.channel)
        found: pb.AllocateBudgetResponse = await stub.AllocateBudget(
            request, metadata=self.metadata(who)
        )
        return found


def measured(channel: str = "ads", **fields: Any) -> budget_pb2.BudgetLine:
    return budget_pb2.BudgetLine(channel=channel, measured=budget_pb2.MeasuredHistory(), **fields)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    units = [(f"u{day}-{n}", day) for day, count in enumerate(BOUGHT, 1) for n in range(count)]
    write_money_events(
        tmp_path / "lake",
        # Everybody buys half a day later, for 2; one of the last day does four days later.
        bought=(*((unit, day + 0.5, 2.0) for unit, day in units), ("late", 11.0, 2.0)),
        touched=(*((unit, day, "ads", None) for unit, day in units), ("late", 7.0, "ads", None)),
    )
    results_address = f"127.0.0.1:{free_port()}"
    settings = Settings(
        data=tmp_path,
        attribution_address=f"127.0.0.1:{free_port()}",
        results_address=results_address,
    )
    application = compose(settings)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        keys = {
            "demo": key_of(application, "demo", Role.VIEWER, Role.EXPERIMENTER),
            "viewer": key_of(application, "demo", Role.VIEWER),
            "other": key_of(application, "other", Role.VIEWER),
        }
        made = World(channel, results_address, keys)
        await run_report(made)
        await import_spend(made)
        yield made
    await running.drain()


async def run_report(world: World) -> None:
    models = [attribution_pb2.Model(markov=attribution_pb2.Markov()), attribution_pb2.Model()]
    models[1].last_touch.SetInParent()
    begun = await report_service_pb2_grpc.ReportServiceStub(world.channel).RunAttribution(
        report_service_pb2.RunAttributionRequest(
            parent=PARENT,
            report_id="rep",
            journeys=attribution_pb2.JourneyDefinition(
                event_name="buy", start_time=timestamp(0), end_time=timestamp(12)
            ),
            models=models,
            min_units=1,
        ),
        metadata=world.metadata(),
    )
    ended = await operations_pb2_grpc.OperationsStub(world.channel).WaitOperation(
        operations_pb2.WaitOperationRequest(
            name=begun.operation.name, timeout=Duration(seconds=20)
        ),
        metadata=world.metadata(),
    )
    assert not ended.HasField("error"), ended.error


async def import_spend(world: World) -> None:
    rows = [("platform", day, amount) for day, amount in enumerate(SPENDS, 1)]
    # A second source tells of one day: it is not added. The last day is not settled.
    rows += [("zeta", 2, 999.0), ("platform", 11, 500.0)]
    spend = [
        spend_service_pb2.Spend(
            source=source,
            channel="ads",
            day=moment(day).date().isoformat(),
            amount=amount,
            currency="CNY",
        )
        for source, day, amount in rows
    ]
    request = spend_service_pb2.ImportSpendRequest(parent=PARENT, rows=spend)
    stub = spend_service_pb2_grpc.SpendServiceStub(world.channel)
    await stub.ImportSpend(request, metadata=world.metadata())


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), str(error.value.details())


async def test_a_history_is_spend_and_credit_by_day(world: World) -> None:
    found = await world.spread(measured())

    (ads,) = found.allocation.channels
    assert (ads.measured.days, ads.measured.spend) == (len(SPENDS), sum(SPENDS))
    assert ads.measured.response == sum(BOUGHT)
    assert (ads.measured.first_day, ads.measured.last_day) == ("2026-01-02", "2026-01-07")
    assert ads.measured.sources == ["platform"]
    assert ads.fitted.r_squared > 0.98
    assert ads.present == pytest.approx(sum(SPENDS) / len(SPENDS))
    assert ads.response.value == pytest.approx(12 * math.log1p(50 / 20), rel=0.05)
    assert not ads.HasField("kappa")
    told = found.provenance
    assert (told.report, told.model_name, told.currency) == (REPORT, "markov_path_credit", "CNY")
    assert (told.settling_days, told.outcome) == (1, calibration_pb2.TESTED_OUTCOME_CONVERSIONS)
    assert len(told.spend_digest) == len(told.report_digest) == 64
    assert not told.calibration_digest
    (conflict,) = told.conflicts
    assert (conflict.counted, conflict.left_out.amount) == ("platform", 999.0)
    # As much money in the proportions of present spend is the same spread.
    assert found.allocation.gain.value.value == pytest.approx(0, abs=1e-9)


async def test_value_sources_and_settling_are_as_asked(world: World) -> None:
    value = await world.spread(
        measured(),
        outcome=calibration_pb2.TESTED_OUTCOME_VALUE,
        model_name="last_touch",
        settling_days=0,
        costs=pb.CostRules(sources=["zeta"]),
    )

    (ads,) = value.allocation.channels
    # Day 11 counts, and nothing is credited to its touches.
    assert (ads.measured.days, ads.measured.response) == (len(SPENDS) + 1, 2.0 * sum(BOUGHT))
    assert ads.measured.spend == sum(SPENDS) - SPENDS[1] + 999 + 500
    assert ads.measured.sources == ["platform", "zeta"]
    assert value.provenance.model_name == "last_touch"


async def test_values_are_measured_in_the_currency_of_spend(world: World) -> None:
    value: dict[str, Any] = {"outcome": calibration_pb2.TESTED_OUTCOME_VALUE, "currency": "USD"}
    yuan = [money_pb2.ExchangeRate(currency="CNY", rate=0.125)]

    found = await world.spread(measured(), exchange_rates=yuan, **value)

    (ads,) = found.allocation.channels
    assert (ads.measured.spend, ads.measured.response) == (sum(SPENDS) / 8, 2.0 * sum(BOUGHT) / 8)
    assert found.provenance.currency == "USD"
    code, said = await refused(world.spread(measured(), **value))
    assert (code, "without a rate" in said) == (grpc.StatusCode.FAILED_PRECONDITION, True)


async def test_the_gain_carries_the_error_of_kappa(world: World) -> None:
    kappa = budget_pb2.BudgetKappa(value=0.5, std_err=0.1)
    other = budget_pb2.BudgetLine(
        channel="tv", log=budget_pb2.LogResponse(scale=12, half=20), present=10
    )
    found = (await world.spread(measured(kappa=kappa), other)).allocation

    ads, tv = found.channels
    curve = ads.fitted.curve
    before = 50 * ads.present / (ads.present + 10)

    def brings(spend: float) -> float:
        return curve.scale * math.log1p(spend / curve.half)

    def of_tv(spend: float) -> float:
        return 12 * math.log1p(spend / 20)

    more = brings(ads.spend) - brings(before)
    gain = found.gain
    assert gain.value.value == pytest.approx(0.5 * more + of_tv(tv.spend) - of_tv(50 - before))
    assert gain.value.value > 0
    assert gain.value.std_err == pytest.approx(0.1 * abs(more))
    assert gain.high.value - gain.low.value == pytest.approx(2 * 1.959964 * 0.1 * abs(more))
    # Without present spend of every channel there is nothing to compare with.
    other.ClearField("present")
    unknown = (await world.spread(measured(kappa=kappa), other)).allocation.gain
    assert unknown.value.undefined == money_pb2.MONEY_UNDEFINED_NOT_GIVEN


async def test_what_cannot_be_measured_is_refused_with_a_reason(world: World) -> None:
    needed = "lines[0].measured"
    radio = await refused(world.spread(measured("radio")))
    assert radio[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert "radio" in radio[1]
    assert needed in radio[1]
    code, said = await refused(world.spread(measured(), model_name="markov_removal_share"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "markov_path_credit" in said
    code, said = await refused(world.spread(measured(), settling_days=30))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "settled" in said
    code, said = await refused(world.spread(measured(calibrate=True)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "no usable test" in said
    code, said = await refused(
        world.spread(measured(calibrate=True, kappa=budget_pb2.BudgetKappa(value=1)))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    bare = pb.AllocateBudgetRequest(lines=[measured()], total=1)
    stub = rpc.EconomicsServiceStub(world.channel)
    code, said = await refused(stub.AllocateBudget(bare, metadata=world.metadata()))
    assert (code, needed in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_a_report_of_others_is_not_found(world: World) -> None:
    code, _ = await refused(world.spread(measured(), who="other"))
    assert code is grpc.StatusCode.NOT_FOUND
    code, _ = await refused(world.spread(measured(), report=f"{PARENT}/attributionReports/none"))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_tests_are_read_with_the_callers_own_credential(world: World) -> None:
    links = calibration_service_pb2_grpc.CalibrationServiceStub(world.channel)
    request = calibration_service_pb2.CreateCalibrationLinkRequest(
        parent=PARENT, calibration_link_id="ads", calibration_link=LINK
    )
    await links.CreateCalibrationLink(request, metadata=world.metadata())
    results, server = Refusing(grpc.StatusCode.PERMISSION_DENIED), grpc.aio.server()
    server.add_generic_rpc_handlers([results])
    server.add_insecure_port(world.results_address)
    await server.start()
    try:
        found = await refused(world.spread(measured(calibrate=True)))
        assert found == (grpc.StatusCode.PERMISSION_DENIED, "so it is")
        # Where no line asks for a calibration, nobody is asked.
        await world.spread(measured())
    finally:
        await server.stop(0)
    assert results.asked == [f"Bearer {world.keys['viewer']}"]
