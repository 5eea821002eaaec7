"""How effects change with the days since the first exposure, over the contract."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from touchstone.results.v1 import metric_pb2, results_pb2
from touchstone.results.v1.results_service_pb2 import ExposureWindow
from touchstone_statistics.moments import Moments
from touchstone_statistics.novelty import TimedEffects, change, slope

from tests.contract.results_world import START, World, open_world

DAY = dt.timedelta(days=1)
SPANS = ((1, 2), (3, 5), (6, 10))
UNITS = 150


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        del found.played.experiment.variants[2:]
        yield found


class Visits:
    """Visits of units by day since their exposure; those of green become fewer day by day."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        liking = rng.gamma(4, 0.5, (2, UNITS, 1))
        charm = np.array([[[0.0]], [[1.5]]]) * np.exp(-np.arange(10) / 8)
        self.counts = rng.poisson(liking + charm)
        self.amounts = np.round(rng.lognormal(1, 0.5, self.counts.shape), 2)

    def write(self, world: World) -> None:
        exposures, conversions = [], []
        for arm, number in np.ndindex(2, UNITS):
            unit: dict[str, Any] = {"unit_id": f"{arm}-{number}"}
            variant = ("control", "green")[arm]
            exposures.append(unit | {"experiment": "checkout", "variant": variant})
            for day in range(10):
                time = {"event_time": START + day * DAY + DAY / 2}
                visit = unit | time | {"event_name": "visit"}
                conversions += [visit] * int(self.counts[arm, number, day])
                paid = float(self.amounts[arm, number, day])
                conversions.append(unit | time | {"event_name": "purchase", "value": paid})
        # The cut is old enough for all of them, and one comes too late to count.
        late = {"unit_id": "late", "event_time": START + 11 * DAY}
        exposures.append(late | {"experiment": "checkout", "variant": "green"})
        world.write({"exposures": exposures, "conversions": distinct(conversions)})

    def moments(self, arm: int, numbers: np.ndarray) -> Moments:
        days = [slice(first - 1, last) for first, last in SPANS]
        return Moments.from_rows(np.stack([numbers[arm, :, one].mean(axis=1) for one in days], -1))


def distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"event_id": f"c{number}"} for number, row in enumerate(rows)]


def count() -> metric_pb2.Metric:
    return metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_MEAN,
        event_name="visit",
        aggregation=metric_pb2.AGGREGATION_COUNT,
    )


async def courses(world: World, **more: Any) -> dict[str, results_pb2.EffectCourse]:
    windows = [ExposureWindow(first_day=first, last_day=last) for first, last in SPANS]
    results = await world.viewer.results(exposure_windows=windows, **more)
    assert all(len(metric.windows) == 3 for metric in results.metrics)
    return {metric.metric.rsplit("/")[-1]: metric.course for metric in results.metrics}


async def test_the_slope_is_that_of_the_same_units_in_all_spans(world: World) -> None:
    visits = Visits()
    visits.write(world)
    await world.owner.define("visits", count())
    await world.owner.define(
        "spend", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    )
    found = await courses(world)
    middles = np.array([(first + last) / 2 for first, last in SPANS])
    for name, numbers in (("visits", visits.counts), ("spend", visits.amounts)):
        effects = TimedEffects.of(visits.moments(0, numbers), visits.moments(1, numbers))
        line, equal = slope(effects, middles), change(effects)
        course = found[name]
        assert course.per_day
        assert sorted(course.units) == [UNITS, UNITS]
        (ours,) = course.slopes
        assert ours.slope.value == pytest.approx(float(line.per_day), rel=1e-6)
        assert ours.slope_interval.low == pytest.approx(float(line.interval.low), rel=1e-6)
        assert ours.p_value.value == pytest.approx(float(line.p_value), rel=1e-6)
        assert ours.first_effect.value == pytest.approx(float(line.first), rel=1e-6)
        assert ours.last_effect.value == pytest.approx(float(line.last), rel=1e-6)
        assert ours.equal_p_value.value == pytest.approx(float(equal.p_value), rel=1e-6)
    assert found["visits"].slopes[0].trend == results_pb2.EFFECT_TREND_FADING
    assert found["spend"].slopes[0].trend == results_pb2.EFFECT_TREND_NONE_SEEN


async def test_a_past_cut_and_what_has_no_course(world: World) -> None:
    visits = Visits()
    visits.write(world)
    await world.owner.define("visits", count())
    await world.owner.define(
        "any", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="purchase")
    )
    await world.owner.define(
        "median",
        metric_pb2.Metric(
            kind=metric_pb2.METRIC_KIND_QUANTILE, event_name="purchase", quantile=0.5
        ),
    )
    windows = [ExposureWindow(first_day=first, last_day=last) for first, last in SPANS]
    now = await world.viewer.results(exposure_windows=windows)
    past = await world.viewer.results(exposure_windows=windows, as_of=now.provenance.watermark)
    by_name = {metric.metric.rsplit("/")[-1]: metric for metric in now.metrics}
    assert [m.course for m in past.metrics] == [m.course for m in now.metrics]
    assert not by_name["median"].HasField("course")
    # Everybody buys in each span: there is nothing to see.
    (flat,) = by_name["any"].course.slopes
    assert not by_name["any"].course.per_day
    assert flat.slope.not_estimable == results_pb2.NOT_ESTIMABLE_NOT_APPLICABLE
    assert flat.trend == results_pb2.EFFECT_TREND_UNSPECIFIED
    alone = await world.viewer.results(exposure_windows=windows[:1])
    assert not any(metric.HasField("course") for metric in alone.metrics)
