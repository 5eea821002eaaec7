"""Health over the contract: each check with data that it has to notice."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from scipy import stats
from touchstone.results.v1 import health_pb2, metric_pb2

from shared.errors import Code
from tests.contract.results_world import EXPERIMENT, PROJECT, World, events, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def health(world: World, **fields: Any) -> health_pb2.Health:
    reply = await world.viewer.call("GetHealth", experiment=EXPERIMENT, **fields)
    found: health_pb2.Health = reply.health
    return found


def status(found: health_pb2.Health) -> dict[str, int]:
    return {check.name: check.status for check in found.checks}


async def test_good_data_has_no_alert_and_takes_no_look(world: World) -> None:
    rng = np.random.default_rng(4)
    values = {name: (rng.random(500) < 0.3).astype(float) for name in ("control", "green", "blue")}
    token = world.write(events(values))
    visits = metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit", minimum_effect=0.1
    )
    await world.owner.define("visits", visits)
    found = await health(world, consistency_token=token)
    assert set(status(found).values()) <= {health_pb2.HEALTH_STATUS_OK, 2}
    assert status(found)["sample-ratio"] == health_pb2.HEALTH_STATUS_OK
    assert found.freshness.watermark == token
    assert found.sequential_p_value.value > 0.05
    for outlook in found.power:
        assert 0 < outlook.power.value < 0.8
        assert outlook.detectable_lift.value > 0.1
    assert not (await world.viewer.call("ListLooks", experiment=EXPERIMENT)).looks


async def test_a_quantile_has_power_and_completeness_and_no_skew(world: World) -> None:
    rng = np.random.default_rng(5)
    values = {name: rng.lognormal(0, 1, 400) for name in ("control", "green", "blue")}
    token = world.write(events(values))
    slow = metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_QUANTILE,
        event_name="purchase",
        quantile=0.9,
        minimum_effect=0.2,
        conversion_window=Duration(seconds=365 * 86_400),
    )
    await world.owner.define("slow", slow)
    found = await health(world, consistency_token=token)
    assert {one.variant for one in found.power} == {"green", "blue"}
    for outlook in found.power:
        assert 0.1 < outlook.detectable_lift.value < 1
        assert 0 < outlook.power.value < 1
    assert not found.skews
    assert "metrics" not in status(found)


async def test_a_lost_browser_is_named(world: World) -> None:
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    for source, variant, units in (
        *(("web", variant, 1000) for variant in ("control", "green", "blue")),
        *(("app", "control", 500), ("app", "green", 300), ("app", "blue", 500)),
    ):
        for number in range(units):
            unit = {"unit_id": f"{source}-{variant}-{number}", "source": source}
            tables["exposures"].append(unit | {"experiment": "checkout", "variant": variant})
    world.write(tables)
    found = await health(world, dimensions=["source"])
    assert found.sample_ratio.alert
    assert status(found)["sample-ratio"] == health_pb2.HEALTH_STATUS_ALERT
    assert found.checks[0].status == health_pb2.HEALTH_STATUS_ALERT
    (dimension,) = found.dimensions
    alerts = {value.value: value.alert for value in dimension.values}
    assert alerts == {"web": False, "app": True}
    assert "'app'" in dimension.likely_cause
    assert "green" in dimension.likely_cause
    by_app = next(value for value in dimension.values if value.value == "app")
    weights = np.array([3334, 3333, 3333])
    expected = stats.chisquare(by_app.units, weights / weights.sum() * sum(by_app.units))
    assert by_app.p_value.value == pytest.approx(expected.pvalue, rel=1e-6)


async def test_uneven_exclusion_is_an_alert_with_its_bias(world: World) -> None:
    tables = events({name: np.arange(600) < 180 for name in ("control", "green", "blue")})
    for number in range(80):
        unit = {"unit_id": f"green-{number}", "experiment": "checkout", "variant": "blue"}
        tables["exposures"].append(unit)
    world.write(tables)
    await world.owner.define(
        "visits", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit")
    )
    found = await health(world)
    assert found.exclusions.alert
    assert status(found)["exclusions"] == health_pb2.HEALTH_STATUS_ALERT
    assert max(found.exclusions.shares) == pytest.approx(80 / 600)
    biases = {bias.variant: bias.largest_bias.value for bias in found.exclusions.biases}
    # The rest of green converted 100 of 520: all, or none, of the 80 may have.
    assert biases["green"] == pytest.approx(80 / 600 * (1 - 100 / 520))


async def test_skew_and_waiting_units_are_warnings(world: World) -> None:
    amounts = np.zeros(200)
    amounts[0] = 1000.0
    world.write(events(dict.fromkeys(("control", "green", "blue"), amounts)))
    await world.owner.define(
        "spend", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    )
    month = Duration(seconds=60 * 86_400)
    await world.owner.define(
        "late",
        metric_pb2.Metric(
            kind=metric_pb2.METRIC_KIND_PROPORTION,
            event_name="visit",
            conversion_window=month,
            complete_only=True,
        ),
    )
    found = await health(world)
    assert status(found)["skew"] == health_pb2.HEALTH_STATUS_WARNING
    skews = {(one.metric.rsplit("/", 1)[1], one.variant): one for one in found.skews}
    spend = skews["spend", "green"]
    assert spend.skewness.value == pytest.approx(stats.skew(amounts), rel=1e-4)
    assert spend.short
    assert status(found)["completeness"] == health_pb2.HEALTH_STATUS_WARNING
    assert {one.share.value for one in found.completeness} == {0.0}


async def test_an_experiment_without_data_says_so(world: World) -> None:
    found = await health(world)
    assert status(found)["freshness"] == health_pb2.HEALTH_STATUS_WARNING
    assert not found.freshness.HasField("watermark_time")


async def test_others_see_nothing(world: World) -> None:
    assert (await world.other.refused("GetHealth", experiment=EXPERIMENT)).code is Code.NOT_FOUND
    refused = await world.assigner.refused("GetHealth", experiment=EXPERIMENT)
    assert refused.code is Code.PERMISSION_DENIED
    missing = await world.viewer.refused("GetHealth", experiment=f"{PROJECT}/experiments/none")
    assert missing.code is Code.NOT_FOUND
