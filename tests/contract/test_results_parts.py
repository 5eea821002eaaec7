"""Slices, funnels and quantiles over the contract, against plain Python on the same events."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from touchstone.results.v1 import (
    analysis_plan_pb2,
    metric_pb2,
    results_pb2,
    results_service_pb2,
)

from tests.contract.results_world import EXPERIMENT, START, World, open_world

DAY = dt.timedelta(days=1)
FIXED = analysis_plan_pb2.ANALYSIS_METHOD_FIXED


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


def exposed(unit: str, variant: str, **fields: Any) -> dict[str, Any]:
    return {"unit_id": unit, "experiment": "checkout", "variant": variant} | fields


async def test_slices_are_compared_tested_and_shrunken(world: World) -> None:
    rng = np.random.default_rng(11)
    rates = {"at": (0.2, 0.2), "de": (0.2, 0.4), "fr": (0.2, 0.2), "it": (0.2, 0.2)}
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    seen: dict[tuple[str, str], np.ndarray] = {}
    for country, (control, green) in rates.items():
        for variant, rate in (("control", control), ("green", green), ("blue", control)):
            seen[country, variant] = rng.random(300) < rate
            for number, buys in enumerate(seen[country, variant]):
                unit = f"{country}-{variant}-{number}"
                source = {"source": country}
                tables["exposures"].append(exposed(unit, variant, **source))
                if buys:
                    tables["conversions"].append({"unit_id": unit, "event_name": "visit"})
    world.write(tables)
    await world.owner.define(
        "visits", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit")
    )
    results = await world.viewer.results(dimensions=["source"])
    (metric,) = results.metrics
    assert sorted(one.value for one in metric.slices) == sorted(rates)
    for one in metric.slices:
        assert one.dimension == "source"
        for arm in one.arms:
            rows = seen[one.value, arm.variant]
            assert arm.units == 300
            assert arm.mean.value == pytest.approx(rows.mean())
        of_green = next(c for c in one.comparisons if c.variant == "green")
        raw = of_green.reading.difference.value
        expected = seen[one.value, "green"].mean() - seen[one.value, "control"].mean()
        assert raw == pytest.approx(expected)
        assert of_green.shrunken_interval.low < of_green.shrunken_difference.value
    by_variant = {one.variant: one for one in metric.heterogeneity}
    assert by_variant["green"].p_value.value == pytest.approx(
        cochran([(seen[c, "green"], seen[c, "control"]) for c in rates]), rel=1e-9
    )
    assert by_variant["green"].adjusted_p_value.value < 0.05
    assert by_variant["blue"].p_value.value > 0.01
    assert not (await world.viewer.results()).metrics[0].slices


def cochran(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    effects = np.array([treated.mean() - control.mean() for treated, control in pairs])
    weights = np.array(
        [1 / (stats.sem(t.astype(float)) ** 2 + stats.sem(c.astype(float)) ** 2) for t, c in pairs]
    )
    centre = (weights * effects).sum() / weights.sum()
    return float(stats.chi2.sf((weights * (effects - centre) ** 2).sum(), len(pairs) - 1))


async def test_a_funnel_shows_where_units_leave(world: World) -> None:
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    reach = {"control": (80, 40, 10), "green": (80, 60, 30), "blue": (50, 20, 0)}
    for variant, counts in reach.items():
        for number in range(100):
            unit = f"{variant}-{number}"
            tables["exposures"].append(exposed(unit, variant))
            for name, count in zip(("see", "fill", "send"), counts, strict=True):
                if number < count:
                    tables["conversions"].append({"unit_id": unit, "event_name": name})
    world.write(tables)
    steps = [metric_pb2.Source(event_name=name) for name in ("see", "fill", "send")]
    await world.owner.define(
        "open", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_FUNNEL, steps=steps)
    )
    results = await world.viewer.results()
    (metric,) = results.metrics
    assert [step.event_name for step in metric.steps] == ["see", "fill", "send"]
    for place, step in enumerate(metric.steps):
        for arm in step.arms:
            left = (100, *reach[arm.variant])
            assert arm.units == left[place + 1]
            assert arm.reached.value == pytest.approx(left[place + 1] / 100)
            assert arm.passed.value == pytest.approx(left[place + 1] / left[place])
            assert arm.left == left[place] - left[place + 1]
    fill = {one.variant: one for one in metric.steps[1].comparisons}
    assert fill["green"].reading.difference.value == pytest.approx(60 / 80 - 40 / 80)
    last = {arm.variant: arm.mean.value for arm in metric.arms}
    assert last == {"control": 0.1, "green": 0.3, "blue": 0.0}


async def test_a_quantile_is_that_of_the_values(world: World) -> None:
    rng = np.random.default_rng(2)
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    values: dict[str, list[float]] = {}
    for variant, scale in (("control", 1.0), ("green", 1.5), ("blue", 1.0)):
        values[variant] = [float(v) for v in rng.lognormal(0, 1, 200) * scale]
        for number, value in enumerate(values[variant]):
            unit = f"{variant}-{number}"
            tables["exposures"].append(exposed(unit, variant))
            tables["conversions"].append({"unit_id": unit, "event_name": "load", "value": value})
    world.write(tables)
    await world.owner.define(
        "load",
        metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_QUANTILE, event_name="load", quantile=0.5),
    )
    (metric,) = (await world.viewer.results(methods=[FIXED])).metrics
    for arm in metric.arms:
        expected = np.quantile(values[arm.variant], 0.5, method="inverted_cdf")
        assert arm.mean.value == pytest.approx(expected)
        assert arm.sum.not_estimable == results_pb2.NOT_ESTIMABLE_NOT_APPLICABLE
    green = next(one for one in metric.comparisons if one.variant == "green")
    assert green.readings[0].p_value.value < 0.05


async def test_spans_of_days_count_units_for_which_they_are_over(world: World) -> None:
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    counted: dict[tuple[str, int], list[int]] = {}
    for variant in ("control", "green", "blue"):
        for number in range(40):
            unit = {"unit_id": f"{variant}-{number}"}
            first = START + number * DAY / 4
            tables["exposures"].append(exposed(f"{variant}-{number}", variant, event_time=first))
            for day in (0.5, 2.5, 6.5):
                if (number + int(day)) % (2 if variant == "green" else 4) == 0:
                    row = unit | {"event_name": "visit", "event_time": first + day * DAY}
                    tables["conversions"].append(row)
    # The log goes on until all units are 12 days old at least, but the last ones not 22.
    now = START + 22 * DAY
    tables["conversions"].append({"unit_id": "x", "event_name": "end", "receive_time": now})
    for variant in ("control", "green", "blue"):
        every = 2 if variant == "green" else 4
        old = [n for n in range(40) if START + n * DAY / 4 + 20 * DAY <= now]
        counted[variant, 20] = [int(any((n + d) % every == 0 for d in (2, 6))) for n in old]
        counted[variant, 1] = [int(n % every == 0) for n in range(40)]
    world.write(tables)
    await world.owner.define(
        "visits",
        metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit"),
    )
    spans = [
        results_service_pb2.ExposureWindow(first_day=1, last_day=1),
        results_service_pb2.ExposureWindow(first_day=2, last_day=20),
    ]
    (metric,) = (await world.viewer.results(exposure_windows=spans)).metrics
    assert [(one.first_day, one.last_day) for one in metric.windows] == [(1, 1), (2, 20)]
    for one in metric.windows:
        for arm in one.arms:
            rows = counted[arm.variant, one.last_day]
            assert arm.units == len(rows)
            assert arm.mean.value == pytest.approx(np.mean(rows))
        assert [c.variant for c in one.comparisons] == ["green", "blue"]
    wrong = await world.viewer.refused(
        "GetResults",
        experiment=EXPERIMENT,
        exposure_windows=[results_service_pb2.ExposureWindow(first_day=3, last_day=2)],
    )
    assert wrong.violations[0].field == "exposure_windows.last_day"
