"""The state at the end of each day against the whole question asked of that day's events alone."""

import datetime as dt
from pathlib import Path

import pytest

from services.results.domain.measure import Cap, Measure, MetricKind
from services.results.domain.observation import MultipleExposures
from tests.contract.results_log import Log, Row, exposure
from tests.contract.results_recount import moments_of, table_of, units_of
from tests.contract.test_results_kinds import MEASURES, random_world

ADDITIVE = (
    *("proportion", "window", "delay", "sum", "count", "days", "currency", "capped"),
    *("ratio without a cap", "capped below zero at a number"),
)
KINDS = MEASURES | {
    "ratio without a cap": Measure(
        MetricKind.RATIO, "buy", denominator=MEASURES["ratio"].denominator, lookback=dt.timedelta(2)
    ),
    "capped below zero at a number": Measure(MetricKind.MEAN, "buy", cap=Cap(absolute=-3.0)),
}


def up_to(rows: list[Row], day: dt.date) -> list[Row]:
    return [row for row in rows if row["event_time"].date() <= day]


def test_each_day_is_what_its_events_say(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    exposures, conversions = random_world(11)
    log.add("exposures", exposures)
    log.add("conversions", conversions)
    measures = [KINDS[name] for name in ADDITIVE]
    series = log.days(*measures)
    first = min(row["event_time"].date() for row in exposures if row["variant"] in "ab")
    assert [day.day for day in series.days] == [
        first + n * dt.timedelta(1) for n in range(len(series.days))
    ]
    counted = {unit.name for unit in units_of(exposures, "ab")}
    shown = [row for row in exposures if row["unit_id"] in counted]
    for day in (series.days[0], series.days[2], series.days[-1]):
        now = dt.datetime.combine(day.day, dt.time.max, dt.UTC)
        units = units_of(up_to(shown, day.day), "ab")
        for sums, measure in zip(day.sums, measures, strict=True):
            assert sums is not None
            table = table_of(units, up_to(conversions, day.day), measure, now)
            for a, arm in enumerate("ab"):
                rows = [table[unit.name] for unit in units if unit.arm == arm]
                count, mean, spread = moments_of(rows, len(measure.columns))
                assert (day.units[a], sums.moments.units[0, a]) == (count, count)
                assert sums.moments.mean[0, a] == pytest.approx(mean, rel=1e-9), measure
                assert sums.moments.co_moment[0, a] == pytest.approx(spread, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("policy", MultipleExposures)
def test_the_last_day_is_the_whole(tmp_path: Path, policy: MultipleExposures) -> None:
    log = Log(tmp_path / "lake")
    exposures, conversions = random_world(12)
    log.add("exposures", exposures)
    log.add("conversions", conversions)
    measures = list(KINDS.values())
    series = log.days(*measures, multiple_exposures=policy)
    seen = log.ask(*measures, multiple_exposures=policy)
    last = series.days[-1]
    assert last.units == seen.units
    for name, sums, whole in zip(KINDS, last.sums, seen.sums, strict=True):
        assert (sums is not None) == (name in ADDITIVE), name
        if sums is not None:
            assert sums.moments.mean == pytest.approx(whole.moments.mean, rel=1e-12)
            assert sums.moments.co_moment == pytest.approx(whole.moments.co_moment, rel=1e-12)


def test_days_without_anything_new_are_there_and_nothing_is_no_day(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    assert log.days(KINDS["sum"]).days == ()
    log.add("exposures", [exposure("u1", "a"), exposure("u2", "b", 3 * 24 * 60)])
    assert [day.units for day in log.days(KINDS["sum"]).days] == [(1, 0), (1, 0), (1, 0), (1, 1)]
    assert [day.units for day in log.days().days] == [(1, 0), (1, 0), (1, 0), (1, 1)]
