"""Money beside credit of random customers, computed once more by pandas from the same rows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import (
    attribution_pb2,
    calibration_service_pb2,
    calibration_service_pb2_grpc,
    economics_service_pb2_grpc,
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
from tests.contract.attribution_world import key_of, moment, timestamp
from tests.contract.money_world import write_money_events

PARENT = "projects/demo"
LAST_DAY = 60
OBSERVED = 120.0
LOOKBACK = 30
MARGIN = 0.3
DOLLAR = 8.0
CHANNELS = ("ads", "mail", "video")
BUY = attribution_pb2.JourneyDefinition(
    event_name="buy", start_time=timestamp(0), end_time=timestamp(LAST_DAY)
)
LINEAR = attribution_pb2.Model(linear=attribution_pb2.Linear())


@dataclass
class World:
    """The server, and the rows that it was given."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...]
    touches: Any
    conversions: Any
    spend: Any

    async def ask(self, **fields: Any) -> pb.GetChannelEconomicsResponse:
        stub = economics_service_pb2_grpc.EconomicsServiceStub(self.channel)
        found: pb.GetChannelEconomicsResponse = await stub.GetChannelEconomics(
            pb.GetChannelEconomicsRequest(parent=PARENT, **fields), metadata=self.metadata
        )
        return found

    def credits(self) -> Any:
        """A row for each conversion of the range and each touch that it saw, with its weight."""
        reported = self.conversions[self.conversions["day"] < LAST_DAY].reset_index(names="buy")
        seen = reported.merge(self.touches, on="unit", suffixes=("", "_touch"))
        lag = seen["day"] - seen["day_touch"]
        seen = seen[(lag >= 0) & (lag <= LOOKBACK)].copy()
        seen["weight"] = 1.0 / seen.groupby("buy")["channel"].transform("size")
        return seen

    def costs(self) -> Any:
        """In CNY: one source for each channel and day, the first by name, and what dollars are."""
        rows = self.spend[self.spend["day"] < LAST_DAY].copy()
        rows["amount"] *= np.where(rows["currency"] == "USD", DOLLAR, 1.0)
        first = rows.groupby(["channel", "day"])["source"].transform("min")
        return rows[rows["source"] == first].groupby("channel")["amount"].sum()


def drawn(seed: int) -> tuple[Any, Any, Any]:
    """Touches, conversions and spend of 250 units and three channels, and of one nobody met."""
    random = np.random.default_rng(seed)
    units = np.array([f"u{n:03}" for n in range(250)])
    touches: Any = pd.DataFrame(
        {
            "unit": random.choice(units, 900),
            "day": random.uniform(0, LAST_DAY + 20, 900),
            "channel": random.choice(CHANNELS, 900, p=(0.5, 0.3, 0.2)),
        }
    )
    conversions: Any = pd.DataFrame(
        {
            "unit": random.choice(units, 500),
            "day": random.uniform(0, OBSERVED - 1, 500),
            "value": random.gamma(2.0, 40.0, 500).round(2),
        }
    )
    days: Any = pd.MultiIndex.from_product(
        [("agency", "books"), (*CHANNELS, "radio"), range(LAST_DAY + 20)],
        names=["source", "channel", "day"],
    ).to_frame(index=False)
    spend = days[random.random(len(days)) < 0.4].reset_index(drop=True)
    spend["amount"] = random.gamma(1.0, 8.0, len(spend)).round(2)
    spend["currency"] = np.where(spend["source"] == "agency", "USD", "CNY")
    return touches, conversions, spend


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    touches, conversions, spend = drawn(20)
    write_money_events(
        tmp_path / "lake",
        bought=tuple(conversions.itertuples(index=False, name=None)),
        touched=tuple((*row, 1.0) for row in touches.itertuples(index=False, name=None)),
    )
    settings = Settings(data=tmp_path, attribution_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    key = key_of(application, "demo", Role.VIEWER, Role.EXPERIMENTER)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        made = World(channel, (("authorization", f"Bearer {key}"),), touches, conversions, spend)
        rows = [
            spend_service_pb2.Spend(
                source=row.source,
                channel=row.channel,
                day=moment(float(row.day)).date().isoformat(),
                amount=float(row.amount),
                currency=row.currency,
            )
            for row in spend.itertuples()
        ]
        await spend_service_pb2_grpc.SpendServiceStub(channel).ImportSpend(
            spend_service_pb2.ImportSpendRequest(parent=PARENT, rows=rows), metadata=made.metadata
        )
        yield made
    await running.drain()


RATES = [money_pb2.ExchangeRate(currency="USD", rate=DOLLAR)]
NOW: dict[str, Any] = {"journeys": BUY, "models": [LINEAR], "exchange_rates": RATES}


async def test_ratios_are_those_of_the_rows(world: World) -> None:
    credits_, costs = world.credits(), world.costs()
    credits_["credited"] = credits_["weight"] * credits_["value"]
    totals = credits_.groupby("channel")[["weight", "credited"]].sum()

    found = await world.ask(margin_rate=MARGIN, **NOW)

    rows = {row.channel: row for row in found.models[0].channels}
    assert set(rows) == {*CHANNELS, "radio"}
    for channel in CHANNELS:
        row, cost = rows[channel], costs[channel]
        conversions, value = totals.loc[channel]
        assert row.conversions == pytest.approx(conversions)
        assert row.value.value == pytest.approx(value)
        assert row.cost_per_conversion.value == pytest.approx(cost / conversions)
        assert row.return_on_spend.value == pytest.approx(value / cost)
        assert row.margin.value == pytest.approx(MARGIN * value - cost)
        assert row.return_on_investment.value == pytest.approx((MARGIN * value - cost) / cost)
    assert rows["radio"].margin.value == pytest.approx(-costs["radio"])
    # All spend of the time is counted or told of as left out, and none of it twice.
    counted = sum(cost.cost.value for cost in found.costs)
    left = sum(
        one.left_out.amount * (DOLLAR if one.left_out.currency == "USD" else 1.0)
        for one in found.conflicts
        if one.HasField("left_out")
    )
    paid = world.spend[world.spend["day"] < LAST_DAY]
    everything = (paid["amount"] * np.where(paid["currency"] == "USD", DOLLAR, 1.0)).sum()
    assert counted + left == pytest.approx(everything)
    assert left > 0


async def test_payback_is_that_of_the_rows(world: World) -> None:
    """Margin of a channel by age, each unit as much as its first conversion credits the channel."""
    costs = world.costs()
    first = world.conversions[world.conversions["day"] < LAST_DAY].groupby("unit")["day"].min()
    credits_ = world.credits()
    acquired = credits_[credits_["day"] == credits_["unit"].map(first)]
    shares = acquired.groupby(["channel", "unit"])["weight"].sum()
    later = world.conversions[world.conversions["unit"].isin(first.index)].copy()
    later["age"] = np.floor(later["day"] - later["unit"].map(first))
    later = later[later["age"] >= 0]
    earning = pb.EarningDefinition(observed_until=timestamp(OBSERVED))

    plain = await world.ask(margin_rate=MARGIN, payback=earning, **NOW)
    rich = await world.ask(margin_rate=1.0, payback=earning, **NOW)

    reached = 0
    for found, rate in ((plain, MARGIN), (rich, 1.0)):
        for row in found.models[0].channels:
            if row.channel == "radio":
                assert row.payback.days.undefined == money_pb2.MONEY_UNDEFINED_NOT_OBSERVED
                continue
            mine = shares[row.channel]
            days = int(np.floor(OBSERVED - first[mine.index].max()))
            own = later[later["unit"].isin(mine.index)]
            earned = rate * own["value"] * own["unit"].map(mine)
            daily = earned.groupby(own["age"]).sum().reindex(range(days), fill_value=0.0)
            through = daily.cumsum()
            short = through[through < costs[row.channel]].index
            payback = int(short.max()) + 1 if len(short) else 0
            assert row.payback.observed_days == days
            assert row.payback.units == pytest.approx(mine.sum())
            assert row.payback.recovered.value == pytest.approx(
                through.iloc[-1] / costs[row.channel]
            )
            if payback < days:
                reached += 1
                assert row.payback.days.value == payback
            else:
                assert row.payback.days.undefined == money_pb2.MONEY_UNDEFINED_NOT_PAID_BACK
    assert 0 < reached < 6


async def test_realised_value_is_that_of_the_rows(world: World) -> None:
    first = world.conversions[world.conversions["day"] < LAST_DAY].groupby("unit")["day"].min()
    seen = world.touches[world.touches["unit"].isin(first.index)].copy()
    lag = seen["unit"].map(first) - seen["day"]
    seen = seen[(lag >= 0) & (lag <= LOOKBACK)].sort_values("day")
    acquirer = seen.groupby("unit")["channel"].first().reindex(first.index).fillna("(no touch)")
    stub = economics_service_pb2_grpc.EconomicsServiceStub(world.channel)

    found = await stub.PredictLifetimeValue(
        pb.PredictLifetimeValueRequest(
            parent=PARENT,
            acquisition=BUY,
            earning=pb.EarningDefinition(observed_until=timestamp(OBSERVED)),
            ages_days=[30, 90],
            exchange_rates=RATES,
            margin_rate=MARGIN,
        ),
        metadata=world.metadata,
    )

    rows = {row.channel: row for row in found.channels}
    costs = world.costs()
    for channel, units in acquirer.groupby(acquirer).groups.items():
        row = rows[str(channel)]
        assert row.units == len(units)
        for age in row.ages:
            old = [unit for unit in units if first[unit] + age.age_days <= OBSERVED]
            own = world.conversions[world.conversions["unit"].isin(old)]
            since = own["day"] - own["unit"].map(first)
            counted = own[(since >= 0) & (since < age.age_days)]
            sums = counted.groupby("unit")["value"].sum().reindex(old, fill_value=0.0) * MARGIN
            assert age.units == len(old)
            assert age.mean.value == pytest.approx(sums.mean())
            assert age.mean.std_err == pytest.approx(sums.sem())
        if channel in costs:
            assert row.cost_per_unit.value == pytest.approx(costs[channel] / len(units))


async def test_a_report_shows_attributed_and_calibrated_money_in_one_currency(
    world: World,
) -> None:
    """Attributed columns are those of the channel economics, also where they are converted."""
    operations = operations_pb2_grpc.OperationsStub(world.channel)
    begun = await report_service_pb2_grpc.ReportServiceStub(world.channel).RunAttribution(
        report_service_pb2.RunAttributionRequest(
            parent=PARENT, report_id="rep", journeys=BUY, models=[LINEAR], min_units=1
        ),
        metadata=world.metadata,
    )
    await operations.WaitOperation(
        operations_pb2.WaitOperationRequest(
            name=begun.operation.name, timeout=Duration(seconds=30)
        ),
        metadata=world.metadata,
    )
    report = f"{PARENT}/attributionReports/rep"
    dollars: dict[str, Any] = {
        "currency": "USD",
        "exchange_rates": [money_pb2.ExchangeRate(currency="CNY", rate=1 / DOLLAR)],
    }
    economics = (await world.ask(report=report, **dollars)).models[0]
    yuan = (await world.ask(**NOW)).models[0]
    calibration = calibration_service_pb2_grpc.CalibrationServiceStub(world.channel)

    reply = await calibration.CalibrateReport(
        calibration_service_pb2.CalibrateReportRequest(report=report, **dollars),
        metadata=world.metadata,
    )

    (result,) = reply.calibrated_report.results
    assert reply.calibrated_report.currency == "USD"
    beside = {row.channel: row for row in economics.channels}
    before = {row.channel: row for row in yuan.channels}
    for channel in result.channels:
        row, other = beside[channel.channel], before[channel.channel]
        assert channel.value == row.value.value == pytest.approx(other.value.value / DOLLAR)
        assert channel.cost_per_conversion == row.cost_per_conversion
        assert channel.return_on_spend == row.return_on_spend
        # A ratio of two amounts is the same in any currency.
        assert row.return_on_spend.value == pytest.approx(other.return_on_spend.value)
