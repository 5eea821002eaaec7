"""What channels cost and bring: a real server, real tables, generated clients."""

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
    economics_service_pb2_grpc,
    lifetime_pb2,
    money_pb2,
    report_service_pb2,
    report_service_pb2_grpc,
    spend_service_pb2,
    spend_service_pb2_grpc,
)
from touchstone.attribution.v1 import economics_service_pb2 as pb

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.security.caller import Role
from shared.server.run import start_server
from shared.testing.ports import free_port
from tests.contract.attribution_world import key_of, timestamp
from tests.contract.money_world import TOUCHES, spend_rows, write_customers, write_money_events

BUY = attribution_pb2.JourneyDefinition(
    event_name="buy", start_time=timestamp(0), end_time=timestamp(7)
)
ACQUIRED = attribution_pb2.JourneyDefinition(
    event_name="buy", start_time=timestamp(0), end_time=timestamp(41)
)
LINEAR = attribution_pb2.Model(linear=attribution_pb2.Linear())
MARKOV = attribution_pb2.Model(markov=attribution_pb2.Markov())


@dataclass
class World:
    """The server, and keys of an experimenter, a viewer and another project."""

    lake: Path
    channel: grpc.aio.Channel
    keys: dict[str, str]

    def metadata(self, who: str = "demo") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[who]}"),)

    async def ask(self, who: str = "demo", **fields: Any) -> pb.GetChannelEconomicsResponse:
        asked: dict[str, Any] = {"parent": "projects/demo", "models": [LINEAR]}
        if "report" not in fields:
            asked["journeys"] = BUY
        stub = economics_service_pb2_grpc.EconomicsServiceStub(self.channel)
        request = pb.GetChannelEconomicsRequest(**asked | fields)
        found: pb.GetChannelEconomicsResponse = await stub.GetChannelEconomics(
            request, metadata=self.metadata(who)
        )
        return found

    async def predict(self, **fields: Any) -> pb.PredictLifetimeValueResponse:
        asked: dict[str, Any] = {"parent": "projects/demo", "acquisition": ACQUIRED}
        stub = economics_service_pb2_grpc.EconomicsServiceStub(self.channel)
        request = pb.PredictLifetimeValueRequest(**asked | fields)
        found: pb.PredictLifetimeValueResponse = await stub.PredictLifetimeValue(
            request, metadata=self.metadata()
        )
        return found

    async def put_spend(self) -> None:
        stub = spend_service_pb2_grpc.SpendServiceStub(self.channel)
        request = spend_service_pb2.ImportSpendRequest(parent="projects/demo", rows=spend_rows())
        await stub.ImportSpend(request, metadata=self.metadata())


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
            tmp_path / "lake",
            channel,
            {
                "demo": key_of(application, "demo", Role.VIEWER, Role.EXPERIMENTER, Role.ADMIN),
                "other": key_of(application, "other", Role.VIEWER),
            },
        )
    await running.drain()


def shown(figure: money_pb2.MoneyFigure) -> float | str:
    if figure.HasField("value"):
        return round(figure.value, 9)
    return money_pb2.MoneyUndefined.Name(figure.undefined).removeprefix("MONEY_UNDEFINED_")


def ratios(found: pb.GetChannelEconomicsResponse) -> dict[str, tuple[Any, ...]]:
    return {
        one.channel: (
            one.conversions,
            shown(one.cost_per_conversion),
            shown(one.return_on_spend),
            shown(one.margin),
        )
        for one in found.models[0].channels
    }


async def test_ratios_by_hand_with_spend_counted_once(world: World) -> None:
    write_money_events(world.lake)
    await world.put_spend()

    found = await world.ask(margin_rate=0.5)

    assert found.currency == "CNY"
    assert {cost.channel: (shown(cost.cost), list(cost.sources)) for cost in found.costs} == {
        "ads": (11.0, ["agency", "platform"]),
        "mail": ("COST_UNKNOWN", []),
        "radio": (7.0, ["agency"]),
        "tv": ("MIXED_CURRENCIES", ["agency"]),
    }
    conflicts = [
        (one.channel, one.counted, one.left_out.source, one.left_out.day, one.left_out.amount)
        for one in found.conflicts
        if one.HasField("left_out")
    ]
    assert conflicts == [("ads", "agency", "platform", "2026-01-03", 6.0)]
    (touched,) = [one for one in found.conflicts if one.HasField("touch_costs")]
    assert (touched.channel, touched.touch_costs) == ("ads", 3.0)
    assert ratios(found) == {
        "ads": (1.5, round(11 / 1.5, 9), round(25 / 11, 9), 1.5),
        "mail": (0.5, "COST_UNKNOWN", "COST_UNKNOWN", "COST_UNKNOWN"),
        "radio": (0.0, "NO_CONVERSIONS", 0.0, -7.0),
        "tv": (0.0, "MIXED_CURRENCIES", "MIXED_CURRENCIES", "MIXED_CURRENCIES"),
    }


async def test_sources_rates_and_bases_are_rules_of_the_request(world: World) -> None:
    write_money_events(world.lake)
    await world.put_spend()
    platform = pb.CostRules(sources=["platform"])
    dollars = [money_pb2.ExchangeRate(currency="USD", rate=7.0)]

    ranked = await world.ask(costs=platform, exchange_rates=dollars)
    touches = await world.ask(costs=pb.CostRules(basis=pb.COST_BASIS_TOUCHES))
    imported = await world.ask(costs=pb.CostRules(basis=pb.COST_BASIS_IMPORTED))
    foreign = await world.ask(currency="USD")

    costs = [{one.channel: shown(one.cost) for one in each.costs} for each in (ranked, touches)]
    assert costs == [
        {"ads": 12.0, "mail": "COST_UNKNOWN", "radio": 7.0, "tv": 49.0},
        {"ads": 3.0, "mail": "COST_UNKNOWN"},
    ]
    assert ratios(touches)["ads"][1] == 2.0
    assert shown(imported.costs[1].cost) == "COST_UNKNOWN"
    # Values of one currency are not set against the costs of another.
    mixed = "MIXED_CURRENCIES"
    assert ratios(foreign)["ads"] == (1.5, mixed, mixed, mixed)
    assert shown(foreign.models[0].channels[0].value) == mixed
    assert ratios(foreign)["tv"][2] == mixed


async def test_payback_by_hand(world: World) -> None:
    write_money_events(world.lake)
    await world.put_spend()
    platform = pb.CostRules(sources=["platform"])

    found = await world.ask(
        margin_rate=0.4,
        costs=platform,
        models=[LINEAR, MARKOV],
        payback=pb.EarningDefinition(),
    )

    by_name = {result.model_name: result for result in found.models}
    ads, mail, radio, _ = (one.payback for one in by_name["linear"].channels)
    # Day 0: 10 * 0.4 / 2 + 20 * 0.4 = 10; day 7: 30 * 0.4 / 2 = 6 more, above 12.
    assert (shown(ads.days), shown(ads.recovered)) == (7.0, round(16 / 12, 9))
    assert (ads.observed_days, ads.units, shown(ads.cost_per_unit)) == (26, 1.5, 8.0)
    assert shown(mail.days) == "COST_UNKNOWN"
    assert (shown(radio.days), shown(radio.cost_per_unit)) == ("NOT_OBSERVED", "NO_CONVERSIONS")
    # What divides totals alone has no payback.
    assert not by_name["markov_removal_share"].channels[0].HasField("payback")
    assert by_name["markov_path_credit"].channels[0].HasField("payback")

    early = pb.EarningDefinition(observed_until=timestamp(9))
    soon = await world.ask(margin_rate=0.4, costs=platform, payback=early)
    ads = soon.models[0].channels[0].payback
    assert (shown(ads.days), shown(ads.recovered)) == ("NOT_PAID_BACK", round(10 / 12, 9))
    assert ads.observed_days == 5
    late = pb.EarningDefinition(observed_until=timestamp(3.5))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.ask(payback=late)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_report_is_set_against_money_as_its_journeys_are(world: World) -> None:
    write_money_events(world.lake)
    await world.put_spend()
    name = await _report(world)

    kept = await world.ask(report=name, models=[], currency="CNY", payback=pb.EarningDefinition())
    now = await world.ask(payback=pb.EarningDefinition())

    assert kept.models == now.models
    assert kept.costs == now.costs
    assert kept.provenance.watermark == now.provenance.watermark
    for wrong in ({"report": name}, {"report": f"{name}x", "models": []}):
        with pytest.raises(grpc.aio.AioRpcError):
            await world.ask(**wrong)


async def test_a_kept_report_says_of_which_currency_its_amounts_are(world: World) -> None:
    """Values of one currency over spend of another would be a return that nobody had."""
    write_money_events(world.lake)
    await world.put_spend()
    asked: dict[str, Any] = {"report": await _report(world), "models": []}
    yuan = [money_pb2.ExchangeRate(currency="CNY", rate=0.125)]

    plain = await world.ask(**asked)
    dollars = await world.ask(currency="USD", **asked)
    converted = await world.ask(currency="USD", exchange_rates=yuan, **asked)

    assert plain.currency == "CNY"
    assert plain.models == (await world.ask()).models
    mixed = "MIXED_CURRENCIES"
    assert ratios(dollars)["ads"] == (1.5, mixed, mixed, mixed)
    assert shown(dollars.models[0].channels[0].value) == mixed
    assert shown(converted.models[0].channels[0].value) == 25 / 8
    assert ratios(converted)["ads"][2] == ratios(plain)["ads"][2]


async def test_channels_of_too_few_units_are_not_told_of_alone(world: World) -> None:
    write_money_events(world.lake, touched=(*TOUCHES, ("fay", 1.0, "sms", 0.5)))
    await world.put_spend()
    name = await _report(world, min_units=2)
    asked: dict[str, Any] = {"report": name, "models": [], "currency": "CNY"}

    dollars = [money_pb2.ExchangeRate(currency="USD", rate=7.0)]
    found = await world.ask(exchange_rates=dollars, payback=pb.EarningDefinition(), **asked)
    touches = await world.ask(costs=pb.CostRules(basis=pb.COST_BASIS_TOUCHES), **asked)
    mixed = await world.ask(**asked)

    # One unit each met mail and sms. Radio and television met nobody, which is not told apart.
    together = "(too few units)"
    rows = {one.channel: one for one in found.models[0].channels}
    assert sorted(rows) == [together, "ads"]
    assert (rows[together].conversions, shown(rows[together].cost_per_conversion)) == (0.5, 112.0)
    assert rows["ads"].HasField("payback")
    assert not rows[together].HasField("payback")
    assert {one.channel: shown(one.cost) for one in found.costs} == {"ads": 11.0, together: 56.0}
    left = [one.touch_costs for one in found.conflicts if one.channel == together]
    assert left == [0.5]
    assert {one.channel: shown(one.cost) for one in touches.costs} == {"ads": 3.0, together: 0.5}
    assert shown(mixed.costs[1].cost) == "MIXED_CURRENCIES"


async def _report(world: World, min_units: int = 1) -> str:
    stub = report_service_pb2_grpc.ReportServiceStub(world.channel)
    request = report_service_pb2.RunAttributionRequest(
        parent="projects/demo",
        report_id="weekly",
        journeys=BUY,
        models=[LINEAR],
        min_units=min_units,
    )
    begun = await stub.RunAttribution(request, metadata=world.metadata())
    wait = operations_pb2.WaitOperationRequest(
        name=begun.operation.name, timeout=Duration(seconds=20)
    )
    operations = operations_pb2_grpc.OperationsStub(world.channel)
    ended = await operations.WaitOperation(wait, metadata=world.metadata())
    assert ended.HasField("response"), ended
    return "projects/demo/attributionReports/weekly"


async def test_amounts_without_a_currency_and_projects_without_events(world: World) -> None:
    nothing = await world.ask(payback=pb.EarningDefinition())
    assert (nothing.currency, list(nothing.costs)) == ("", [])
    write_money_events(world.lake, currency=None)
    found = await world.ask()
    assert found.currency == ""
    assert ratios(found)["ads"][1] == 2.0
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.ask("other")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_lifetime_value_by_acquiring_channel(world: World) -> None:
    token = write_customers(world.lake)
    await world.put_spend()
    until = timestamp(240)

    found = await world.predict(
        earning=pb.EarningDefinition(observed_until=until),
        ages_days=[200, 30],
        horizon_days=90,
        margin_rate=0.5,
        costs=pb.CostRules(sources=["platform"]),
    )

    channels = {one.channel: one for one in found.channels}
    assert list(channels) == ["(no touch)", "ads", "mail", "radio", "tv"]
    assert [one.units for one in found.channels] == [8, 192, 200, 0, 0]
    ads, mail = channels["ads"], channels["mail"]
    assert [(age.age_days, age.units) for age in ads.ages] == [(30, 192), (200, 192)]
    # The means of gamma spends are 40 and 20, half of which is margin, at the same counts.
    assert 1.5 < ads.realised.value / mail.realised.value < 2.7
    assert 1.5 < ads.predicted.value / mail.predicted.value < 2.7
    assert ads.predicted.std_err > 0
    assert ads.lifetime_value.value == pytest.approx(ads.realised.value + ads.predicted.value)
    assert ads.ages[1].mean.value <= ads.realised.value
    assert ads.cost_per_unit.value == pytest.approx((6 + 6 + 99) / 192)
    assert ads.value_over_cost.value == pytest.approx(
        ads.lifetime_value.value / ads.cost_per_unit.value
    )
    assert shown(mail.cost_per_unit) == "COST_UNKNOWN"
    assert shown(channels["radio"].realised) == "NOT_OBSERVED"
    assert (found.provenance.watermark, found.observed_until) == (token, until)
    (whole,) = [row for row in found.hold_out.rows if not row.channel]
    assert found.hold_out.days == 59
    assert whole.purchases_predicted.value == pytest.approx(whole.purchases_seen, rel=0.2)
    assert whole.value_predicted.value == pytest.approx(whole.value_seen, rel=0.2)
    assert found.purchase_model.rate_scale_days > 0
    assert found.spending_model.units > 100
    assert len(found.assumptions) == 6
    again = await world.predict(
        earning=pb.EarningDefinition(observed_until=until),
        ages_days=[30, 200, 200],
        horizon_days=90,
        margin_rate=0.5,
        costs=pb.CostRules(sources=["platform"]),
        as_of=token,
    )
    assert again.channels == found.channels


async def test_a_prediction_that_is_not_identified_says_so(world: World) -> None:
    write_money_events(world.lake)

    found = await world.predict(acquiring_touch=pb.ACQUIRING_TOUCH_LAST)
    dollars = await world.predict(currency="USD")

    by_channel = {one.channel: one for one in found.channels}
    assert shown(by_channel["mail"].realised) == 40.0
    assert shown(by_channel["mail"].lifetime_value) == "NOT_IDENTIFIED"
    assert not found.HasField("purchase_model")
    assert [lifetime_pb2.LifetimeConcern.Name(one.concern)[17:] for one in found.warnings] == [
        "TOO_FEW_REPEATS"
    ]
    assert {shown(one.realised) for one in dollars.channels} == {"MIXED_CURRENCIES"}
    assert not dollars.HasField("hold_out")


async def test_a_project_without_acquisitions_has_no_lifetime_value(world: World) -> None:
    found = await world.predict()
    assert list(found.channels) == []
    assert not found.HasField("hold_out")
