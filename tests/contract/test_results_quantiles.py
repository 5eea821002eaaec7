"""Quantiles of units and of events against the same from all values sorted in memory."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from touchstone_statistics.moments import Moments
from touchstone_statistics.quantile import QuantileCounts, quantile_estimate

from services.results.domain.measure import Aggregation, Measure, MetricKind
from services.results.domain.observation import Slice
from shared.filters.filter import Comparison, Operator
from tests.contract.results_log import Log, Row, conversion, exposure
from tests.contract.results_recount import event_values, table_of, units_of

WEB = Comparison("source", Operator.EQUAL, ("web",))
DAY = dt.timedelta(days=1)


def quantile(level: float, **more: Any) -> Measure:
    return Measure(MetricKind.QUANTILE, "load", quantile=level, **more)


MEASURES = {
    "median of sums": quantile(0.5),
    "median of sums with few zeros": quantile(0.9, window=DAY, filter=WEB),
    "of negative sums": quantile(0.04),
    "of counts": quantile(0.8, aggregation=Aggregation.COUNT),
    "of old units": quantile(0.7, window=DAY, complete_only=True),
    "of events": quantile(0.6, of_events=True),
    "of some events": quantile(0.3, of_events=True, filter=WEB, window=DAY, currency="EUR"),
    "of events of old units": quantile(
        0.9, of_events=True, window=DAY, complete_only=True, aggregation=Aggregation.COUNT
    ),
}


def random_world(seed: int) -> tuple[list[Row], list[Row]]:
    rng = np.random.default_rng(seed)
    exposures = [
        exposure(f"u{n}", "ab"[n % 2], 10 * int(rng.integers(0, 400)), source="xy"[n % 3 % 2])
        for n in range(80)
    ]
    conversions = [
        conversion(
            f"u{int(rng.integers(0, 60))}",
            "load",
            10 * int(rng.integers(0, 700)),
            float(rng.integers(-20, 200)) / 4 if rng.random() < 0.9 else None,
            source=str(rng.choice(["web", "app"])),
            currency=str(rng.choice(["EUR", "USD"])),
        )
        for _ in range(600)
    ]
    return exposures, conversions


def test_the_values_at_the_ranks_are_those_of_a_sorted_list(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    exposures, conversions = random_world(3)
    log.add("exposures", exposures)
    log.add("conversions", conversions)
    measures = tuple(MEASURES.values())
    seen = log.ask(*measures, dimensions=("source",))
    assert len(seen.slices) == 3
    now = max(row["event_time"] for row in (*exposures, *conversions))
    for measure, found in zip(measures, seen.ranked, strict=True):
        assert found is not None
        table = table_of(units_of(exposures, "ab"), conversions, measure, now)
        for s, part in enumerate(seen.slices):
            for a, arm in enumerate("ab"):
                expected = counts_of(exposures, conversions, measure, (part, arm), table)
                same(found.counts, expected, (s, a), measure)


def counts_of(
    exposures: list[Row],
    conversions: list[Row],
    measure: Measure,
    where: tuple[Slice, str],
    table: dict[str, Any],
) -> QuantileCounts:
    part, arm = where
    units = [
        unit
        for unit in units_of(exposures, "ab")
        if unit.arm == arm
        and unit.name in table
        and part.value in (None, unit.at_first.get("source"))
    ]
    assert measure.quantile is not None
    if not measure.of_events:
        return QuantileCounts.from_values(
            [float(table[u.name][0]) for u in units], measure.quantile
        )
    values = [event_values(unit, conversions, measure) for unit in units]
    plain = QuantileCounts.from_values([x for of_unit in values for x in of_unit], measure.quantile)
    below = [[sum(x <= float(plain.centre) for x in v), len(v)] for v in values]
    return QuantileCounts(
        plain.count, plain.low, plain.centre, plain.high, Moments.from_rows(below)
    )


def same(
    found: QuantileCounts, expected: QuantileCounts, at: tuple[int, int], measure: Measure
) -> None:
    for name in ("count", "low", "centre", "high"):
        ours, theirs = getattr(found, name)[at], getattr(expected, name)
        assert ours == pytest.approx(float(theirs), rel=1e-12), (measure, at, name)
    assert (found.clusters is None) == (expected.clusters is None)
    if found.clusters is not None and expected.clusters is not None:
        assert found.clusters.units[at] == expected.clusters.units
        assert found.clusters.mean[at] == pytest.approx(expected.clusters.mean)
        assert found.clusters.co_moment[at] == pytest.approx(expected.clusters.co_moment)


def test_quantiles_of_nothing_say_so(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    measures = tuple(MEASURES.values())
    for _ in range(2):
        seen = log.ask(*measures)
        for measure, found in zip(measures, seen.ranked, strict=True):
            assert found is not None
            assert measure.quantile is not None
            assert quantile_estimate(found.counts, measure.quantile).gap.all()
        # A unit that is not of the experiment changes nothing.
        log.add("exposures", [exposure("u1", "c")])
        log.add("conversions", [conversion("u1", "load", 5, 1.0)])
