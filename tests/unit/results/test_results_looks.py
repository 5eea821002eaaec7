"""Looks: when they are taken, what they cost, and that the past stays as it was."""

from dataclasses import replace

import numpy as np
import pytest
from touchstone_statistics.boundaries import Ledger, advance
from touchstone_statistics.boundaries import Plan as Boundaries
from touchstone_statistics.interval import Shape

from services.results.domain.analysis_plan import AlphaSpending, AnalysisMethod, AnalysisPlan
from services.results.domain.metric import MetricRole
from services.results.domain.reading.report import Settled
from services.results.wire.results_encode import encode_results
from tests.unit.results.reading import HALVES, Lab, asked, shares

SEQUENTIAL = AnalysisPlan(planned_units=10_000)


def lab(plan: AnalysisPlan = SEQUENTIAL) -> Lab:
    return Lab(HALVES, plan)


def test_before_the_first_look_nothing_can_be_said() -> None:
    found = lab().one((20, 20), (2, 20), asked())
    assert found.report.looked.looks == ((),)
    assert found.report.looked.reading.difference.shape[0] == Shape.EVERYTHING
    assert found.report.looked.reading.p_value[0] >= 0.05


def test_looks_cost_what_the_boundary_says() -> None:
    place, ledger = lab(), Ledger()
    boundaries = Boundaries(10_000.0)
    for position, units in enumerate((500, 1500, 3500, 5000), start=1):
        found = place.one((units, units), (units // 10, units // 9), asked(), position)
        ledger = advance(boundaries, ledger, 2.0 * units)
        taken = found.report.looked.looks[0]
        assert [look.boundary for look in taken] == list(ledger.looks)
        assert found.report.looked.reading.critical is not None
    assert ledger.complete
    assert ledger.looks[-1].spent == pytest.approx(0.05)


def test_too_little_that_is_new_is_no_look_and_changes_nothing_of_record() -> None:
    place = lab()
    first = place.one((2000, 2000), (200, 260), asked(), 1).report
    second = place.one((2020, 2020), (200, 290), asked(), 2).report
    assert len(second.looked.looks[0]) == 1
    assert second.looked.current == (False,)
    for name in ("p_value", "statistic"):
        assert getattr(second.looked.reading, name) == getattr(first.looked.reading, name)
    assert second.looked.reading.lift.low == first.looked.reading.lift.low
    assert second.contrast.difference != first.contrast.difference


def test_after_the_end_the_result_stays() -> None:
    place = lab()
    last = place.one((5000, 5000), (500, 590), asked(), 1).report
    later = place.one((9000, 9000), (900, 900), asked(), 2).report
    assert later.looked.reading.p_value == last.looked.reading.p_value
    assert later.looked.current == (False,)


def test_the_past_read_again_is_what_it_was_and_takes_no_look() -> None:
    place = lab()
    units, converted = (2000, 2000), (200, 230)
    before = place.read(units, [shares(units, converted)], [asked()], 5)
    place.one((4000, 4000), (400, 480), asked(), 9)
    again = place.read(units, [shares(units, converted)], [asked()], 5, keep=False)
    assert encode_results(again, "p", "1") == encode_results(before, "p", "1")
    between = place.read((3000, 3000), [shares((3000, 3000), (300, 350))], [asked()], 7, False)
    (_, found), *_ = between.metrics
    assert isinstance(found, Settled)
    assert [look.cut.position for look in found.report.looked.looks[0]] == [5, 7]
    assert [len(looks) for looks in place.kept.values()] == [2]


def test_the_running_p_value_never_rises() -> None:
    rng = np.random.default_rng(3)
    for plan in (
        AnalysisPlan(),
        SEQUENTIAL,
        AnalysisPlan(AnalysisMethod.HYBRID, planned_units=9000),
    ):
        place, smallest, totals = lab(plan), 1.0, np.zeros(2, dtype=int)
        for position in range(1, 15):
            totals += rng.binomial(400, [0.1, 0.12])
            units = (400 * position, 400 * position)
            made = place.read(units, [shares(units, totals.tolist())], [asked()], position)
            shown = encode_results(made, "p", "1").metrics[0].comparisons[0]
            assert shown.running_p_value.value <= smallest
            smallest = shown.running_p_value.value


def test_a_hybrid_ends_with_one_test_that_stays() -> None:
    place = lab(AnalysisPlan(AnalysisMethod.HYBRID, planned_units=10_000))
    running = place.one((4000, 4000), (400, 450), asked(), 1).report.looked
    ended = place.one((5000, 5000), (500, 575), asked(), 2).report.looked
    later = place.one((6000, 6000), (600, 600), asked(), 3).report.looked
    assert running.current == (True,)
    assert ended.reading.p_value[0] < running.reading.p_value[0]
    assert later.reading.p_value == ended.reading.p_value
    assert later.current == (False,)


def test_another_error_probability_is_shown_and_costs_nothing() -> None:
    place = lab()
    place.alpha = 0.2
    found = place.one((2500, 2500), (250, 300), asked())
    taken = found.report.looked.looks[0][0]
    assert taken.boundary == advance(Boundaries(10_000.0), Ledger(), 5000.0).looks[0]
    wide = lab().one((2500, 2500), (250, 300), asked()).report.looked.reading
    assert found.report.looked.reading.difference.low > wide.difference.low


@pytest.mark.parametrize("spending", list(AlphaSpending))
def test_every_spending_function_can_be_planned(spending: AlphaSpending) -> None:
    place = lab(replace(SEQUENTIAL, spending=spending))
    (look,) = place.one((2500, 2500), (250, 300), asked()).report.looked.looks[0]
    assert 0 < look.boundary.spent < 0.05


@pytest.mark.parametrize("method", list(AnalysisMethod))
def test_corrected_intervals_agree_with_corrected_p_values(method: AnalysisMethod) -> None:
    rng = np.random.default_rng(7)
    place = lab(AnalysisPlan(method, planned_units=6000))
    metrics = [
        asked(f"m{number}", role=role)
        for number, role in enumerate([MetricRole.PRIMARY] * 3 + [MetricRole.SECONDARY] * 5)
    ]
    agreed = 0
    for position in (1, 2, 3):
        units = (1000 * position, 1000 * position)
        columns = [
            shares(units, rng.binomial(units[0], [0.2, 0.2 + effect]).tolist())
            for effect in (0.0, 0.03, 0.08, 0.0, 0.02, 0.05, 0.08, 0.1)
        ]
        for _, found in place.read(units, columns, metrics, position).metrics:
            assert isinstance(found, Settled)
            excluded = found.adjusted.difference.excludes(0.0)[0]
            assert excluded == found.corrected.rejected[0]
            assert excluded == (found.corrected.p_value[0] < 0.05)
            assert excluded == found.adjusted.lift.excludes(0.0)[0]
            agreed += int(excluded)
    assert 0 < agreed < 24


def test_a_guardrail_passes_exactly_when_its_lift_is_above_the_margin() -> None:
    for method in AnalysisMethod:
        place = lab(AnalysisPlan(method, planned_units=40_000))
        metric = asked(role=MetricRole.GUARDRAIL, margin=0.05)
        for position, converted in enumerate((2000, 1980, 1800, 2100), start=1):
            units = (5000 * position, 5000 * position)
            counts = (2000 * position, converted * position)
            guarded = place.one(units, counts, metric, position).report.guarded
            assert guarded is not None
            assert (guarded.p_value[0] < 0.05) == bool(guarded.lift.low[0] > -0.05)


def test_group_sequential_is_read_beside_another_rule_at_no_price() -> None:
    """Two experiments with the same data: what one reads by its plan, the other reads beside."""
    beside = lab(replace(SEQUENTIAL, method=AnalysisMethod.ANYTIME))
    beside.others = (AnalysisMethod.GROUP_SEQUENTIAL,)
    record = lab()
    for position, units in enumerate((500, 1500, 1510, 3500), start=1):
        seen = ((units, units), (units // 10, units // 8), asked(), position)
        other, own = beside.one(*seen).report, record.one(*seen).report
        (found,) = other.beside
        assert found.method is AnalysisMethod.GROUP_SEQUENTIAL
        assert found.reading.p_value[0] == own.looked.reading.p_value[0]
        assert found.reading.lift.low[0] == own.looked.reading.lift.low[0]
        assert other.looked.rule.method is AnalysisMethod.ANYTIME
    (kept,) = beside.kept.values()
    assert all(look.boundary.spent == 0 for look in kept)


def test_one_look_beside_a_fixed_rule_is_the_first() -> None:
    place = lab(replace(SEQUENTIAL, method=AnalysisMethod.FIXED))
    place.others = (AnalysisMethod.GROUP_SEQUENTIAL,)
    (found,) = place.one((3000, 3000), (300, 390), asked()).report.beside
    own = lab().one((3000, 3000), (300, 390), asked()).report.looked.reading
    assert found.reading.p_value[0] == own.p_value[0]
    assert place.kept == {}
