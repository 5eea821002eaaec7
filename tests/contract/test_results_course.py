"""Results as time goes on: by day, and told as they come."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from touchstone.results.v1 import metric_pb2, results_pb2
from touchstone.results.v1 import results_service_pb2 as pb

from shared.errors import Code
from shared.server.status import from_rpc_error
from tests.contract.results_world import EXPERIMENT, START, World, events, open_world

VISIT = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit")
DAY = dt.timedelta(days=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def test_every_day_holds_what_was_there_by_its_end(world: World) -> None:
    rng = np.random.default_rng(8)
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    come: dict[str, np.ndarray] = {}
    buy: dict[str, np.ndarray] = {}
    for variant in ("control", "green", "blue"):
        come[variant] = rng.integers(0, 4, 200)
        buy[variant] = np.where(rng.random(200) < 0.5, come[variant] + rng.integers(0, 3, 200), 99)
        for number in range(200):
            unit = {"unit_id": f"{variant}-{number}"}
            at = START + int(come[variant][number]) * DAY
            row = unit | {"experiment": "checkout", "variant": variant, "event_time": at}
            tables["exposures"].append(row)
            if buy[variant][number] < 99:
                at = START + int(buy[variant][number]) * DAY + dt.timedelta(hours=1)
                tables["conversions"].append(unit | {"event_name": "visit", "event_time": at})
    token = world.write(tables)
    await world.owner.define("visits", VISIT)
    reply = await world.viewer.call("GetTimeSeries", experiment=EXPERIMENT, consistency_token=token)
    series = reply.time_series
    assert series.watermark == token
    (metric,) = series.metrics
    assert [day.day for day in metric.days] == [
        f"{START + number * DAY:%Y-%m-%d}" for number in range(6)
    ]
    for number, day in enumerate(metric.days):
        for place, variant in enumerate(series.variants):
            units = int((come[variant] <= number).sum())
            bought = int((buy[variant] <= number).sum())
            arm = day.arms[place]
            assert (arm.units, arm.new_units) == (units, int((come[variant] == number).sum()))
            assert arm.mean.value == pytest.approx(bought / units)
            assert arm.added.value == int((buy[variant] == number).sum())
    last = {one.variant: one.reading for one in metric.days[-1].comparisons}
    now = (await world.viewer.results()).metrics[0]
    for comparison in now.comparisons:
        same = last[comparison.variant]
        assert same.p_value == comparison.p_value
        assert same.difference_interval == comparison.difference_interval
    assert not [look for look in now.comparisons if look.look.number != 1]


async def test_a_quantile_has_no_days_and_says_so(world: World) -> None:
    world.write(events({name: np.ones(30) for name in ("control", "green", "blue")}))
    median = metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_QUANTILE, event_name="purchase", quantile=0.5
    )
    await world.owner.define("median", median)
    await world.owner.define("visits", VISIT)
    reply = await world.viewer.call("GetTimeSeries", experiment=EXPERIMENT)
    by_name = {one.metric.rsplit("/", 1)[1]: one for one in reply.time_series.metrics}
    assert by_name["median"].error.reason == "TOO_LITTLE_DATA"
    assert len(by_name["visits"].days) == 1


async def test_each_metric_comes_as_it_is_ready_and_then_all_when_the_data_moves(
    world: World,
) -> None:
    buys = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    await world.owner.define("visits", VISIT)
    await world.owner.define("buys", buys)
    first = world.write(events({name: np.ones(30) for name in ("control", "green", "blue")}))
    asked = pb.GetResultsRequest(experiment=EXPERIMENT, consistency_token=first)
    stream = world.viewer.watch(results=asked, interval_s=1)
    async with asyncio.timeout(30):
        parts = [await stream.read() for _ in range(3)]
        assert [part.complete for part in parts] == [False, False, True]
        assert [len(part.results.metrics) for part in parts] == [1, 1, 2]
        assert not parts[0].results.metrics[0].comparisons[0].HasField("adjusted")
        assert not parts[0].results.decisions
        whole = parts[2].results
        assert whole == await world.viewer.results()
        more = later(events({name: np.ones(30) for name in ("control", "green", "blue")}))
        second = world.write(more, position=2)
        moved = await stream.read()
    assert moved.complete
    assert moved.results.provenance.watermark == second
    assert [arm.units for arm in moved.results.arms] == [60, 60, 60]
    stream.cancel()


def later(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The same of other units."""
    return {
        name: [row | {"unit_id": f"later-{row['unit_id']}"} for row in rows]
        for name, rows in tables.items()
    }


async def test_the_past_cannot_be_watched(world: World) -> None:
    asked = pb.GetResultsRequest(experiment=EXPERIMENT, as_of="x")
    stream = world.viewer.watch(results=asked)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert from_rpc_error(caught.value).code is Code.INVALID_ARGUMENT


async def test_the_past_is_shown_again_to_the_last_bit(world: World) -> None:
    """Row 59: late data gives a new revision, and the old one stays what it was."""
    rng = np.random.default_rng(1)
    await world.owner.define("visits", VISIT)
    await world.owner.define(
        "buys", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    )
    arms = ("control", "green", "blue")
    early = {name: rng.lognormal(1, 1, 300) * (rng.random(300) < 0.4) for name in arms}
    first = world.write(events(early))
    before = await world.viewer.results(consistency_token=first)
    late = {name: rng.lognormal(1, 1, 500) * (rng.random(500) < 0.4) for name in arms}
    second = world.write(later(events(late)), position=2)
    now = await world.viewer.results(consistency_token=second)
    assert now.provenance.inputs_digest != before.provenance.inputs_digest
    again = await world.viewer.results(as_of=first)
    assert again.provenance.inputs_digest == before.provenance.inputs_digest
    # The time at which a cut was committed is known of the newest only.
    again.provenance.watermark_time.CopyFrom(before.provenance.watermark_time)
    assert again.SerializeToString(deterministic=True) == before.SerializeToString(
        deterministic=True
    )
    assert results_pb2.Results.FromString(now.SerializeToString()) == now
