"""Reports of whole metrics: real figures by scipy, the order of arms, and what is left out."""

import datetime as dt
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from touchstone.results.v1 import results_pb2
from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, estimate
from touchstone_statistics.gaps import Gap, NotEstimable
from touchstone_statistics.health import sample_ratio
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments

from services.results.domain.exact import Cell, Sums
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.metric import Direction, Metric, MetricDefinition
from services.results.domain.observation import (
    Arm,
    DataCut,
    ExperimentPlan,
    Observation,
    Slice,
)
from services.results.domain.report import (
    ExperimentReport,
    Method,
    MetricReport,
    RateComparison,
    report_metric,
)
from services.results.wire.results_encode import encode_results

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "results_hillstrom.json"
HILLSTROM = json.loads(GOLDEN.read_text())
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PLAN = ExperimentPlan("e", "user", (Arm("b", 4000), Arm("c", 2000), Arm("a", 4000)), "c", 3)


def golden_moments(arms: dict[str, dict[str, int]]) -> Moments:
    units, means, spreads = [], [], []
    for arm in arms.values():
        n, total = arm["units"], arm["hundredths"]
        units.append(n)
        means.append([float(Fraction(total, 100 * n))])
        spread = Fraction(n * arm["squared_hundredths"] - total**2, n * 100**2)
        spreads.append([[float(spread)]])
    return Moments.of(units, means, spreads)


@pytest.mark.parametrize("metric", ["visit", "conversion", "spend"])
def test_hillstrom_equals_scipy(metric: str) -> None:
    golden = HILLSTROM["metrics"][metric]
    arms = estimate(golden_moments(golden["arms"]), Mean(0))
    assert next(iter(golden["arms"])) == HILLSTROM["control"]
    assert arms.std_err == pytest.approx(
        [arm["std_err"] for arm in golden["arms"].values()], rel=1e-10
    )
    contrast = Contrast(arms[:1], arms[1:])
    reading = Fixed(0.05).read(contrast)
    for index, expected in enumerate(golden["comparisons"].values()):
        ours = {
            "difference": contrast.difference,
            "difference_low": reading.difference.low,
            "difference_high": reading.difference.high,
            "lift": contrast.lift,
            "lift_low": reading.lift.low,
            "lift_high": reading.lift.high,
            "p_value": reading.p_value,
            "degrees_of_freedom": reading.dof,
        }
        for name, values in ours.items():
            assert values[index] == pytest.approx(expected[name], rel=1e-9), name


def observed(units: tuple[int, ...], converted: tuple[int, ...]) -> Observation:
    cells = tuple(Cell(n, (x,), (x,)) for n, x in zip(units, converted, strict=True))
    sums = Sums((0,), (cells,))
    return Observation((Slice(units),), (sums,), (0, 0, 0), 0, DataCut("", None))


def report(units: tuple[int, ...], converted: tuple[int, ...], **definition: Any) -> MetricReport:
    visit = Measure(MetricKind.PROPORTION, "visit")
    made = replace(MetricDefinition(visit), **definition)
    metric = Metric("p", "m", made, 1, NOW, NOW)
    return report_metric(metric, 0, PLAN, observed(units, converted), Method(LiftPrior()))


def test_arms_keep_the_order_of_the_plan() -> None:
    made = report((1000, 500, 1100), (130, 50, 90))
    assert made.treatments == (0, 2)
    assert made.sums == (130.0, 50.0, 90.0)
    assert made.contrast.difference == pytest.approx([0.03, 90 / 1100 - 0.1])
    assert np.argmax(made.best.probability) == 0
    assert made.posterior.probability_to_beat[0] > 0.5 > made.posterior.probability_to_beat[1]


def test_less_is_better_for_a_metric_that_should_fall() -> None:
    rising = report((1000, 500, 1100), (130, 50, 90))
    falling = report((1000, 500, 1100), (130, 50, 90), direction=Direction.DECREASE)
    total = rising.posterior.probability_to_beat + falling.posterior.probability_to_beat
    assert total == pytest.approx([1.0, 1.0])
    assert np.argmax(falling.best.probability) == 2
    for up, down in zip(rising.rates, falling.rates, strict=True):
        assert isinstance(up, RateComparison)
        assert isinstance(down, RateComparison)
        assert up.chances.probability_to_beat + down.chances.probability_to_beat == pytest.approx(1)
        assert (up.low, up.high) == (down.low, down.high)


def test_an_arm_without_units_leaves_the_others_their_comparison() -> None:
    made = report((1000, 500, 0), (130, 50, 0))
    assert made.contrast.gap.tolist() == [Gap.NONE, Gap.NO_UNITS]
    assert made.rates[1] == NotEstimable(Gap.NO_UNITS)
    assert isinstance(made.rates[0], RateComparison)
    assert set(made.best.gap) == {Gap.NO_UNITS}


def test_a_mean_has_no_beta_posterior() -> None:
    made = report((10, 10, 10), (3, 3, 3), measure=Measure(MetricKind.MEAN, "buy"))
    assert set(made.rates) == {NotEstimable(Gap.NOT_APPLICABLE)}


def test_a_lift_outside_two_ends_is_sent_as_a_complement() -> None:
    made = report((3000, 500, 3000), (2500, 2, 3))
    assert made.reading.lift.shape[0] == 2
    assert made.reading.lift.excludes(0.0)[0]
    seen = observed((3000, 500, 3000), (2500, 2, 3))
    whole = ExperimentReport(
        PLAN, seen, (made,), sample_ratio(np.array(seen.units, float), PLAN.weights), made_by()
    )
    interval = encode_results(whole, "p", "1").metrics[0].comparisons[0].lift_interval
    assert interval.complement
    assert interval.low < 0 < interval.high
    assert not interval.low_unbounded
    assert not interval.high_unbounded
    assert interval.not_estimable == results_pb2.NOT_ESTIMABLE_CONTROL_MEAN_NEAR_ZERO


def made_by() -> Method:
    return Method(LiftPrior())
