"""Reports corrected by experiments, over rows in memory and lifts that are given."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from touchstone.attribution.v1 import calibration_pb2
from touchstone.attribution.v1.attribution_pb2 import ModelResult

from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.application.calibrate_report import (
    Basis,
    CalibratedReport,
    CalibrateReport,
    Reported,
    ReportedChannel,
    ReportedResult,
    Untested,
    calibrate_report,
)
from services.attribution.application.calibration_links import CalibrationLink, SwitchedGroup
from services.attribution.application.calibration_ports import (
    ExposedSpan,
    ExposedUnits,
    ExposureQuery,
    Lift,
    LiftProvenance,
    MeasuredEvents,
    NoLift,
    Placed,
)
from services.attribution.application.calibration_tests import CalibrationSources
from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.get_attribution import GetAttribution, get_attribution
from services.attribution.application.questions import Question
from services.attribution.domain.conflicts import Conflict
from services.attribution.domain.economics import Undefined
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lift import Applied, Estimate, credit_variance
from services.attribution.domain.models import (
    BaggedLogistic,
    FirstTouch,
    Fractribution,
    LastTouch,
    Linear,
    Markov,
    Model,
    Participation,
    Probabilistic,
    Shapley,
    TimeDecay,
)
from services.attribution.domain.shapley import Game
from services.attribution.limits import AttributionLimits
from services.attribution.ports import Names, TouchField
from services.attribution.wire.calibration_results import encode_result
from shared.filters.filter import Comparison, Filter, Operator
from shared.identity.belonging import Stitching

NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
SHOWN, HELD = SwitchedGroup("switch", "shown"), SwitchedGroup("switch", "held-out")
LINK = CalibrationLink("p", "link", "mail", "orders", (SHOWN,), HELD, treatment_on=True)
ORDERS = MeasuredEvents("buy", once=True)
SOURCE = LiftProvenance("w", (1,), 1, 1, "v", "")


@dataclass
class World:
    """Units by number, each in one variant or none, and what happened to them, by day."""

    exposed: dict[int, tuple[SwitchedGroup, float]] = field(default_factory=dict)
    touches: list[TouchRow] = field(default_factory=list)
    conversions: list[ConversionRow] = field(default_factory=list)

    def touch(self, unit: int, day: float, channel: str = "mail") -> None:
        event = f"t{len(self.touches)}"
        at = int(day * DAY_US)
        self.touches.append(TouchRow(event, "p", f"u{unit}", at, channel, cost=2.0))

    def buy(self, unit: int, day: float, value: float = 10.0) -> None:
        event = f"c{len(self.conversions)}"
        at = int(day * DAY_US)
        self.conversions.append(ConversionRow(event, "p", f"u{unit}", at, "buy", value))

    def log(self) -> MemoryJourneyLog:
        return MemoryJourneyLog(self.touches, self.conversions, NOW)


@dataclass(frozen=True)
class ListedExposures:
    """Exposures and ExposedUnits of a world."""

    exposed: Mapping[int, tuple[SwitchedGroup, float]]
    variants: tuple[SwitchedGroup, ...] = ()
    data_us: int = 40 * DAY_US

    def read(self, query: ExposureQuery) -> ExposedUnits:
        return replace(self, variants=query.variants)

    @property
    def start_us(self) -> int | None:
        return min((int(day * DAY_US) for _, day in self.exposed.values()), default=None)

    def spans(self, until_us: int | None) -> Sequence[ExposedSpan]:
        found = []
        for variant in self.variants:
            days = [int(day * DAY_US) for one, day in self.exposed.values() if one == variant]
            kept = [day for day in days if until_us is None or day <= until_us]
            found.append(ExposedSpan(len(kept), min(kept, default=0), max(kept, default=0)))
        return found

    def placed(self, units: Names, count: int, places: Sequence[int]) -> Placed:
        wanted = [self.variants[place] for place in places]
        inside, first = np.zeros(count, np.bool_), np.zeros(count, np.int64)
        for row, name in enumerate(units.at(np.arange(count))):
            variant, day = self.exposed.get(int(name[1:]), (None, 0.0))
            if variant in wanted:
                inside[row], first[row] = True, int(day * DAY_US)
        return Placed(inside, first)


@dataclass(frozen=True)
class GivenLifts:
    """LiftSource that says what it was given."""

    lifts: Mapping[str, Lift | NoLift]

    def lift(self, link: CalibrationLink, as_of: str, stitching: Stitching) -> Lift | NoLift:
        return self.lifts[link.link_id]


def lift(difference: float, std_err: float = 0.01, **changes: object) -> Lift:
    made = Lift(ORDERS, Estimate(difference, std_err), 100, 100, SOURCE)
    return replace(made, **changes)  # type: ignore[arg-type]


def switched_world() -> World:
    """Units 0 to 99 with mail and 100 to 199 without; 40 and 20 of them buy.

    Mail touches a unit a day after its exposure and search half a day later; they buy on day 3.
    """
    world = World({n: (SHOWN if n < 100 else HELD, 0.0) for n in range(200)})
    for unit in range(200):
        if unit < 100:
            world.touch(unit, 1)
        world.touch(unit, 1.5, "search")
    for unit in (*range(40), *range(100, 120)):
        world.buy(unit, 3)
    return world


def calibrated(
    world: World,
    lifts: Mapping[str, Lift | NoLift],
    links: Sequence[CalibrationLink] = (LINK,),
    definition: JourneyDefinition | None = None,
    untested: Untested = Untested.POOLED,
    models: tuple[Model, ...] = (LastTouch(), Linear()),
    known: Sequence[CalibrationLink] = (),
) -> CalibratedReport:
    log, limits = world.log(), AttributionLimits()
    question = Question("p", definition or JourneyDefinition("buy"), models)
    answer = get_attribution(GetAttribution(question), log, limits)
    counts = answer.statistics.counts
    results = tuple(
        ReportedResult(
            table.additive,
            tuple(
                ReportedChannel(each.channel, each.conversions, each.value, 50.0)
                for each in table.channels
            ),
        )
        for table in answer.tables
    )
    reported = Reported(question, results, counts.converting + counts.direct, counts.units)
    command = CalibrateReport(reported, tuple(links), untested=untested, known=tuple(known))
    sources = CalibrationSources(log, limits, ListedExposures(world.exposed), GivenLifts(lifts))
    return calibrate_report(command, sources)


def kinds(report: CalibratedReport) -> list[Conflict]:
    """The findings of the report, and of its second result (linear) but for untested channels."""
    of_result = report.results[1].findings
    kept = [each for each in of_result if each.conflict is not Conflict.NOT_TESTED]
    return [each.conflict for each in (*report.findings, *kept)]


def test_lift_is_set_against_the_credit_of_the_same_units() -> None:
    report = calibrated(switched_world(), {"link": lift(0.2)})

    last_touch, linear = report.results
    # Linear: half of 40 conversions. Last touch: search was later in every journey.
    assert (linear.tests[0].credited_on, linear.tests[0].credited_off) == (20.0, 0.0)
    assert linear.tests[0].test.incremental.value == pytest.approx(20.0)
    mail = linear.channels[0]
    assert mail.kappa is not None
    assert mail.kappa.basis is Basis.TESTED
    assert mail.kappa.kappa.pooled is not None
    assert mail.kappa.kappa.pooled.value == pytest.approx(1.0)
    assert mail.conversions is not None
    assert mail.conversions.incremental.value == pytest.approx(20.0)
    assert mail.conversions.cost_per_incremental == pytest.approx(50 / 20)
    assert next(each.conflict for each in last_touch.findings) is Conflict.NOTHING_ATTRIBUTED
    assert kinds(report) == []


def test_credit_where_the_channel_was_off_is_taken_away() -> None:
    world = switched_world()
    for unit in range(100, 120):
        world.touch(unit, 1)

    report = calibrated(world, {"link": lift(0.05)})

    test = report.results[1].tests[0]
    assert (test.credited_on, test.credited_off) == (20.0, 10.0)
    assert test.test.outcome.attributed.value == 10.0
    assert kinds(report) == [Conflict.CREDITED_WHERE_OFF]


def test_a_treatment_that_switches_off_is_the_other_way_round() -> None:
    link = replace(LINK, treatment=(HELD,), control=SHOWN, treatment_on=False)

    report = calibrated(switched_world(), {"link": lift(0.2)}, [link])

    assert report.results[1].tests[0].credited_on == 20.0


def test_only_what_the_metric_counts_is_credited() -> None:
    world = switched_world()
    world.exposed = {unit: (variant, 2.0) for unit, (variant, _) in world.exposed.items()}
    world.buy(0, 1.8)  # before the exposure on day 2
    world.buy(1, 9)  # the second of the unit
    world.buy(50, 9)  # a week after the exposure

    def credit(events: MeasuredEvents) -> float:
        report = calibrated(world, {"link": lift(0.2, events=events)})
        return report.results[1].tests[0].credited_on

    assert credit(MeasuredEvents("buy")) == 21.0
    assert credit(MeasuredEvents("buy", once=True)) == 20.5
    assert credit(MeasuredEvents("buy", window_us=7 * DAY_US)) == 21.0
    assert credit(MeasuredEvents("buy", window_us=7 * DAY_US - 1)) == 20.0
    assert credit(MeasuredEvents("buy", delay_us=DAY_US)) == 21.0
    assert credit(MeasuredEvents("buy", delay_us=DAY_US + 1)) == 1.0
    assert credit(MeasuredEvents("buy", by_value=True)) == 210.0


def test_with_complete_units_only_those_count_that_were_exposed_in_time() -> None:
    world = switched_world()
    # The data end on day 40: with a window of 38 days these are too late.
    world.exposed |= dict.fromkeys(range(20), (SHOWN, 2.5))
    events = MeasuredEvents("buy", window_us=38 * DAY_US, complete_only=True)

    report = calibrated(world, {"link": lift(0.2, events=events, units_on=80)})

    (test,) = report.tested.tests
    assert test.credited is not None
    assert (test.credited.units_on, test.credited.units_off) == (80, 100)
    # Half of the 20 conversions of the others.
    assert report.results[1].tests[0].credited_on == 10.0


def test_credit_is_taken_for_each_unit_where_units_differ() -> None:
    report = calibrated(switched_world(), {"link": lift(0.2, units_on=200)})

    assert report.results[1].tests[0].credited_on == 40.0
    assert kinds(report) == [Conflict.DIFFERENT_UNITS]


def test_the_time_of_the_report_does_not_bound_that_of_the_test() -> None:
    later = JourneyDefinition("buy", start_us=20 * DAY_US, end_us=30 * DAY_US)
    world = switched_world()
    world.touch(300, 20.5)
    world.buy(300, 21)

    report = calibrated(world, {"link": lift(0.2)}, definition=later)

    assert report.results[1].tests[0].credited_on == 20.0
    mail = report.results[1].channels[0]
    assert mail.conversions is not None
    assert mail.conversions.attributed.value == 1.0
    assert kinds(report)[0] is Conflict.OUTSIDE_REPORT


def other_filter() -> Filter:
    return Comparison("source", Operator.EQUAL, ("shop",))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (NoLift("the experiment is gone"), Conflict.NO_RESULTS),
        (NoLift("a quantile", Conflict.OTHER_KIND), Conflict.OTHER_KIND),
        (lift(0.2, events=MeasuredEvents("visit")), Conflict.OTHER_EVENT),
        (lift(0.2, events=MeasuredEvents("buy", other_filter())), Conflict.OTHER_FILTER),
        (lift(0.2, alert=True), Conflict.UNTRUSTED_RESULTS),
        (lift(0.2, units_on=0), Conflict.NO_SHARED_UNITS),
    ],
)
def test_a_lift_that_makes_no_sense_is_left_out_and_said(
    found: Lift | NoLift, expected: Conflict
) -> None:
    report = calibrated(switched_world(), {"link": found})

    assert kinds(report) == [expected]
    assert report.findings[0].left_out
    assert report.findings[0].experiments == ("projects/p/calibrationLinks/link",)
    assert not report.tested.tests[0].used
    assert report.results[1].channels[0].conversions is None


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (replace(LINK, credited=TouchField.CAMPAIGN), Conflict.OTHER_CREDIT_KEY),
        (replace(LINK, channel="radio"), Conflict.UNKNOWN_CHANNEL),
        (replace(LINK, control=SwitchedGroup("switch", "nobody")), Conflict.NO_SHARED_UNITS),
    ],
)
def test_a_link_that_does_not_fit_the_report_is_left_out_and_said(
    link: CalibrationLink, expected: Conflict
) -> None:
    report = calibrated(switched_world(), {"link": lift(0.2)}, [link])

    assert kinds(report) == [expected]
    assert not report.tested.tests[0].used


def test_limits_of_a_metric_are_said() -> None:
    world = switched_world()
    world.buy(0, 4)

    report = calibrated(world, {"link": lift(0.2, events=replace(ORDERS, capped=True))})

    assert kinds(report) == [Conflict.CAPPED, Conflict.COUNTED_ONCE]
    assert report.tested.tests[0].used


def test_channels_without_a_test_are_pooled_or_left_alone() -> None:
    pooled = calibrated(switched_world(), {"link": lift(0.1)}).results[1].channels[1]
    alone = calibrated(switched_world(), {"link": lift(0.1)}, untested=Untested.UNCALIBRATED)
    none = calibrated(switched_world(), {}, [])

    assert pooled.kappa is not None
    assert pooled.kappa.basis is Basis.POOLED
    # Kappa of mail is 0.5 +- 0.05: search is expected halfway between that and 1.
    assert pooled.kappa.kappa.mean == pytest.approx(0.75, abs=0.01)
    for channel in (alone.results[1].channels[1], *none.results[1].channels):
        assert (channel.kappa, channel.value_kappa) == (None, None)
    for report in (alone, none):
        assert report.results[1].findings[-1].conflict is Conflict.NOT_TESTED


def test_values_have_kappas_of_their_own_where_they_were_measured() -> None:
    valued = replace(LINK, link_id="value")
    of_value = lift(1.0, 0.1, events=MeasuredEvents("buy", by_value=True))

    counted = calibrated(switched_world(), {"link": lift(0.2)}).results[1].channels[0]
    both = calibrated(switched_world(), {"link": lift(0.2), "value": of_value}, [LINK, valued])
    measured = both.results[1].channels[0]

    assert counted.value_kappa is not None
    assert counted.value_kappa.basis is Basis.OF_CONVERSIONS
    assert counted.value is not None
    assert counted.value.incremental.value == pytest.approx(200.0, rel=0.01)
    assert measured.value_kappa is not None
    assert measured.value_kappa.basis is Basis.TESTED
    # 1.0 more for each of 100 units, of a credit of 200.
    assert measured.value_kappa.kappa.pooled is not None
    assert measured.value_kappa.kappa.pooled.value == pytest.approx(0.5)
    assert measured.kappa is not None
    assert measured.kappa.kappa.mean == pytest.approx(1.0)
    assert measured.return_on_spend is not None
    assert isinstance(measured.return_on_spend.value, float)


def test_a_channel_that_caused_nothing_has_no_cost_for_what_it_caused() -> None:
    report = calibrated(switched_world(), {"link": lift(-0.1)})

    mail = report.results[1].channels[0].conversions
    assert mail is not None
    assert mail.incremental.value < 0
    assert mail.cost_per_incremental is Undefined.NOTHING_INCREMENTAL
    assert Conflict.HARMFUL in kinds(report)


def test_a_holdout_of_the_only_channel_leaves_no_touch() -> None:
    world = World({n: (SHOWN if n < 100 else HELD, 0.0) for n in range(200)})
    for unit in range(100):
        world.touch(unit, 1)
    for unit in (*range(40), *range(100, 120)):
        world.buy(unit, 3)

    report = calibrated(world, {"link": lift(0.2)})

    for result in report.results:
        (mail,) = result.channels
        assert mail.conversions is not None
        assert (mail.conversions.attributed.value, result.tests[0].credited_off) == (40.0, 0.0)
        assert mail.conversions.incremental.value == pytest.approx(20.0, rel=0.01)


@pytest.mark.parametrize(
    "model",
    [
        FirstTouch(),
        Linear(),
        TimeDecay(),
        Participation(),
        Markov(),
        Markov(order=2),
        *(Shapley(game) for game in (Game.SIMPLIFIED, Game.EXACT_SET_RATE, Game.SUBSET_RATE)),
        Probabilistic(),
        BaggedLogistic(),
        Fractribution(),
    ],
    ids=str,
)
def test_whatever_a_model_credits_the_tested_channel_caused_the_same(model: Model) -> None:
    # 40 of 100 units bought with mail and 20 without: it caused 20, whatever it is credited with.
    # Models that learn do so from everybody, in the report and beside the test.
    report = calibrated(switched_world(), {"link": lift(0.2, 0.001)}, models=(model,))

    for result in report.results:
        mail = result.channels[0].conversions
        assert mail is not None
        assert mail.incremental.value == pytest.approx(20.0, rel=0.01)


def test_the_order_of_links_and_of_rows_is_of_no_consequence() -> None:
    world = switched_world()
    other = replace(LINK, link_id="other")
    lifts = {"link": lift(0.2), "other": lift(0.1)}
    one = calibrated(world, lifts, [LINK, other])
    world.touches.reverse()
    world.conversions.reverse()
    two = calibrated(world, lifts, [other, LINK])

    assert [each.channels for each in one.results] == [each.channels for each in two.results]
    assert kinds(one)[0] is Conflict.OVERLAPPING_TESTS


def all_off_world() -> World:
    """As switched_world, but those held out have no touch of search either."""
    world = switched_world()
    world.touches = [each for each in world.touches if int(each.unit_id[1:]) < 100]
    return world


def test_channels_that_the_same_groups_switched_share_one_lift() -> None:
    links = [LINK, replace(LINK, link_id="search", channel="search")]
    lifts = {"link": lift(0.2), "search": lift(0.2)}

    report = calibrated(all_off_world(), lifts, links)

    linear = report.results[1]
    # 40 conversions, half to each; they caused 20 together, and not 20 each.
    caused = [each.conversions.incremental.value for each in linear.channels if each.conversions]
    assert len(caused) == 2
    assert sum(caused) == pytest.approx(20.0, abs=0.3)
    (together,) = linear.together
    assert together.incremental.value == pytest.approx(sum(caused))
    # Of the sum much more is known than of the parts.
    parts = [each.conversions.incremental.std_err for each in linear.channels if each.conversions]
    assert together.incremental.std_err == pytest.approx(1.0, rel=0.05)
    assert min(parts) > 3 * together.incremental.std_err
    assert [each.together for each in linear.tests] == [("mail", "search")] * 2
    assert kinds(report) == [Conflict.SWITCHED_TOGETHER]


def test_a_link_that_is_not_used_still_says_what_a_test_switched() -> None:
    other = replace(LINK, link_id="search", channel="search")

    alone = calibrated(all_off_world(), {"link": lift(0.2)})
    known = calibrated(all_off_world(), {"link": lift(0.2)}, known=[other])

    mail = (alone.results[1].channels[0].conversions, known.results[1].channels[0].conversions)
    assert mail[0] is not None
    assert mail[1] is not None
    # By itself mail would have caused all 20 of its 20; with search it is half of them.
    assert mail[0].incremental.value == pytest.approx(20.0, abs=0.2)
    assert mail[1].incremental.value == pytest.approx(10.0, abs=0.2)


def test_a_channel_that_took_the_place_of_another_is_left_out() -> None:
    turned = replace(LINK, link_id="search", channel="search", treatment_on=False)

    report = calibrated(switched_world(), {"link": lift(0.2)}, [LINK, turned])

    assert kinds(report) == [Conflict.SWITCHED_TOGETHER] * 2
    assert all(finding.left_out for finding in report.findings)
    assert not any(channel.conversions for channel in report.results[1].channels)


def test_a_channel_without_credit_leaves_the_lift_to_what_was_switched_with_it() -> None:
    links = [LINK, replace(LINK, link_id="search", channel="search")]
    lifts = {"link": lift(0.2), "search": lift(0.2)}

    last_touch = calibrated(all_off_world(), lifts, links).results[0]

    mail, search = last_touch.channels
    assert search.kappa is not None
    assert search.kappa.kappa.mean == pytest.approx(0.5, abs=0.01)
    assert mail.kappa is not None
    assert mail.kappa.basis is Basis.POOLED
    (finding,) = [
        each for each in last_touch.findings if each.conflict is Conflict.NOTHING_ATTRIBUTED
    ]
    assert "split among" in finding.message


def test_the_error_of_credit_and_what_it_shares_with_the_lift_are_counted() -> None:
    # Of 100 units 40 buy, each credited by a half: the credit is 20 +- sqrt(100 * .25 * .24), and
    # its covariance with the 40 is 100 * .5 * .24.
    test = calibrated(switched_world(), {"link": lift(0.2, 0.1)}).results[1].tests[0].test

    assert test.outcome.attributed.std_err == pytest.approx(np.sqrt(6.0))
    assert test.outcome.covariance == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("share", "contained", "expected"),
    # kappa 3, s_a^2 = 9, c = 8: 81 of the credit's own and 48 that it shares with the lift.
    [(0.0, False, 33.0), (1.0, False, 114.0), (1.0, True, 0.0), (0.25, True, 0.75 * 33.0)],
)
def test_how_much_of_the_error_of_credit_stays(
    share: float, contained: bool, expected: float
) -> None:
    assert credit_variance(3.0, 3.0, 8.0, Applied(share, contained)) == pytest.approx(expected)
    # Where the lift has the same error, an interval is not made narrower than that of the lift.
    assert credit_variance(0.1, 3.0, 8.0, Applied(share, contained)) == 0.0


def test_values_of_another_currency_are_left_out_and_said() -> None:
    valued = MeasuredEvents("buy", by_value=True, currency="EUR")

    report = calibrated(switched_world(), {"link": lift(2.0, events=valued)})

    assert kinds(report)[0] is Conflict.OTHER_CURRENCY
    assert report.findings[0].left_out
    assert "in EUR alone" in report.findings[0].message


def test_an_experiment_that_is_read_by_looks_widens_the_tested_kappa() -> None:
    once = calibrated(switched_world(), {"link": lift(0.2, 0.02)}).results[1]
    looks = calibrated(switched_world(), {"link": lift(0.2, 0.02, caution=2.0)})

    assert kinds(looks) == [Conflict.READ_AT_ONE_LOOK]
    tested = (once.tests[0].measured, looks.results[1].tests[0].measured)
    assert not isinstance(tested[0], Undefined)
    assert not isinstance(tested[1], Undefined)
    assert tested[0].low is not None
    assert tested[1].low is not None
    assert tested[1].low < tested[0].low
    # What is believed after the data does not depend on when one would have stopped.
    rows = (once.channels[0].conversions, looks.results[1].channels[0].conversions)
    assert rows[0] == rows[1]
    early = calibrated(switched_world(), {"link": lift(0.2, 0.02, caution=np.inf)})
    assert "has no ends yet" in early.findings[0].message
    first = early.results[1].tests[0].measured
    assert not isinstance(first, Undefined)
    assert (first.low, first.high) == (None, None)


def test_a_joint_test_is_told_as_it_is() -> None:
    links = [LINK, replace(LINK, link_id="search", channel="search")]
    report = calibrated(all_off_world(), {"link": lift(0.2), "search": lift(0.2)}, links)

    told = encode_result(report.results[1], ModelResult(model_name="linear"))

    (joint,) = told.joint
    assert list(joint.channels) == ["mail", "search"]
    assert list(joint.links) == ["projects/p/calibrationLinks/link"]
    assert (joint.incremental, joint.credited) == pytest.approx((20.0, 40.0))
    assert joint.kappa.value.value == pytest.approx(0.5)
    together = joint.report_incremental
    assert together.low.value < together.value.value < together.high.value
    assert [list(test.together) for test in told.tests] == [["mail", "search"]] * 2
    for channel in told.channels:
        assert channel.kappa.basis == calibration_pb2.KAPPA_BASIS_TESTED
        assert channel.kappa.tested == pytest.approx(0.5)
