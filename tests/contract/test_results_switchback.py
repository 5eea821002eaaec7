"""Windows of time that switch as a whole, over the contract, against sums made by hand."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from scipy import stats
from touchstone.results.v1 import analysis_plan_pb2, metric_pb2, results_pb2
from touchstone_statistics.cluster import Sums
from touchstone_statistics.inference import Fixed
from touchstone_statistics.switchback import carry_over, permutation_test

from services.results.domain.reading.switchback import REPETITIONS, SEED
from tests.contract.results_world import EXPERIMENT, PROJECT, START, World, open_world

HOUR = dt.timedelta(hours=1)
REGIONS, WINDOWS, RIDERS = 3, 24, 6


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        del found.played.experiment.variants[2:]
        yield found


class Rides:
    """Riders of regions who come again in each window of two hours, and what they paid there."""

    def __init__(self, left_behind: float, seed: int = 4) -> None:
        rng = np.random.default_rng(seed)
        self.arm = rng.integers(0, 2, (REGIONS, WINDOWS))
        weather = rng.normal(0, 1, (REGIONS, WINDOWS))[..., None]
        before = np.concatenate([np.zeros((REGIONS, 1)), self.arm[:, :-1]], axis=1)[..., None]
        noise = rng.normal(0, 1, (REGIONS, WINDOWS, RIDERS))
        paid = 20 + 2 * self.arm[..., None] + left_behind * before + weather + noise
        self.paid = np.round(paid, 2)

    def write(self, world: World) -> None:
        exposures, conversions = [], []
        for region, window, rider in np.ndindex(*self.paid.shape):
            unit: dict[str, Any] = {"unit_id": f"r{region}-{rider}"}
            begin = START + 2 * HOUR * window
            variant = ("control", "green")[self.arm[region, window]]
            shown = unit | {"experiment": "checkout", "properties": {"region": f"r{region}"}}
            later = HOUR / 2 + dt.timedelta(minutes=rider)
            exposures.append(shown | {"variant": variant, "event_time": begin + later})
            # Somebody still sees the variant of the window before: that is within the burn-in.
            other = ("green", "control")[self.arm[region, window]]
            exposures.append(shown | {"variant": other, "event_time": begin + HOUR / 60})
            paid = unit | {"event_name": "purchase"}
            value = float(self.paid[region, window, rider])
            conversions.append(paid | {"value": value, "event_time": begin + HOUR})
            conversions.append(paid | {"value": 1000.0, "event_time": begin + HOUR / 30})
        world.write({"exposures": exposures, "conversions": conversions})

    @property
    def sums(self) -> Sums:
        """By region and window, in their order."""
        flat = self.paid.reshape(-1, RIDERS)
        region = np.repeat(np.arange(REGIONS), WINDOWS)
        return Sums(flat.sum(axis=1), np.full(len(flat), float(RIDERS)), self.arm.ravel(), region)


async def spend(world: World) -> results_pb2.MetricResults:
    await world.owner.call(
        "UpdateAnalysisPlan",
        analysis_plan=analysis_plan_pb2.AnalysisPlan(
            name=f"{EXPERIMENT}/analysisPlan",
            method=analysis_plan_pb2.ANALYSIS_METHOD_FIXED,
            cluster_field="properties.region",
            switchback=analysis_plan_pb2.SwitchbackWindows(period_s=7200, burn_in_s=600),
        ),
        update_mask=FieldMask(paths=["method", "cluster_field", "switchback"]),
    )
    await world.owner.define(
        "spend", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    )
    results = await world.viewer.results()
    assert results.multiply_exposed_units == 0
    (metric,) = results.metrics
    return metric


async def test_windows_are_compared_and_permuted(world: World) -> None:
    rides = Rides(left_behind=0.0)
    rides.write(world)
    metric = await spend(world)
    (comparison,) = metric.comparisons
    # With as many riders everywhere, windows are compared by Welch's test of their means.
    means, treated = rides.paid.mean(axis=2), rides.arm == 1
    welch = stats.ttest_ind(means[treated], means[~treated], equal_var=False)
    interval = welch.confidence_interval()
    assert comparison.p_value.value == pytest.approx(welch.pvalue, rel=1e-6)
    assert comparison.degrees_of_freedom.value == pytest.approx(welch.df, rel=1e-6)
    assert comparison.difference_interval.low == pytest.approx(interval.low, rel=1e-6)
    assert metric.clusters.all == REGIONS * WINDOWS
    assert {a.variant: a.units for a in metric.arms} == {
        "green": treated.sum() * RIDERS,
        "control": (~treated).sum() * RIDERS,
    }
    checks, sums = comparison.switchback, rides.sums
    each = np.arange(sums.arm.size)
    tested = permutation_test(sums, each, np.random.default_rng(SEED), REPETITIONS)
    assert checks.permutation_p_value.value == tested.p_value
    assert checks.permutation_p_value.value < 0.01
    assert checks.permutations == REPETITIONS
    assert checks.carry_over.p_value.value > 0.05
    # The same data, the same answer, to the last bit.
    (again,) = (await world.viewer.results()).metrics
    assert again == metric


async def test_what_a_window_leaves_behind_is_seen(world: World) -> None:
    rides = Rides(left_behind=3.0)
    rides.write(world)
    (comparison,) = (await spend(world)).comparisons
    left = comparison.switchback.carry_over
    sums = rides.sums
    before = np.concatenate([np.full((REGIONS, 1), -1), rides.arm[:, :-1]], axis=1).ravel()
    each = Sums(sums.total, sums.size, sums.arm, np.arange(sums.arm.size))
    theirs = carry_over(each, before)
    reading = Fixed().read(theirs)
    assert left.difference.value == pytest.approx(float(theirs.difference[0]), rel=1e-9)
    assert left.difference_interval.low == pytest.approx(float(reading.difference.low[0]))
    assert left.difference_interval.low < 3.0 < left.difference_interval.high
    assert left.p_value.value < 1e-6


async def test_windows_are_those_of_the_assignment(world: World) -> None:
    """Where the plan has none, and never in place of those that it has."""
    Rides(left_behind=0.0).write(world)
    named = await spend(world)
    windows = {"paths": ["switchback"]}
    plan = analysis_plan_pb2.AnalysisPlan(name=f"{EXPERIMENT}/analysisPlan")
    await world.owner.call("UpdateAnalysisPlan", analysis_plan=plan, update_mask=windows)
    results = await world.viewer.results()
    assert results.multiply_exposed_units > 0
    world.played.experiment.switchback.window_s = 7200
    world.played.experiment.switchback.washout_s = 600
    results = await world.viewer.results()
    assert results.multiply_exposed_units == 0
    assert results.metrics[0].comparisons == named.comparisons
    plan.switchback.period_s = 14_400
    await world.owner.call("UpdateAnalysisPlan", analysis_plan=plan, update_mask=windows)
    longer = await world.viewer.results()
    assert longer.metrics[0].clusters.all < named.clusters.all


async def test_what_reads_no_windows_refuses_those_of_the_assignment(world: World) -> None:
    Rides(left_behind=0.0).write(world)
    await spend(world)
    plan = analysis_plan_pb2.AnalysisPlan(name=f"{EXPERIMENT}/analysisPlan")
    fields = {"paths": ["switchback", "cluster_field"]}
    await world.owner.call("UpdateAnalysisPlan", analysis_plan=plan, update_mask=fields)
    world.played.experiment.switchback.window_s = 7200
    asked = {"experiment": EXPERIMENT, "metrics": [f"{PROJECT}/metrics/spend"]}
    refused = await world.viewer.refused("GetInteractions", **asked)
    assert refused.reason == "NOT_FOR_CLUSTERS"
    series = (await world.viewer.call("GetTimeSeries", experiment=EXPERIMENT)).time_series
    assert series.metrics[0].error.reason == "NOT_FOR_CLUSTERS"


async def test_an_experiment_without_windows_says_nothing_of_them(world: World) -> None:
    Rides(left_behind=0.0).write(world)
    await world.owner.define(
        "spend", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    )
    (metric,) = (await world.viewer.results()).metrics
    assert not any(one.HasField("switchback") for one in metric.comparisons)
    assert not metric.HasField("clusters")
