"""An effect that is shown because it is significant, beside what is left of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats
from touchstone.results.v1 import analysis_plan_pb2, metric_pb2, results_pb2

from tests.contract.results_world import EXPERIMENT, World, events, open_world

FIXED = analysis_plan_pb2.ANALYSIS_METHOD_FIXED


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


def amounts(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    means = {"control": 10.0, "green": 10.6, "blue": 10.0}
    return {variant: rng.normal(mean, 3, 800) for variant, mean in means.items()}


def truth(size: float, bar: float, wanted: float) -> float:
    """The true effect, in standard errors, with that chance of a chosen estimate so large."""

    def excess(at: float) -> float:
        chosen = stats.norm.sf(bar - at) + stats.norm.cdf(-bar - at)
        return float(stats.norm.sf(size - at) / chosen - wanted)

    return float(optimize.brentq(excess, -40, 40, xtol=1e-12))


async def found_by(
    world: World, method: analysis_plan_pb2.AnalysisMethod.ValueType
) -> results_pb2.MetricResults:
    await world.owner.define(
        "spend", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    )
    plan = analysis_plan_pb2.AnalysisPlan(
        name=f"{EXPERIMENT}/analysisPlan", method=method, planned_units=2400
    )
    await world.owner.call(
        "UpdateAnalysisPlan", analysis_plan=plan, update_mask={"paths": ["method", "planned_units"]}
    )
    (metric,) = (await world.viewer.results()).metrics
    return metric


@pytest.mark.parametrize("method", list(analysis_plan_pb2.AnalysisMethod.values())[1:])
async def test_the_winner_is_shown_smaller_by_every_method(
    world: World, method: analysis_plan_pb2.AnalysisMethod.ValueType
) -> None:
    values = amounts(3)
    world.write(events(values))
    metric = await found_by(world, method)
    by_variant = {one.variant: one for one in metric.comparisons}
    assert not by_variant["blue"].HasField("selected")
    green = by_variant["green"]
    assert green.adjusted.rejected
    selected = green.selected
    assert selected.method == results_pb2.SELECTION_METHOD_CONDITIONAL
    std_err = green.std_err.value
    size, bar = green.difference.value / std_err, selected.threshold
    # The threshold is that of the corrected interval.
    reach = green.adjusted.difference_interval.high - green.difference.value
    assert bar == pytest.approx(reach / std_err)
    assert selected.difference.value == pytest.approx(truth(size, bar, 0.5) * std_err, rel=1e-8)
    low, high = (truth(size, bar, tail) * std_err for tail in (0.025, 0.975))
    assert selected.difference_interval.low == pytest.approx(low, rel=1e-8)
    assert selected.difference_interval.high == pytest.approx(high, rel=1e-8)
    assert selected.difference_interval.level == 0.95
    assert 0 < selected.lift.value < green.lift.value
    assert (selected.lift_interval.low > 0) == (selected.difference_interval.low > 0)
