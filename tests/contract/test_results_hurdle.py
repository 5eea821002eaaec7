"""The posterior of revenue over the contract: what was summed up in the log, and when it fits."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from touchstone.results.v1 import metric_pb2, results_pb2
from touchstone.results.v1.results_service_pb2 import POSTERIOR_MODEL_HURDLE, ExposureWindow
from touchstone_statistics.estimand import Mean, estimate
from touchstone_statistics.hurdle import HurdlePosterior
from touchstone_statistics.moments import Moments
from touchstone_statistics.versus import Pairs, credible_difference, credible_lift

from tests.contract.results_world import START, World, events, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


def amounts(seed: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = {"control": (3.0, 0.3), "green": (3.1, 0.36), "blue": (3.0, 0.3)}
    return {
        variant: np.round(rng.lognormal(mean, 0.8, 900), 2) * (rng.random(900) < buys)
        for variant, (mean, buys) in shape.items()
    }


def posterior(values: np.ndarray) -> HurdlePosterior:
    logs = np.log(values[values > 0])
    found, gap = HurdlePosterior.of(
        np.array([float(logs.size)]),
        np.array([float(values.size)]),
        estimate(Moments.from_rows(logs[None, :, None]), Mean(0)),
    )
    assert not gap.any()
    return found


def spend(**more: object) -> metric_pb2.Metric:
    kind = metric_pb2.METRIC_KIND_MEAN
    return metric_pb2.Metric(kind=kind, event_name="purchase", **more)  # type: ignore[arg-type]


async def test_it_is_that_of_the_amounts(world: World) -> None:
    values = amounts()
    world.write(events(values))
    await world.owner.define("spend", spend())
    asked = {"posteriors": [POSTERIOR_MODEL_HURDLE]}
    results = await world.viewer.results(**asked)
    (metric,) = results.metrics
    for comparison in metric.comparisons:
        ours = comparison.hurdle_posterior
        pairs = Pairs.of(posterior(values["control"]), posterior(values[comparison.variant]))
        chance, interval = pairs.compare(True), credible_difference(pairs, 0.05)
        lift = credible_lift(pairs, 0.05)
        better = float(chance.probability_to_beat[0])
        assert ours.probability_better.value == pytest.approx(better, rel=1e-6)
        loss = float(chance.expected_loss[0])
        assert ours.expected_loss.value == pytest.approx(loss, rel=1e-5)
        assert ours.credible_interval.low == pytest.approx(float(interval.low[0]), rel=1e-5)
        assert ours.lift_interval.high == pytest.approx(float(lift.high[0]), rel=1e-5)
        assert "Beta(1, 1)" in ours.prior
    assert not (await world.viewer.results()).metrics[0].comparisons[0].HasField("hurdle_posterior")


async def test_what_comes_later_is_added_to_the_last_bit(world: World) -> None:
    """A past cut is read from all events, the present one from what was kept and what is new."""
    world.write(events(amounts()))
    await world.owner.define("spend", spend())
    windows = [ExposureWindow(first_day=first, last_day=first + 1) for first in (1, 3)]
    asked = {"posteriors": [POSTERIOR_MODEL_HURDLE], "exposure_windows": windows}
    await world.viewer.results(**asked)
    bought = {"unit_id": "green-3", "event_name": "purchase", "value": 31.5}
    later = {"event_time": START + dt.timedelta(days=9)}
    world.write({"conversions": [bought, bought | later | {"unit_id": "blue-7"}]}, 2)
    now = await world.viewer.results(**asked)
    past = await world.viewer.results(**asked, as_of=now.provenance.watermark)
    assert [c.hurdle_posterior for c in past.metrics[0].comparisons] == [
        c.hurdle_posterior for c in now.metrics[0].comparisons
    ]
    assert past.metrics[0].course == now.metrics[0].course
    assert now.metrics[0].course.units


@pytest.mark.parametrize(
    ("metric", "negative"),
    [
        (spend(), True),
        (spend(cap=metric_pb2.Cap(absolute=100.0)), False),
        (spend(aggregation=metric_pb2.AGGREGATION_COUNT), False),
    ],
)
async def test_where_it_does_not_fit_the_reason_is_there(
    world: World, metric: metric_pb2.Metric, negative: bool
) -> None:
    values = amounts()
    if negative:
        values["green"][0] = -3.0
    world.write(events(values))
    await world.owner.define("spend", metric)
    (found,) = (await world.viewer.results(posteriors=[POSTERIOR_MODEL_HURDLE])).metrics
    for comparison in found.comparisons:
        ours = comparison.hurdle_posterior
        reason = results_pb2.NOT_ESTIMABLE_NOT_APPLICABLE
        assert ours.probability_better.not_estimable == reason
        assert ours.credible_interval.not_estimable == reason
        assert comparison.p_value.HasField("value")


async def test_too_few_buyers_are_said(world: World) -> None:
    values = {variant: np.zeros(50) for variant in ("control", "green", "blue")}
    values["control"][:20] = np.linspace(5, 9, 20)
    values["green"][0] = 7.0
    world.write(events(values))
    await world.owner.define("spend", spend())
    (found,) = (await world.viewer.results(posteriors=[POSTERIOR_MODEL_HURDLE])).metrics
    reasons = {c.variant: c.hurdle_posterior.expected_loss.not_estimable for c in found.comparisons}
    assert reasons == {
        "green": results_pb2.NOT_ESTIMABLE_ONE_UNIT,
        "blue": results_pb2.NOT_ESTIMABLE_NO_UNITS,
    }
