"""Waves of several experiments against one control group, at one cut of the event log."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from scipy import stats
from touchstone.assignment.v1 import experiment_pb2
from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone.results.v1 import metric_pb2

from shared.errors import Code
from tests.contract.results_world import EXPERIMENT, PROJECT, START, World, open_world

FALLBACK = f"{PROJECT}/experiments/fallback"
SPEND = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        found.played.more[FALLBACK] = second()
        yield found


def second() -> experiment_pb2.Experiment:
    """The second wave of the journey: those who did not answer the first."""
    return experiment_pb2.Experiment(
        unit_type="user",
        variants=[
            experiment_pb2.Variant(key="call", weight=5000),
            experiment_pb2.Variant(key="popup", weight=5000),
        ],
        control_variant="call",
        config_version=3,
    )


def group(experiment: str, variant: str) -> pb.ExperimentGroup:
    return pb.ExperimentGroup(experiment=experiment, variant=variant)


def asked(*metrics: str) -> dict[str, Any]:
    return {
        "parent": PROJECT,
        "control": group(EXPERIMENT, "control"),
        "waves": [group(EXPERIMENT, "green"), group(FALLBACK, "popup")],
        "metrics": [f"{PROJECT}/metrics/{metric}" for metric in metrics],
    }


def spending(seed: int) -> dict[tuple[str, str], np.ndarray]:
    """What each unit of each group spends."""
    rng = np.random.default_rng(seed)
    means = {
        ("checkout", "control"): 5,
        ("checkout", "green"): 6,
        ("fallback", "popup"): 7,
        ("fallback", "call"): 9,
    }
    return {key: rng.gamma(2, mean / 2, 150) for key, mean in means.items()}


def log(values: dict[tuple[str, str], np.ndarray]) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    for (experiment, variant), amounts in values.items():
        for number, amount in enumerate(amounts):
            unit = {"unit_id": f"{experiment}-{variant}-{number}"}
            exposure = {"experiment": experiment, "variant": variant}
            bought = {"event_name": "purchase", "value": float(amount)}
            tables["exposures"].append(unit | exposure)
            tables["conversions"].append(unit | bought)
    return tables


async def test_each_wave_and_all_of_them_equal_scipys_welch(world: World) -> None:
    values = spending(1)
    world.write(log(values))
    await world.owner.define("spend", SPEND)
    reply = await world.viewer.call("EvaluateControlGroup", **asked("spend"))
    assert [(one.group.experiment, one.group.variant, one.units) for one in reply.groups] == [
        (EXPERIMENT, "control", 150),
        (EXPERIMENT, "green", 150),
        (FALLBACK, "popup", 150),
    ]
    assert [one.config_version for one in reply.groups] == [17, 17, 3]
    (metric,) = reply.metrics
    control = values["checkout", "control"]
    waves = [values["checkout", "green"], values["fallback", "popup"]]
    together = np.concatenate(waves)
    found = [*metric.waves, metric.pooled]
    for one, treated in zip(found, [*waves, together], strict=True):
        welch = stats.ttest_ind(treated, control, equal_var=False)
        assert one.p_value.value == pytest.approx(welch.pvalue, rel=1e-9)
        assert one.ratio.value == pytest.approx(treated.mean() / control.mean(), rel=1e-12)
        gained = (treated.mean() - control.mean()) * len(treated)
        assert one.gained.value == pytest.approx(gained, rel=1e-9)
    low, high = metric.pooled.difference_interval.low, metric.pooled.difference_interval.high
    interval = stats.ttest_ind(together, control, equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert metric.pooled.adjusted_p_value.value == metric.pooled.p_value.value


async def test_waves_are_corrected_as_asked(world: World) -> None:
    world.write(log(spending(2)))
    await world.owner.define("spend", SPEND)
    p, levels = {}, {}
    for name in ("SIMULTANEOUS", "NONE", "BONFERRONI", "HOLM"):
        correction = getattr(pb, f"WAVE_CORRECTION_{name}")
        fields = asked("spend") | {"correction": correction, "alpha": 0.1}
        reply = await world.viewer.call("EvaluateControlGroup", **fields)
        assert reply.correction == correction
        wave = reply.metrics[0].waves[0]
        p[name], levels[name] = wave.adjusted_p_value.value, wave.lift_interval.level
    alone = wave.p_value.value
    assert p["NONE"] == alone
    assert p["BONFERRONI"] == pytest.approx(2 * alone)
    assert alone < p["SIMULTANEOUS"] < p["BONFERRONI"]
    assert levels["NONE"] == pytest.approx(0.9)
    assert levels["BONFERRONI"] == pytest.approx(0.95)
    assert levels["NONE"] < levels["SIMULTANEOUS"] < levels["BONFERRONI"]


async def test_all_groups_are_read_at_one_cut_that_can_be_shown_again(world: World) -> None:
    world.write(log(spending(3)))
    await world.owner.define("spend", SPEND)
    before = await world.viewer.call("EvaluateControlGroup", **asked("spend"))
    late = log(spending(4))
    for rows in late.values():
        for row in rows:
            row["unit_id"] += "-late"
    world.write(late, position=2)
    after = await world.viewer.call("EvaluateControlGroup", **asked("spend"))
    assert [one.units for one in after.groups] == [300, 300, 300]
    again = asked("spend") | {"as_of": before.watermark}
    assert await world.viewer.call("EvaluateControlGroup", **again) == before


async def test_groups_of_unequal_age_are_told_and_a_window_makes_them_equal(world: World) -> None:
    week = Duration()
    week.FromTimedelta(dt.timedelta(days=7))
    weekly = metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase", conversion_window=week
    )
    await world.owner.define("spend", SPEND)
    await world.owner.define("weekly", weekly)
    tables = log(spending(5))
    for row in tables["exposures"]:
        if row["experiment"] == "fallback":
            row["event_time"] = START + dt.timedelta(days=10)
    world.write(tables)
    reply = await world.viewer.call("EvaluateControlGroup", **asked("spend", "weekly"))
    assert [one.unequal_follow_up for one in reply.metrics] == [True, False]
    assert all(one.error.code == "" for one in reply.metrics)


async def test_what_cannot_be_compared_says_why_and_the_rest_is_there(world: World) -> None:
    world.write(log(spending(6)))
    capped = metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_MEAN,
        event_name="purchase",
        cap=metric_pb2.Cap(percentile=0.99),
    )
    median = metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_QUANTILE, event_name="purchase", quantile=0.5
    )
    for name, metric in {"capped": capped, "median": median, "spend": SPEND}.items():
        await world.owner.define(name, metric)
    fields = asked("capped", "median", "spend")
    reply = await world.viewer.call("EvaluateControlGroup", **fields)
    assert [one.error.code for one in reply.metrics] == ["FAILED_PRECONDITION"] * 2 + [""]
    assert "percentile" in reply.metrics[0].error.message
    assert reply.metrics[2].waves[0].ratio.value > 1
    alone = asked("capped") | {"waves": [group(EXPERIMENT, "green")]}
    reply = await world.viewer.call("EvaluateControlGroup", **alone)
    assert reply.metrics[0].error.code == ""


async def test_experiments_on_other_units_are_refused(world: World) -> None:
    world.played.more[FALLBACK].unit_type = "device"
    await world.owner.define("spend", SPEND)
    error = await world.viewer.refused("EvaluateControlGroup", **asked("spend"))
    assert error.code is Code.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == ["waves[1].experiment"]
