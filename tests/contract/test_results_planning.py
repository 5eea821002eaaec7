"""Plans of experiments from a past that the test made, against the numbers that it knows."""

import datetime as dt
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from scipy import stats
from statsmodels.stats.power import TTestIndPower
from touchstone.common.v1 import filter_pb2 as filters
from touchstone.results.v1 import analysis_plan_pb2, metric_pb2, results_pb2
from touchstone.results.v1 import planning_service_pb2 as pb
from touchstone_statistics.quantile import QuantileCounts, quantile_estimate

from services.results.wire.planning_decode import decode_plan
from shared.errors import Code
from shared.server.validation import RequestValidator
from tests.contract.results_world import EXPERIMENT, PROJECT, START, World, open_world

DAYS, DAILY = 14, 30
FIXED = pb.PlannedDesign(method=analysis_plan_pb2.ANALYSIS_METHOD_FIXED)
OFF = metric_pb2.VarianceReduction(disabled=True)
SPEND = metric_pb2.Metric(
    kind=metric_pb2.METRIC_KIND_MEAN,
    event_name="purchase",
    role=metric_pb2.METRIC_ROLE_PRIMARY,
    minimum_effect=0.1,
)
BOUGHT = metric_pb2.Metric(
    kind=metric_pb2.METRIC_KIND_PROPORTION,
    event_name="purchase",
    variance_reduction=OFF,
    role=metric_pb2.METRIC_ROLE_GUARDRAIL,
    margin=0.05,
)
SLOW = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_QUANTILE, event_name="purchase", quantile=0.9)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


def time(day: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(START + dt.timedelta(days=day))
    return stamp


class Past:
    """Units that came over two weeks; what they spent before tells of what they spent after."""

    def __init__(self, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        count = DAYS * DAILY
        self.before = rng.gamma(2.0, 5.0, count).round(2)
        self.after = (self.before * rng.uniform(0.5, 1.5, count)).round(2)
        self.after[rng.random(count) < 0.3] = 0.0
        self.day = np.repeat(np.arange(DAYS), DAILY)

    def rows(self) -> list[dict[str, Any]]:
        rows = []
        for number, (day, before, after) in enumerate(
            zip(self.day.tolist(), self.before, self.after, strict=True)
        ):
            unit = {"unit_id": f"u-{number}"}
            came = START + dt.timedelta(days=day, hours=12)
            hour = dt.timedelta(hours=1)
            rows += [
                unit | {"event_name": "visit", "event_time": came},
                unit | {"event_name": "visit", "event_time": came + 3 * hour},
                unit | {"event_name": "purchase", "event_time": came - hour, "value": before},
            ]
            if after:
                paid = {"event_name": "purchase", "event_time": came + hour, "value": after}
                rows.append(unit | paid)
        return [row | {"event_id": str(place)} for place, row in enumerate(rows)]


def population(**fields: Any) -> pb.Population:
    found = pb.Population(event_name="visit", start_time=time(0), end_time=time(DAYS))
    found.MergeFrom(pb.Population(**fields))
    return found


async def plan(world: World, **fields: Any) -> pb.PlanExperimentResponse:
    if "experiment" not in fields:
        fields = {"population": population()} | fields
    metrics = [f"{PROJECT}/metrics/{name}" for name in fields.pop("metrics")]
    found: pb.PlanExperimentResponse = await world.viewer.call(
        "PlanExperiment", parent=PROJECT, metrics=metrics, **fields
    )
    return found


async def defined(world: World) -> Past:
    past = Past()
    world.write({"conversions": past.rows()})
    plain = metric_pb2.Metric()
    plain.CopyFrom(SPEND)
    plain.variance_reduction.disabled = True
    made = {"spend": SPEND, "plain": plain, "bought": BOUGHT, "slow": SLOW}
    for name, metric in made.items():
        await world.owner.define(name, metric)
    return past


async def test_the_units_needed_are_those_of_statsmodels(world: World) -> None:
    past = await defined(world)
    found = await plan(world, metrics=["plain"], design=FIXED)
    (metric,) = found.metrics
    assert metric.history_units == DAYS * DAILY
    assert metric.mean.value == pytest.approx(past.after.mean())
    assert metric.unit_variance.value == pytest.approx(past.after.var(ddof=1))
    effect = 0.1 * past.after.mean() / past.after.std(ddof=1)
    each = TTestIndPower().solve_power(effect, power=0.8, alpha=0.05)
    assert list(metric.needed.units) == [math.ceil(each)] * 2
    assert list(found.units_per_day) == [DAILY] * DAYS
    assert metric.needed.days == math.ceil(2 * each / DAILY)
    assert not metric.HasField("detectable")


async def test_what_was_spent_before_saves_units(world: World) -> None:
    past = await defined(world)
    found = await plan(world, metrics=["spend"], design=FIXED)
    plain = await plan(world, metrics=["plain"], design=FIXED)
    (metric,), (without,) = found.metrics, plain.metrics
    explained = np.corrcoef(past.before, past.after)[0, 1] ** 2
    # The adjustment pays a degree of freedom for what it estimates.
    assert metric.explained == pytest.approx(explained, abs=0.005)
    assert without.explained == 0.0
    saved = 1 - metric.needed.units[0] / without.needed.units[0]
    assert saved == pytest.approx(metric.explained, abs=0.005)


async def test_what_is_found_with_days_is_found_with_their_units(world: World) -> None:
    await defined(world)
    by_days = await plan(world, metrics=["plain"], design=FIXED, days=60)
    by_units = await plan(world, metrics=["plain"], design=FIXED, units=60 * DAILY)
    assert by_days.metrics[0].detectable == by_units.metrics[0].detectable
    least = by_units.metrics[0].detectable
    assert least.units == 60 * DAILY
    needed = await plan(world, metrics=["bought"], design=FIXED, units=60 * DAILY)
    margin = needed.metrics[0].detectable
    assert margin.difference.not_estimable == results_pb2.NOT_ESTIMABLE_NOT_APPLICABLE
    assert 0 < margin.lift.value < 1


async def test_a_guardrail_is_planned_for_its_margin(world: World) -> None:
    past = await defined(world)
    found = await plan(world, metrics=["spend", "bought"], design=FIXED)
    guardrail = found.metrics[1]
    # One guardrail beside the primary metric: each has half of what may be missed.
    assert found.power == pytest.approx(0.9)
    assert guardrail.needed.lift == pytest.approx(-0.05)
    rate = (past.after > 0).mean()
    z = stats.norm.isf(0.05) + stats.norm.ppf(0.9)
    spread = rate * (1 - rate) * (1 + 0.95**2)
    each = z**2 * spread / (0.05 * rate) ** 2
    assert guardrail.needed.units[0] == pytest.approx(each, rel=0.01)


async def test_rules_that_allow_looks_cost_what_they_cost(world: World) -> None:
    await defined(world)
    methods = ("FIXED", "GROUP_SEQUENTIAL", "HYBRID", "ANYTIME")
    units = []
    for method in methods:
        number = analysis_plan_pb2.AnalysisMethod.Value(f"ANALYSIS_METHOD_{method}")
        design = pb.PlannedDesign(method=number)
        found = await plan(world, metrics=["plain"], design=design)
        units.append(found.metrics[0].needed.units[0])
    assert units == sorted(units)
    assert 1.02 < units[1] / units[0] < 1.1
    unspecified = await plan(world, metrics=["plain"])
    assert unspecified.metrics[0].needed.units[0] == units[1]


async def test_more_arms_and_more_primary_metrics_share_alpha(world: World) -> None:
    await defined(world)
    design = pb.PlannedDesign(method=FIXED.method, weights=[2, 1, 1])
    found = await plan(world, metrics=["spend", "plain"], design=design)
    assert [metric.alpha for metric in found.metrics] == pytest.approx([0.05 / 4] * 2)
    control, *treated = found.metrics[0].needed.units
    assert control == pytest.approx(2 * treated[0], abs=2)
    assert treated[0] == treated[1]


async def test_the_control_of_an_experiment_is_a_history_too(world: World) -> None:
    rng = np.random.default_rng(1)
    spent = {variant: rng.gamma(2.0, 5.0, 40).round(2) for variant in ("control", "green")}
    exposures, purchases = [], []
    for variant, amounts in spent.items():
        for number, amount in enumerate(amounts):
            unit = {"unit_id": f"{variant}-{number}"}
            when = START + dt.timedelta(days=number % 4)
            exposures.append(
                unit | {"experiment": "checkout", "variant": variant, "event_time": when}
            )
            bought = {"event_name": "purchase", "value": float(amount), "event_time": when}
            purchases.append(unit | bought)
    world.write({"exposures": exposures, "conversions": purchases})
    await world.owner.define("spend", SPEND)
    found = await plan(world, metrics=["spend"], experiment=EXPERIMENT, design=FIXED)
    assert found.metrics[0].history_units == 40
    assert found.metrics[0].mean.value == pytest.approx(spent["control"].mean())
    assert list(found.units_per_day) == [20] * 4
    assert found.later_units_per_day == 20


async def test_an_experiment_that_took_too_long_is_no_history(world: World) -> None:
    exposures = [
        {
            "unit_id": f"u-{day}",
            "experiment": "checkout",
            "variant": "control",
            "event_time": START + dt.timedelta(days=day),
        }
        for day in range(52)
    ]
    world.write({"exposures": exposures})
    await world.owner.define("spend", SPEND)
    refused = await world.viewer.refused(
        "PlanExperiment",
        parent=PROJECT,
        metrics=[f"{PROJECT}/metrics/spend"],
        experiment=EXPERIMENT,
    )
    assert [violation.field for violation in refused.violations] == ["experiment"]


async def test_a_quantile_is_planned_by_the_density_around_it(world: World) -> None:
    past = await defined(world)
    found = await plan(world, metrics=["slow"], design=FIXED, lift=0.1)
    (slow,) = found.metrics
    arm = quantile_estimate(QuantileCounts.from_values(past.after, 0.9), 0.9)
    assert slow.history_units == len(past.after)
    assert slow.mean.value == pytest.approx(float(arm.value))
    assert slow.unit_variance.value == pytest.approx(float(arm.variance) * len(past.after))
    effect = 0.1 * float(arm.value) / math.sqrt(slow.unit_variance.value)
    each = TTestIndPower().solve_power(effect, power=0.8, alpha=0.05)
    assert slow.needed.units[0] == pytest.approx(each, abs=2)


async def test_what_history_does_not_tell_is_named(world: World) -> None:
    await defined(world)
    # Thirty units do not reach beyond the 90th percentile by two standard errors.
    early = population(end_time=time(1))
    found = await plan(world, metrics=["slow", "spend"], units=100, population=early)
    slow = found.metrics[0]
    assert slow.needed.obstacle == pb.PLANNING_OBSTACLE_NO_HISTORY
    assert slow.mean.not_estimable == results_pb2.NOT_ESTIMABLE_NOT_APPLICABLE
    condition = filters.Filter(
        compare=filters.FieldComparison(
            field="properties.plan", operator=filters.FILTER_OPERATOR_IS_SET
        )
    )
    nobody = await plan(world, metrics=["spend"], population=population(filter=condition), days=5)
    assert nobody.metrics[0].needed.obstacle == pb.PLANNING_OBSTACLE_NO_HISTORY
    assert nobody.metrics[0].history_units == 0
    assert sum(nobody.units_per_day) == 0
    wild = await plan(world, metrics=["bought"], lift=9)
    assert wild.metrics[0].needed.lift == pytest.approx(-0.05)


def test_the_request_of_the_guide_is_right() -> None:
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "plan-an-experiment.md"
    example = guide.read_text().partition("```json\n")[2].partition("```")[0]
    request = json_format.Parse(example, pb.PlanExperimentRequest())
    assert RequestValidator().violations(request) == []
    command = decode_plan(request, "demo")
    assert (command.days, command.split.looks, command.wanted.lift) == (28, 28, 0.02)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"population": population(end_time=time(0))}, "population.end_time"),
    ({"population": population(end_time=time(50))}, "population.end_time"),
    ({"units": 5, "days": 5}, "days"),
    ({"design": pb.PlannedDesign(weights=[1])}, "design.weights"),
    ({"design": pb.PlannedDesign(alpha=1e-12)}, "design.alpha"),
    ({"design": pb.PlannedDesign(power=0.01)}, "design.power"),
    ({"design": pb.PlannedDesign(looks=101)}, "design.looks"),
    ({"metrics": []}, "metrics"),
]


async def test_bad_input_names_the_field(world: World) -> None:
    wanted = {
        "parent": PROJECT,
        "metrics": [f"{PROJECT}/metrics/spend"],
        "population": population(),
    }
    for fields, field in WRONG:
        refused = await world.viewer.refused("PlanExperiment", **(wanted | fields))
        assert refused.code is Code.INVALID_ARGUMENT
        assert [violation.field for violation in refused.violations] == [field]


async def test_what_is_missing_is_named(world: World) -> None:
    await defined(world)
    wanted = {"parent": PROJECT, "metrics": [f"{PROJECT}/metrics/none"], "population": population()}
    refused = await world.viewer.refused("PlanExperiment", **wanted)
    assert refused.code is Code.NOT_FOUND
    other = {"parent": PROJECT, "metrics": [f"{PROJECT}/metrics/spend"]}
    missing = await world.viewer.refused(
        "PlanExperiment", experiment=f"{PROJECT}/experiments/none", **other
    )
    assert missing.code is Code.NOT_FOUND
