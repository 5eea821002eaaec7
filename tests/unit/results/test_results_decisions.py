"""Decisions of whole reports: what ships, what stops, what cannot be told, and why."""

import numpy as np
import pytest
from touchstone_statistics.decide import Code, Decision, Verdict

from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan
from services.results.domain.metric import Direction, MetricRole
from services.results.domain.reading.report import Asked, Failure
from tests.unit.results.reading import HALVES, Lab, asked, shares

PRIMARY, GUARDRAIL = MetricRole.PRIMARY, MetricRole.GUARDRAIL
FIXED_END = AnalysisPlan(method=AnalysisMethod.FIXED, planned_units=10_000)
SEQUENTIAL = AnalysisPlan(planned_units=10_000)
SAME = (500, 500)


def decided(
    plan: AnalysisPlan, converted: list[tuple[int, int]], metrics: list[Asked], units: int = 5000
) -> Decision:
    columns = [shares((units, units), one) for one in converted]
    made = Lab(HALVES, plan).read((units, units), columns, metrics)
    (decision,) = made.decisions
    return decision


def codes(decision: Decision) -> set[Code]:
    return {reason.code for reason in decision.reasons}


def test_a_better_primary_metric_ships_when_guardrails_pass() -> None:
    metrics = [asked("m", role=PRIMARY), asked("g", role=GUARDRAIL, margin=0.2)]
    decision = decided(SEQUENTIAL, [(500, 620), SAME], metrics)
    assert decision.verdict is Verdict.SHIP
    assert codes(decision) == {Code.SUPERIOR, Code.NON_INFERIOR}


def test_a_guardrail_that_may_be_worse_keeps_it_from_shipping() -> None:
    metrics = [asked("m", role=PRIMARY), asked("g", role=GUARDRAIL, margin=0.01)]
    decision = decided(SEQUENTIAL, [(500, 620), (500, 480)], metrics)
    assert decision.verdict is not Verdict.SHIP


def test_a_guardrail_without_a_margin_is_watched_for_getting_worse_only() -> None:
    metrics = [asked("m", role=PRIMARY), asked("g", role=GUARDRAIL)]
    assert decided(SEQUENTIAL, [(500, 620), (500, 495)], metrics).verdict is Verdict.SHIP
    worse = decided(SEQUENTIAL, [(500, 620), (500, 390)], metrics)
    assert worse.verdict is Verdict.ROLL_BACK
    assert [(one.code, one.metric) for one in worse.reasons] == [(Code.DETERIORATED, "g")]


def test_less_is_better_for_a_metric_that_should_fall() -> None:
    fall = asked("m", role=PRIMARY, direction=Direction.DECREASE)
    assert decided(SEQUENTIAL, [(620, 500)], [fall]).verdict is Verdict.SHIP
    assert decided(SEQUENTIAL, [(500, 620)], [fall]).verdict is Verdict.ROLL_BACK


def test_one_look_ships_nothing_before_its_end() -> None:
    metric = [asked("m", role=PRIMARY)]
    early = decided(FIXED_END, [(300, 420)], metric, units=3000)
    assert early.verdict is Verdict.KEEP_RUNNING
    assert codes(early) == {Code.NOT_AT_HORIZON}
    assert decided(FIXED_END, [(500, 620)], metric).verdict is Verdict.SHIP


def test_an_end_that_was_too_small_cannot_tell_and_a_large_one_stops() -> None:
    small = asked("m", role=PRIMARY, minimum_effect=0.01)
    assert decided(SEQUENTIAL, [SAME], [small]).verdict is Verdict.CANNOT_TELL
    large = asked("m", role=PRIMARY, minimum_effect=0.5)
    stopped = decided(SEQUENTIAL, [SAME], [large])
    assert stopped.verdict is Verdict.STOP
    assert codes(stopped) == {Code.NOT_SUPERIOR}


def test_before_the_end_it_goes_on() -> None:
    decision = decided(SEQUENTIAL, [(200, 205)], [asked("m", role=PRIMARY)], units=2000)
    assert decision.verdict is Verdict.KEEP_RUNNING


def test_without_a_primary_metric_nothing_speaks_for_it() -> None:
    decision = decided(SEQUENTIAL, [(500, 620)], [asked("m")])
    assert decision.verdict is Verdict.CANNOT_TELL
    assert codes(decision) == {Code.NO_SUCCESS_METRIC}


def test_a_sample_ratio_that_does_not_fit_comes_before_everything() -> None:
    made = Lab(HALVES, SEQUENTIAL).read(
        (5000, 4000), [shares((5000, 4000), (500, 600))], [asked("m", role=PRIMARY)]
    )
    assert made.decisions[0].verdict is Verdict.CANNOT_TELL
    assert codes(made.decisions[0]) == {Code.SAMPLE_RATIO_MISMATCH}


def test_a_guardrail_that_failed_is_missing_and_nothing_ships() -> None:
    failure = Failure("INTERNAL", "INTERNAL", "no")
    made = Lab(HALVES, SEQUENTIAL).read(
        (5000, 5000),
        [shares((5000, 5000), (500, 640)), failure],
        [asked("m", role=PRIMARY), asked("g", role=GUARDRAIL, margin=0.1)],
    )
    assert made.decisions[0].verdict is not Verdict.SHIP
    assert Code.METRIC_MISSING in codes(made.decisions[0])


@pytest.mark.parametrize("plan", [FIXED_END, SEQUENTIAL, AnalysisPlan()])
def test_without_an_effect_a_treatment_seldom_ships(plan: AnalysisPlan) -> None:
    """A/A, two primary metrics at the planned end: at most alpha, and some sampling."""
    rng = np.random.default_rng(21)
    metrics = [asked("a", role=PRIMARY), asked("b", role=PRIMARY)]
    shipped = sum(
        decided(
            plan, [(a, b) for a, b in rng.binomial(5000, 0.1, (2, 2)).tolist()], metrics
        ).verdict
        is Verdict.SHIP
        for _ in range(120)
    )
    assert shipped <= 120 * 0.05 + 3 * np.sqrt(120 * 0.05 * 0.95)
