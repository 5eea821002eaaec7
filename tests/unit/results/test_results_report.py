"""Reports of whole metrics: real figures by scipy, the order of arms, and what is left out."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from touchstone.results.v1 import results_pb2
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments

from services.results.domain.measure import Aggregation, Measure, MetricKind
from services.results.domain.metric import Direction
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.report import Failure, Settled
from services.results.wire.results_encode import encode_results
from tests.unit.results.reading import PLAN, Lab, asked, shares

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "results_hillstrom.json"
HILLSTROM = json.loads(GOLDEN.read_text())


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


def report(units: tuple[int, ...], converted: tuple[int, ...], **definition: Any) -> Settled:
    return Lab().one(units, converted, asked(**definition))


def test_arms_keep_the_order_of_the_plan() -> None:
    found = report((1000, 500, 1100), (130, 50, 90)).report
    assert PLAN.treatments == (0, 2)
    assert found.measured.totals is not None
    assert found.measured.totals[0].tolist() == [130.0, 50.0, 90.0]
    assert found.contrast.difference == pytest.approx([0.03, 90 / 1100 - 0.1])
    assert np.argmax(found.beliefs.best.probability) == 0
    better = found.beliefs.normal.probability_to_beat
    assert better[0] > 0.5 > better[1]


def test_less_is_better_for_a_metric_that_should_fall() -> None:
    rising = report((1000, 500, 1100), (130, 50, 90)).report.beliefs
    falling = report((1000, 500, 1100), (130, 50, 90), direction=Direction.DECREASE).report.beliefs
    total = rising.normal.probability_to_beat + falling.normal.probability_to_beat
    assert total == pytest.approx([1.0, 1.0])
    assert np.argmax(falling.best.probability) == 2
    up, down = rising.rates, falling.rates
    assert up is not None
    assert down is not None
    total = up.chances.probability_to_beat + down.chances.probability_to_beat
    assert total == pytest.approx([1.0, 1.0])
    assert up.difference.low.tolist() == down.difference.low.tolist()


def test_an_arm_without_units_leaves_the_others_their_comparison() -> None:
    found = report((1000, 500, 0), (130, 50, 0)).report
    assert found.contrast.gap.tolist() == [Gap.NONE, Gap.NO_UNITS]
    assert found.beliefs.rates is not None
    assert found.beliefs.rates.gap.tolist() == [Gap.NONE, Gap.NO_UNITS]
    assert set(found.beliefs.best.gap) == {Gap.NO_UNITS}


def test_a_mean_has_no_posterior_of_rates_or_counts() -> None:
    summed = report((10, 10, 10), (3, 3, 3), measure=Measure(MetricKind.MEAN, "buy"))
    assert summed.report.beliefs.rates is None
    assert summed.report.beliefs.counts is None


def test_a_count_has_a_posterior_of_events_a_unit() -> None:
    counting = Measure(MetricKind.MEAN, "buy", aggregation=Aggregation.COUNT)
    counts = report((1000, 1000, 1000), (300, 300, 360), measure=counting).report.beliefs.counts
    assert counts is not None
    low, high = counts.chances.probability_to_beat
    assert low == pytest.approx(0.5, abs=1e-6)
    # Two Gamma posteriors of 361 and 301 events, by the normal approximation of their logarithms.
    assert high == pytest.approx(
        stats.norm.cdf(np.log(1.2) / np.hypot(361**-0.5, 301**-0.5)), abs=0.002
    )


def test_a_lift_outside_two_ends_is_sent_as_a_complement() -> None:
    units, converted = (3000, 500, 3000), (2500, 2, 3)
    made = Lab().read(units, [shares(units, converted)], [asked()])
    interval = encode_results(made, "p", "1").metrics[0].comparisons[0].lift_interval
    assert interval.complement
    assert interval.low < 0 < interval.high
    assert not interval.low_unbounded
    assert not interval.high_unbounded
    assert interval.not_estimable == results_pb2.NOT_ESTIMABLE_CONTROL_MEAN_NEAR_ZERO


def test_a_metric_that_failed_says_so_and_leaves_the_others_theirs() -> None:
    units = (1000, 500, 1100)
    failure = Failure("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "too large")
    made = Lab().read(units, [failure, shares(units, (130, 50, 90))], [asked("bad"), asked("good")])
    bad, good = encode_results(made, "p", "1").metrics
    assert (bad.error.code, bad.error.reason) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert not bad.comparisons
    assert len(good.comparisons) == 2
    assert not good.HasField("error")


def test_a_posterior_that_could_not_be_asked_for_says_why() -> None:
    units = (1000, 500, 1100)
    made = Lab().read(units, [shares(units, (130, 50, 90))], [asked()])
    failure = Failure("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "too much memory")
    (metric,) = encode_results(replace(made, revenues=(failure,)), "p", "1").metrics
    assert metric.hurdle_error.message == "too much memory"
    assert metric.hurdle_error.reason == "LIMIT_EXCEEDED"
    assert metric.comparisons[0].p_value.value > 0
    assert not any(one.HasField("hurdle_posterior") for one in metric.comparisons)
    (plain,) = encode_results(made, "p", "1").metrics
    assert not plain.HasField("hurdle_error")


def test_sums_that_make_no_sense_are_the_error_of_their_metric() -> None:
    units = (1000, 500, 1100)
    columns = [shares(units, (130, 50, 1200)), shares(units, (130, 50, 90))]
    made = Lab().read(units, columns, [asked("bad"), asked("good")])
    bad, good = encode_results(made, "p", "1").metrics
    assert bad.error.code == "INTERNAL"
    assert "1200" not in bad.error.message
    assert good.comparisons[0].p_value.value > 0


def test_equal_inputs_have_equal_digests_and_others_have_others() -> None:
    units = (1000, 500, 1100)

    def digests(count: int, plan: ExperimentPlan = PLAN) -> tuple[str, str]:
        made = Lab(plan).read(units, [shares(units, (130, 50, count))], [asked()])
        provenance = encode_results(made, "p", "1").provenance
        return provenance.question_digest, provenance.inputs_digest

    assert digests(90) == digests(90)
    assert digests(90)[0] == digests(91)[0]
    assert digests(90)[1] != digests(91)[1]
    other = replace(PLAN, control="a")
    assert digests(90, other)[0] != digests(90)[0]
    assert digests(90, other)[1] == digests(90)[1]
