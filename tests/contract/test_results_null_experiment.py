"""Experiments without an effect on units of the past, over the contract."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from touchstone.results.v1 import analysis_plan_pb2, metric_pb2
from touchstone.results.v1 import planning_service_pb2 as pb
from touchstone_statistics.aa import Splits, simulate_aa
from touchstone_statistics.inference import Fixed

from shared.errors import Code
from tests.contract.results_world import EXPERIMENT, PROJECT, START, World, open_world
from tests.contract.test_results_planning import BOUGHT, SLOW, SPEND, Past, population, time

ANYTIME = analysis_plan_pb2.ANALYSIS_METHOD_ANYTIME
SEQUENTIAL = analysis_plan_pb2.ANALYSIS_METHOD_GROUP_SEQUENTIAL
HYBRID = analysis_plan_pb2.ANALYSIS_METHOD_HYBRID


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def simulate(world: World, metric: str, **fields: Any) -> pb.SimulateNullExperimentResponse:
    if "experiment" not in fields:
        fields = {"population": population()} | fields
    found: pb.SimulateNullExperimentResponse = await world.viewer.call(
        "SimulateNullExperiment", parent=PROJECT, metric=f"{PROJECT}/metrics/{metric}", **fields
    )
    return found


async def defined(world: World) -> Past:
    past = Past()
    token = world.write({"conversions": past.rows()})
    for name, metric in {"spend": SPEND, "bought": BOUGHT, "slow": SLOW}.items():
        await world.owner.define(name, metric)
    assert token
    return past


async def test_a_metric_that_keeps_its_promise(world: World) -> None:
    past = await defined(world)
    for name in ("spend", "bought"):
        found = await simulate(world, name, repetitions=2000, seed=5)
        assert found.units == found.history_units == len(past.after)
        assert (found.repetitions, found.skipped, found.alpha) == (2000, 0, 0.05)
        assert found.rejection_rate.value == found.rejections / 2000
        assert found.rejection_interval.low < 0.05 < found.rejection_interval.high
        assert found.calibrated
        assert found.uniformity_p_value.value > 0.001
        assert found.watermark


async def test_it_is_the_simulation_of_the_library_on_the_same_units(world: World) -> None:
    past = await defined(world)
    found = await simulate(world, "bought", repetitions=300, seed=7, treated_share=0.3, alpha=0.1)
    # Units are in the order of their keys there, so that single splits differ from these.
    ours = simulate_aa(past.after > 0, Fixed(0.1), Splits(300, 7, 0.3), alpha=0.1)
    both = ours.rejections + found.rejections
    assert stats.binomtest(found.rejections, both, 0.5).pvalue > 0.001
    again = await simulate(world, "bought", repetitions=300, seed=7, treated_share=0.3, alpha=0.1)
    other = await simulate(world, "bought", repetitions=300, seed=8, treated_share=0.3, alpha=0.1)
    assert again == found
    assert other.uniformity_p_value != found.uniformity_p_value


async def test_few_heavy_spenders_in_a_small_arm_are_exposed(world: World) -> None:
    """The failure of every t-test: much skewness, and one arm far smaller than the other."""
    rng = np.random.default_rng(2)
    hour = dt.timedelta(hours=1)
    rows: list[dict[str, Any]] = []
    for number in range(600):
        unit = {"unit_id": f"u-{number}", "event_time": START + hour}
        rows.append(unit | {"event_name": "visit"})
        paid = {"event_name": "purchase", "value": float(rng.lognormal(0, 2.5))}
        rows.append(unit | paid | {"event_time": START + 2 * hour})
    world.write({"conversions": rows})
    plain = metric_pb2.Metric()
    plain.CopyFrom(SPEND)
    plain.variance_reduction.disabled = True
    await world.owner.define("plain", plain)
    found = await simulate(world, "plain", repetitions=2000, treated_share=0.05)
    assert not found.calibrated
    assert found.uniformity_p_value.value < 1e-6


async def test_looking_at_any_time_is_wrong_far_less_often_at_one_look(world: World) -> None:
    await defined(world)
    found = await simulate(world, "bought", method=ANYTIME)
    assert found.calibrated
    assert found.rejection_rate.value < 0.02
    assert found.uniformity_p_value.not_estimable


async def test_looks_towards_an_end_keep_their_promise_and_peeking_does_not(world: World) -> None:
    await defined(world)
    spending = await simulate(world, "bought", method=SEQUENTIAL, repetitions=2000, seed=3)
    assert (spending.looks, spending.calibrated) == (28, True)
    assert spending.rejection_interval.low < 0.05 < spending.rejection_interval.high
    assert spending.uniformity_p_value.not_estimable
    hybrid = await simulate(world, "bought", method=HYBRID, looks=7, repetitions=2000, seed=3)
    assert (hybrid.looks, hybrid.calibrated) == (7, True)
    peeking = await simulate(world, "bought", looks=28, repetitions=2000, seed=3)
    assert not peeking.calibrated
    assert peeking.rejection_interval.low > 0.15


async def test_the_control_of_an_experiment_can_be_split(world: World) -> None:
    exposures = [
        {"unit_id": f"{variant}-{n}", "experiment": "checkout", "variant": variant}
        for variant in ("control", "green")
        for n in range(40)
    ]
    bought = [{"unit_id": f"control-{n}", "event_name": "purchase"} for n in range(20)]
    world.write({"exposures": exposures, "conversions": bought})
    await world.owner.define("bought", BOUGHT)
    found = await simulate(world, "bought", experiment=EXPERIMENT)
    assert (found.units, found.history_units) == (40, 40)


async def test_without_units_there_is_a_reason_and_no_number(world: World) -> None:
    await defined(world)
    nobody = population(start_time=time(30), end_time=time(31))
    found = await simulate(world, "spend", population=nobody, repetitions=50)
    assert (found.units, found.skipped, found.calibrated) == (0, 50, False)
    assert found.rejection_rate.not_estimable
    assert found.uniformity_p_value.not_estimable
    assert found.rejection_interval.not_estimable


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"repetitions": 10_001}, "repetitions"),
    ({"seed": -1}, "seed"),
    ({"treated_share": 1.0}, "treated_share"),
    ({"alpha": 1e-12}, "alpha"),
    ({"method": 9}, "method"),
    ({"looks": 51}, "looks"),
    ({"metric": f"{PROJECT}/metrics/slow"}, "metric"),
    ({"population": population(end_time=time(0))}, "population.end_time"),
]


async def test_bad_input_names_the_field(world: World) -> None:
    await defined(world)
    wanted = {
        "parent": PROJECT,
        "metric": f"{PROJECT}/metrics/spend",
        "population": population(),
    }
    for fields, field in WRONG:
        refused = await world.viewer.refused("SimulateNullExperiment", **(wanted | fields))
        assert refused.code is Code.INVALID_ARGUMENT
        assert [violation.field for violation in refused.violations] == [field]
    missing = wanted | {"metric": f"{PROJECT}/metrics/none"}
    refused = await world.viewer.refused("SimulateNullExperiment", **missing)
    assert refused.code is Code.NOT_FOUND
