"""Units that belong together: sums over clusters recounted, and comparisons against statsmodels."""

import datetime as dt
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from google.protobuf.field_mask_pb2 import FieldMask
from scipy import stats
from touchstone.assignment.v1 import experiment_pb2
from touchstone.results.v1 import (
    analysis_plan_pb2,
    evaluation_service_pb2,
    metric_pb2,
    results_pb2,
)

from services.results.domain.clustering import Clustering, Switchback
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.observation import Observation, Slice
from shared.errors import Code
from tests.contract.results_log import START, Log, Row, conversion, exposure
from tests.contract.results_recount import Unit, moments_of, table_of, units_of
from tests.contract.results_world import EXPERIMENT, PROJECT, World, open_world
from tests.contract.test_results_kinds import (
    MEASURES,
    data_time,
    random_world,
    shown,
    within,
)

DAY = dt.timedelta(days=1)
BY_SHOP = Clustering(field="properties.shop")
SHOPS = 9


def with_shops(exposures: list[Row]) -> list[Row]:
    """Each unit with a shop, every tenth without; another one at its later exposures."""
    found = []
    for row, turn in zip(exposures, itertools.cycle((0, 0, 1)), strict=False):
        number = int(row["unit_id"][1:])
        shop = None if number % 10 == 9 else f"s{(number * 7 + turn) % SHOPS}"
        properties = json.loads(row["properties"] or "{}") | ({"shop": shop} if shop else {})
        found.append(row | {"properties": json.dumps(properties)})
    return found


def check(seen: Observation, exposures: list[Row], conversions: list[Row]) -> None:
    """Every measure and slice against sums over the rows of units in Python."""
    everybody = units_of(exposures, "ab")
    shops = {u.name: shown(u.at_first, "properties.shop") for u in everybody}
    assert seen.unclustered == sum(shop is None for shop in shops.values())
    now = data_time(exposures, conversions)
    for (m, measure), (s, part) in itertools.product(
        enumerate(MEASURES.values()), enumerate(seen.slices)
    ):
        table = table_of(everybody, conversions, measure, now)
        units = [u for u in everybody if shops[u.name] and u.name in table and of(u, part)]
        keys = sorted({str(shops[u.name]) for u in units})
        rows = np.zeros((len(keys), 2, len(measure.columns) + 1))
        for unit in units:
            row = rows[keys.index(str(shops[unit.name])), "ab".index(unit.arm)]
            row += [*(float(x) for x in table[unit.name]), 1.0]
        found = seen.clusters[m]
        assert found.counts[s] == tuple((rows[:, :, -1] > 0).sum(axis=0))
        assert found.mixed[s] == ((rows[:, :, -1] > 0).sum(axis=1) > 1).sum()
        flat = rows.reshape(len(keys), -1)
        count, mean, spread = moments_of([list(row) for row in flat], flat.shape[1])
        moments = found.joint.moments
        assert moments.units[s, 0] == count
        assert moments.mean[s, 0] == pytest.approx(mean, rel=1e-6, abs=1e-6)
        assert moments.co_moment[s, 0] == pytest.approx(spread, rel=1e-6, abs=1e-3)


def of(unit: Unit, part: Slice) -> bool:
    return within(unit.at_first, part)


def test_every_kind_over_clusters_and_slices(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    exposures, conversions = random_world(4)
    exposures = with_shops(exposures)
    log.add("exposures", exposures)
    log.add("conversions", conversions)
    asked: dict[str, Any] = {"dimensions": ("source",), "clustering": BY_SHOP}
    seen = log.ask(*MEASURES.values(), **asked)
    check(seen, exposures, conversions)
    # The same cut, the same numbers to the last bit, whatever comes later.
    log.add("exposures", exposures[:3])
    later = log.ask(*MEASURES.values(), **asked, as_of=seen.cut.token)
    assert [one.joint for one in later.clusters] == [one.joint for one in seen.clusters]


def test_nobody_has_no_clusters(tmp_path: Path) -> None:
    seen = Log(tmp_path / "lake").ask(*MEASURES.values(), clustering=BY_SHOP)
    assert all(one.counts == ((0, 0),) for one in seen.clusters)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        del found.played.experiment.variants[2:]
        yield found


async def plan(world: World, **fields: Any) -> None:
    fixed = analysis_plan_pb2.ANALYSIS_METHOD_FIXED
    await world.owner.call(
        "UpdateAnalysisPlan",
        analysis_plan=analysis_plan_pb2.AnalysisPlan(
            name=f"{EXPERIMENT}/analysisPlan", method=fixed, **fields
        ),
        update_mask=FieldMask(paths=["method", *fields]),
    )


class Sold:
    """What customers of shops spent: arm of each, its shop, its amount."""

    def __init__(self, shops: int, whole: bool, seed: int = 8) -> None:
        rng = np.random.default_rng(seed)
        sizes = rng.integers(5, 40, shops)
        self.shop = np.repeat(np.arange(shops), sizes)
        arms = np.arange(shops) % 2
        self.arm = arms[self.shop] if whole else rng.integers(0, 2, self.shop.size)
        effect = rng.normal(0, 3, shops)[self.shop]
        self.amount = np.round(20 + effect + self.arm + rng.normal(0, 5, self.shop.size), 2)

    def write(self, world: World, linked: bool = False) -> None:
        exposures, conversions = [], []
        for number, (shop, arm, amount) in enumerate(
            zip(self.shop, self.arm, self.amount, strict=True)
        ):
            unit: dict[str, Any] = {"unit_id": f"c{number}"}
            link: dict[str, Any] = {"properties": {"shop": f"s{shop}"}}
            if linked:
                link = {"linked_units": [{"type": "shop", "id": f"s{shop}"}]}
            variant = ("control", "green")[arm]
            exposures.append(unit | link | {"experiment": "checkout", "variant": variant})
            conversions.append(unit | {"event_name": "purchase", "value": float(amount)})
        world.write({"exposures": exposures, "conversions": conversions})

    def sandwich(self) -> Any:
        """Ordinary least squares with covariances that are robust to clusters, without the factor
        for the number of units.
        """
        design = sm.add_constant(self.arm.astype(float))
        groups = {"groups": self.shop, "use_correction": False}
        return sm.OLS(self.amount, design).fit(cov_type="cluster", cov_kwds=groups)


async def spend(world: World, **more: Any) -> results_pb2.MetricResults:
    metric = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase", **more)
    await world.owner.define("spend", metric)
    (found,) = (await world.viewer.results()).metrics
    return found


@pytest.mark.parametrize("linked", [False, True])
async def test_mixed_clusters_are_those_of_statsmodels(world: World, linked: bool) -> None:
    sold = Sold(shops=24, whole=False)
    sold.write(world, linked)
    by = {"cluster_unit_type": "shop"} if linked else {"cluster_field": "properties.shop"}
    await plan(world, **by)
    metric = await spend(world)
    (comparison,) = metric.comparisons
    theirs = sold.sandwich()
    factor = np.sqrt(24 / 23)
    assert comparison.difference.value == pytest.approx(theirs.params[1], rel=1e-9)
    assert comparison.std_err.value == pytest.approx(theirs.bse[1] * factor, rel=1e-9)
    assert comparison.degrees_of_freedom.value == 23
    t = theirs.params[1] / (theirs.bse[1] * factor)
    assert comparison.p_value.value == pytest.approx(2 * stats.t.sf(abs(t), 23), rel=1e-8)
    assert (metric.clusters.all, metric.clusters.mixed) == (24, 24)
    assert list(metric.clusters.arms) == [24, 24]
    # Posteriors that take units for independent are not there.
    assert not comparison.HasField("beta_binomial_posterior")
    independent = stats.sem(sold.amount[sold.arm == 1]) ** 2
    (_, design) = (
        metric.clusters.design_effects
        if metric.arms[0].variant == "control"
        else (metric.clusters.design_effects[::-1])
    )
    green = next(arm for arm in metric.arms if arm.variant == "green")
    assert design.value == pytest.approx(green.std_err.value**2 / independent, rel=1e-8)
    assert green.variance.value == pytest.approx(np.var(sold.amount[sold.arm == 1], ddof=1))


async def test_whole_clusters_have_welchs_degrees_of_freedom(world: World) -> None:
    sold = Sold(shops=20, whole=True)
    sold.write(world)
    await plan(world, cluster_field="properties.shop")
    metric = await spend(world)
    (comparison,) = metric.comparisons
    assert (metric.clusters.all, metric.clusters.mixed) == (20, 0)
    # Each arm by statsmodels with its own G / (G - 1); Satterthwaite over the two.
    theirs = [fit_of_mean(sold, arm) for arm in (0, 1)]
    variance = sum(theirs)
    freedom = variance**2 / sum(one**2 / 9 for one in theirs)
    assert comparison.std_err.value == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert comparison.degrees_of_freedom.value == pytest.approx(freedom, rel=1e-9)
    assert metric.clusters.design_effects[0].value > 2
    # As if customers came by themselves, the interval would be far too narrow.
    naive = stats.ttest_ind(*(sold.amount[sold.arm == arm] for arm in (1, 0)), equal_var=False)
    width = comparison.difference_interval.high - comparison.difference_interval.low
    assert width > 1.5 * (naive.confidence_interval().high - naive.confidence_interval().low)


def fit_of_mean(sold: Sold, arm: int) -> float:
    own = sold.arm == arm
    groups = sold.shop[own]
    fit = sm.OLS(sold.amount[own], np.ones(own.sum())).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    many = len(np.unique(groups))
    return float(fit.bse[0] ** 2 * many / (many - 1))


async def test_the_sample_ratio_is_that_of_what_was_drawn(world: World) -> None:
    """Shops of very different sizes: their customers would raise an alarm, the shops do not."""
    sold = Sold(shops=20, whole=True)
    large = np.repeat(np.arange(len(sold.shop)), np.where(sold.shop == 0, 30, 1))
    sold.shop, sold.arm, sold.amount = sold.shop[large], sold.arm[large], sold.amount[large]
    sold.write(world)
    await plan(world, cluster_field="properties.shop")
    await world.owner.define(
        "spend", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    )
    results = await world.viewer.results()
    units = [arm.units for arm in results.arms]
    assert stats.chisquare(units).pvalue < 1e-6
    assert not results.sample_ratio.alert
    weights = np.array([arm.weight for arm in results.arms], dtype=float)
    expected = stats.chisquare([10, 10], 20 * weights / weights.sum()).pvalue
    assert results.sample_ratio.p_value.value == pytest.approx(expected, rel=1e-9)
    reasons = {one.code for decision in results.decisions for one in decision.reasons}
    assert results_pb2.DECISION_REASON_CODE_SAMPLE_RATIO_MISMATCH not in reasons
    health = (await world.viewer.call("GetHealth", experiment=EXPERIMENT)).health
    assert health.sample_ratio == results.sample_ratio


async def test_too_few_clusters_are_said(world: World) -> None:
    Sold(shops=8, whole=True).write(world)
    await plan(world, cluster_field="properties.shop")
    metric = await spend(world)
    (comparison,) = metric.comparisons
    reason = results_pb2.NOT_ESTIMABLE_TOO_FEW_CLUSTERS
    assert comparison.p_value.not_estimable == reason
    assert comparison.std_err.not_estimable == reason
    assert comparison.difference_interval.not_estimable == reason
    assert comparison.difference.HasField("value")


async def test_customers_without_a_shop_are_counted_and_left_out(world: World) -> None:
    sold = Sold(shops=24, whole=False)
    sold.write(world)
    world.write({"exposures": [{"unit_id": "x", "experiment": "checkout", "variant": "green"}]}, 2)
    await plan(world, cluster_field="properties.shop")
    metric = await spend(world)
    assert (await world.viewer.results()).unclustered_units == 1
    assert metric.comparisons[0].difference.value == pytest.approx(sold.sandwich().params[1])


async def test_what_clusters_cannot_do_is_said(world: World) -> None:
    Sold(shops=24, whole=False).write(world)
    await plan(world, cluster_field="properties.shop")
    await world.owner.define(
        "median",
        metric_pb2.Metric(
            kind=metric_pb2.METRIC_KIND_QUANTILE, event_name="purchase", quantile=0.5
        ),
    )
    (metric,) = (await world.viewer.results()).metrics
    assert (metric.error.code, metric.error.reason) == ("FAILED_PRECONDITION", "NOT_FOR_CLUSTERS")
    series = (await world.viewer.call("GetTimeSeries", experiment=EXPERIMENT)).time_series
    assert series.metrics[0].error.reason == "NOT_FOR_CLUSTERS"


async def test_what_several_experiments_show_is_refused_or_read_by_clusters(world: World) -> None:
    sold = Sold(shops=24, whole=False)
    sold.write(world)
    await plan(world, cluster_field="properties.shop")
    metric = await spend(world)
    names = {"metrics": [f"{PROJECT}/metrics/spend"]}
    refused = await world.viewer.refused("GetInteractions", experiment=EXPERIMENT, **names)
    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "NOT_FOR_CLUSTERS")
    groups = [
        evaluation_service_pb2.ExperimentGroup(experiment=EXPERIMENT, variant=variant)
        for variant in ("control", "green")
    ]
    reply = await world.viewer.call(
        "EvaluateControlGroup", parent=PROJECT, control=groups[0], waves=groups[1:], **names
    )
    assert reply.metrics[0].error.reason == "NOT_FOR_CLUSTERS"
    world.played.experiment.state = experiment_pb2.Experiment.STATE_STOPPED
    world.played.experiment.name = EXPERIMENT
    effect = await world.viewer.call(
        "GetProgramEffect", parent=PROJECT, metric=f"{PROJECT}/metrics/spend"
    )
    (one,) = effect.experiments
    (comparison,) = metric.comparisons
    assert one.lift.value == pytest.approx(comparison.lift.value)
    control = next(arm for arm in metric.arms if arm.variant == "control")
    # Nearly the standard error of the difference over the control's mean.
    rough = comparison.std_err.value / control.mean.value
    assert one.std_err.value == pytest.approx(rough, rel=0.1)
    health = (await world.viewer.call("GetHealth", experiment=EXPERIMENT)).health
    assert health


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cluster_unit_type": "shop", "cluster_field": "source"}, "cluster_field"),
        ({"switchback": {"period_s": 3600, "burn_in_s": 3600}}, "switchback.burn_in_s"),
        ({"cluster_field": "shop"}, "cluster_field"),
    ],
)
async def test_plans_that_cannot_be(world: World, fields: dict[str, Any], field: str) -> None:
    refused = await world.owner.refused(
        "UpdateAnalysisPlan",
        analysis_plan=analysis_plan_pb2.AnalysisPlan(name=f"{EXPERIMENT}/analysisPlan", **fields),
        update_mask=FieldMask(paths=list(fields)),
    )
    assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in refused.message


def test_windows_make_units_anew(tmp_path: Path) -> None:
    """One unit in two windows of six hours; what it does before the burn-in is over is no one's."""
    log = Log(tmp_path / "lake")
    hour = 60
    day = START.replace(hour=0, minute=0) - START

    def at(hours: float) -> float:
        return (day + dt.timedelta(hours=hours)) / dt.timedelta(minutes=1)

    seen = [("u", "a", 1.0), ("u", "b", 7.0), ("v", "a", 0.2), ("v", "a", 2.0)]
    log.add("exposures", [exposure(unit, arm, at(hours)) for unit, arm, hours in seen])
    spent = [("u", 0.9, 1.0), ("u", 1.5, 2.0), ("u", 6.5, 4.0), ("u", 8.0, 8.0), ("v", 1.0, 16.0)]
    spent += [("v", 3.0, 32.0)]
    log.add(
        "conversions", [conversion(unit, "buy", at(hours), value) for unit, hours, value in spent]
    )
    switchback = Switchback(dt.timedelta(minutes=6 * hour), dt.timedelta(minutes=30))
    found = log.ask(
        MEASURES["days"],
        Measure(MetricKind.MEAN, "buy"),
        clustering=Clustering(switchback=switchback),
    )
    assert found.units == (2, 1)
    assert found.multiply_exposed_units == 0
    windows = found.clusters[1].windows
    assert windows is not None
    assert windows.arm.tolist() == [0, 1]
    assert np.diff(windows.period).tolist() == [1]
    assert windows.totals[:, 0].tolist() == [2.0 + 32.0, 8.0]
    assert windows.size.tolist() == [2, 1]
