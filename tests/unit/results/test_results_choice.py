"""The rule by default: towards an end wherever one is known, fixed by the first look, and said."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from touchstone.results.v1 import results_pb2 as pb

from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan
from services.results.domain.choice import Reason, require_end
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.report import ExperimentReport, Settled
from services.results.wire.results_encode import encode_results
from shared.errors import Code, DomainError
from tests.unit.results.reading import HALVES, NOW, Lab, asked, shares

DAY = dt.timedelta(days=1)
SCHEDULED = replace(HALVES, start=NOW, planned_end=NOW + 10 * DAY)


def lab(plan: ExperimentPlan = SCHEDULED, analysis: AnalysisPlan | None = None) -> Lab:
    return Lab(plan, AnalysisPlan() if analysis is None else analysis)


def read(place: Lab, day: float, units: int, converted: tuple[int, int]) -> ExperimentReport:
    """With so many units an arm, so many days after the start."""
    place.time = NOW + day * DAY
    position = round(day * 1000)
    return place.read((units, units), [shares((units, units), converted)], [asked()], position)


def settled(made: ExperimentReport) -> Settled:
    found = made.metrics[0][1]
    assert isinstance(found, Settled)
    return found


def choice(made: ExperimentReport) -> pb.MethodChoice:
    return encode_results(made, "p", "v").method_choice


def test_the_plan_comes_first() -> None:
    named = choice(read(lab(analysis=AnalysisPlan(AnalysisMethod.FIXED)), 3, 500, (50, 60)))
    assert (named.reason, named.planned_units) == (pb.METHOD_REASON_NAMED, 0)
    units = choice(read(lab(analysis=AnalysisPlan(planned_units=7000)), 3, 500, (50, 60)))
    assert (units.reason, units.planned_units) == (pb.METHOD_REASON_PLANNED_UNITS, 7000)
    assert "7,000 units are planned" in units.message


@pytest.mark.parametrize("plan", [HALVES, replace(HALVES, planned_end=NOW + DAY)])
def test_without_an_end_or_a_start_looks_go_on_without_one(plan: ExperimentPlan) -> None:
    made = read(lab(plan), 3, 500, (50, 60))
    assert made.analysis.plan.rule is AnalysisMethod.ANYTIME
    assert choice(made).reason == pb.METHOD_REASON_NO_END


def test_a_scheduled_stop_is_an_end_and_its_units_are_forecast() -> None:
    made = read(lab(), 2, 1000, (100, 120))
    assert made.analysis.plan.rule is AnalysisMethod.GROUP_SEQUENTIAL
    found = choice(made)
    assert (found.reason, found.planned_units) == (pb.METHOD_REASON_FORECAST, 10_000)
    assert found.planned_end_time.ToDatetime(dt.UTC) == SCHEDULED.planned_end
    assert found.message == (
        "it ends on 2026-01-11 00:00 UTC, and 10,000 units are expected until then by its traffic"
    )
    (look,) = settled(made).report.looked.looks[0]
    assert look.boundary.fraction == pytest.approx(0.2)


def test_the_end_of_the_plan_stands_before_that_of_the_schedule() -> None:
    early = AnalysisPlan(planned_end=NOW + 4 * DAY)
    assert choice(read(lab(analysis=early), 2, 1000, (100, 120))).planned_units == 4000


def test_before_a_day_of_traffic_no_look_is_taken() -> None:
    place = lab()
    made = read(place, 0.5, 300, (30, 90))
    assert choice(made).reason == pb.METHOD_REASON_TOO_EARLY
    assert choice(made).planned_units == 0
    assert place.kept == {}
    assert settled(made).report.looked.reading.p_value[0] >= 0.05
    short = lab(replace(SCHEDULED, planned_end=NOW + 2 * DAY))
    assert choice(read(short, 0.5, 300, (30, 90))).planned_units == 2400


def test_the_first_look_fixes_the_number_of_units() -> None:
    place = lab()
    read(place, 2, 1000, (100, 120))
    later = read(place, 5, 4000, (400, 410))
    assert choice(later).planned_units == 10_000
    place.plan = replace(SCHEDULED, planned_end=NOW + 30 * DAY)
    assert choice(read(place, 6, 4500, (450, 460))).planned_units == 10_000


def test_looks_that_were_taken_without_an_end_go_on_without_one() -> None:
    place = lab(HALVES)
    read(place, 2, 1000, (100, 120))
    place.plan = SCHEDULED
    made = read(place, 5, 4000, (400, 410))
    assert made.analysis.plan.rule is AnalysisMethod.ANYTIME
    assert choice(made).reason == pb.METHOD_REASON_LOOKS_TAKEN


def test_the_look_at_the_end_spends_the_rest_with_fewer_units_than_forecast() -> None:
    place = lab()
    read(place, 2, 1000, (100, 110))
    made = read(place, 10, 4000, (400, 470))
    looks = settled(made).report.looked.looks[0]
    assert [look.boundary.fraction for look in looks] == [pytest.approx(0.2), 1.0]
    assert looks[-1].boundary.information == 8000
    assert looks[-1].boundary.spent == pytest.approx(0.05)
    assert looks[-1].boundary.critical == pytest.approx(1.96, abs=0.01)
    assert settled(made).report.looked.reading.p_value[0] < 0.05
    unplanned = lab(analysis=AnalysisPlan(planned_units=10_000))
    read(unplanned, 2, 1000, (100, 110))
    late = settled(read(unplanned, 10, 4000, (400, 470))).report.looked.looks[0]
    assert late[-1].boundary.fraction == pytest.approx(0.8)
    after = read(place, 12, 4100, (410, 410))
    assert len(settled(after).report.looked.looks[0]) == 2


def test_the_end_in_time_is_an_end_for_the_decision() -> None:
    place = lab()
    primary = read(place, 10, 4000, (400, 400))
    assert primary.choice.reason is Reason.FORECAST
    verdicts = [reason.code.name for reason in primary.decisions[0].reasons]
    assert "NOT_AT_HORIZON" not in verdicts


def test_an_earlier_cut_is_read_as_it_was() -> None:
    place = lab()
    early = read(place, 0.5, 300, (30, 90))
    read(place, 2, 1000, (100, 120))
    again = read(place, 0.5, 300, (30, 90))
    assert choice(again) == choice(early)
    assert np.array_equal(
        settled(again).report.looked.reading.p_value, settled(early).report.looked.reading.p_value
    )


def test_the_level_is_kept_when_fewer_units_come_than_were_forecast() -> None:
    """Daily looks at 2,000 experiments without an effect, whose traffic falls to a half."""
    rng = np.random.default_rng(41)
    repetitions, arrivals = 2000, np.array([500] * 4 + [250] * 6)
    place = lab()
    made = [
        settled(read(place, day + 1, int(units), (50, 50))).report.looked
        for day, units in enumerate(np.cumsum(arrivals))
    ]
    critical = np.array([look.looks[0][-1].boundary.critical or np.inf for look in made])
    steps = rng.normal(size=(repetitions, len(arrivals))) * np.sqrt(arrivals)
    z = np.cumsum(steps, axis=1) / np.sqrt(np.cumsum(arrivals))
    errors = (np.abs(z) > critical).any(axis=1).mean()
    assert abs(errors - 0.05) < 0.015


def test_a_method_beside_that_goes_towards_an_end_needs_one() -> None:
    none = read(lab(HALVES), 3, 500, (50, 60)).choice
    early = read(lab(), 0.5, 300, (30, 90)).choice
    known = read(lab(), 2, 1000, (100, 120)).choice
    for method in (AnalysisMethod.GROUP_SEQUENTIAL, AnalysisMethod.HYBRID):
        with pytest.raises(DomainError) as caught:
            require_end((AnalysisMethod.FIXED, method), none)
        assert caught.value.code is Code.INVALID_ARGUMENT
        with pytest.raises(DomainError) as caught:
            require_end((method,), early)
        assert caught.value.reason == "TOO_LITTLE_DATA"
        require_end((method,), known)
    require_end((AnalysisMethod.FIXED, AnalysisMethod.ANYTIME), none)
