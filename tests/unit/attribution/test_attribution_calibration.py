"""Kappa by hand, by simulation with a known truth, and the conflicts that it may hide."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from services.attribution.domain.calibration import Prior, calibrate, incremental
from services.attribution.domain.conflicts import (
    Conflict,
    joint_findings,
    kappa_findings,
    lift_test_findings,
    sum_findings,
)
from services.attribution.domain.economics import Undefined
from services.attribution.domain.joint import JointTest
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lift import Cell, Estimate, LiftTest, Outcome, Target, measure
from services.attribution.domain.pooling import SPREAD_STD_DEV
from shared.errors import DomainError
from tests.unit.attribution.channel_simulator import (
    CHANNELS,
    Population,
    attributed,
    journeys_of,
    lift_tests,
    simulate,
)

MARCH = Cell(0, 30 * DAY_US, 1000)
APRIL = Cell(30 * DAY_US, 60 * DAY_US, 1000)
SEARCH = Target("search")


def lift_test(
    kappa: float,
    std_err: float,
    experiment: str = "e1",
    target: Target = SEARCH,
    cell: Cell = MARCH,
) -> LiftTest:
    """A test with 100 attributed conversions among 1,000 exposed units."""
    difference = Estimate(kappa * 0.1, std_err * 0.1)
    return LiftTest(experiment, target, cell, cell, Outcome(difference, Estimate(100.0, 0.0)))


def found(conflicts: tuple[object, ...]) -> list[Conflict]:
    return [finding.conflict for finding in conflicts]  # type: ignore[attr-defined]


def test_kappa_by_hand() -> None:
    # 0.03 more conversions for each of 1,000 shown units, of 100 attributed: kappa 0.3 +- 0.1.
    measured = measure(lift_test(0.3, 0.1))
    kappa = calibrate([lift_test(0.3, 0.1)], prior=Prior(0.5)).kappas[0]

    assert not isinstance(measured, Undefined)
    assert (measured.kappa.value, measured.kappa.std_err) == pytest.approx((0.3, 0.1))
    assert (measured.low, measured.high) == pytest.approx((0.3 - 0.1959964, 0.3 + 0.1959964))
    # (0.3/0.01 + 1/0.25) / (1/0.01 + 1/0.25) = 34/104, and sd = 1/sqrt(104).
    assert (kappa.mean, kappa.std_dev) == pytest.approx((34 / 104, 1 / math.sqrt(104)))
    assert kappa.weight == pytest.approx(100 / 104)


def test_uncertain_credit_widens_kappa_and_may_leave_it_without_bound() -> None:
    sure = lift_test(0.5, 0.1)
    outcome = replace(sure.outcome, attributed=Estimate(100.0, 20.0))
    vague = measure(replace(sure, outcome=outcome))
    lost = measure(replace(sure, outcome=replace(outcome, attributed=Estimate(100.0, 90.0))))

    assert not isinstance(vague, Undefined)
    assert not isinstance(lost, Undefined)
    assert vague.kappa.std_err == pytest.approx(math.hypot(0.1, 0.5 * 0.2))
    assert (lost.low, lost.high) == (None, None)


def test_an_untested_channel_has_the_prior_and_a_wide_interval() -> None:
    known = calibrate([lift_test(0.3, 0.05)], [Target("mail")])
    mail = known.of(Target("mail"))

    assert (mail.mean, mail.pooled, mail.weight) == (1.0, None, 0.0)
    assert mail.high - mail.low > 4 * (known.of(SEARCH).high - known.of(SEARCH).low)
    assert found(kappa_findings(known)) == [Conflict.NOT_TESTED]


def test_what_tests_of_others_lead_to_expect_is_shrunk_and_keeps_the_spread_between_channels() -> (
    None
):
    tau = 0.5
    one = calibrate([lift_test(0.3, 0.1)], prior=Prior(tau)).expected(Target("mail"))
    tests = [lift_test(0.3, 0.1, f"e{n}", Target(f"c{n}")) for n in range(50)]
    many = calibrate(tests, prior=Prior(tau)).expected(Target("mail"))

    assert one is not None
    assert many is not None
    # Precisions 1/(0.1^2 + 0.5^2) of the test and 1/0.5^2 of the prior.
    tested, prior = 1 / 0.26, 1 / 0.25
    assert one.mean == pytest.approx((tested * 0.3 + prior) / (tested + prior))
    assert one.std_dev == pytest.approx(math.sqrt(1 / (tested + prior) + tau**2))
    assert one.pooled is None
    assert one.weight == pytest.approx(tested / (tested + prior))
    assert many.mean == pytest.approx(0.3, abs=0.02)
    assert many.std_dev > tau
    assert calibrate([]).expected(Target("mail")) is None


def test_the_interval_of_an_untested_channel_holds_what_it_says() -> None:
    # Kappas around a common mean that is itself around 1, three of them tested, of a fourth.
    tau, std_err = 0.5, 0.2
    random = np.random.default_rng(5)
    hits = []
    for _ in range(1500):
        kappas = 1.0 + tau * random.standard_normal() + tau * random.standard_normal(4)
        seen = kappas[:3] + std_err * random.standard_normal(3)
        tests = [
            lift_test(float(kappa), std_err, f"e{n}", Target(f"c{n}"))
            for n, kappa in enumerate(seen)
        ]
        expected = calibrate(tests, prior=Prior(tau)).expected(Target("mail"))
        assert expected is not None
        hits.append(expected.low <= kappas[3] <= expected.high)

    assert 0.935 <= np.mean(hits) <= 0.965


def test_a_campaign_without_a_test_is_like_its_channel_but_less_certain() -> None:
    known = calibrate(
        [lift_test(0.3, 0.05), lift_test(0.9, 0.05, "e2", Target("search", "spring"))]
    )

    assert known.of(Target("search", "spring")).mean > 0.8
    other, whole = known.of(Target("search", "autumn")), known.of(SEARCH)
    assert other.mean == whole.mean
    assert other.std_dev == pytest.approx(math.hypot(whole.std_dev, known.prior.std_dev))


def integrated(values: list[float], std_err: float) -> tuple[float, float]:
    """The variance of the mean kappa, and of kappas around it, with the spread integrated over."""
    mean, half = float(np.mean(values)), len(values) / 2

    def moments(spread: float) -> tuple[float, float, float]:
        variance = std_err**2 + spread**2
        scatter = sum((value - mean) ** 2 for value in values) / variance
        prior = math.exp(-0.5 * (spread / SPREAD_STD_DEV) ** 2)
        density = prior * variance ** (0.5 - half) * math.exp(-0.5 * scatter)
        return density, density * variance / len(values), density * spread**2

    parts = [integrate.quad(lambda g, n=n: moments(g)[n], 0, 3)[0] for n in range(3)]
    return parts[1] / parts[0], parts[2] / parts[0]


@pytest.mark.parametrize("kappas", [[0.4, 0.4], [0.1, 0.9], [0.1, 0.9, 0.5]])
def test_tests_of_one_channel_are_pooled_with_the_spread_between_them(kappas: list[float]) -> None:
    months = [Cell(n * 30 * DAY_US, (n + 1) * 30 * DAY_US, 1000) for n in range(3)]
    pairs = zip(kappas, months, strict=False)
    tests = [lift_test(kappa, 0.1, f"e{n}", cell=cell) for n, (kappa, cell) in enumerate(pairs)]

    known = calibrate(tests, prior=Prior(5.0))
    kappa = known.kappas[0]

    of_mean, apart = integrated(kappas, 0.1)
    assert kappa.pooled is not None
    assert kappa.pooled.value == pytest.approx(np.mean(kappas))
    assert kappa.pooled.std_err == pytest.approx(math.sqrt(of_mean), rel=1e-3)
    assert kappa.spread == pytest.approx(math.sqrt(apart), rel=1e-3)
    assert kappa.std_dev == pytest.approx(math.sqrt(of_mean + apart), rel=0.01)
    disagree = [] if kappas == [0.4, 0.4] else [Conflict.TESTS_DISAGREE]
    assert found(kappa_findings(known)) == disagree


def test_overlapping_tests_of_one_channel_do_not_sharpen_each_other() -> None:
    twice = [lift_test(0.4, 0.1), lift_test(0.4, 0.1, "e2")]

    pooled = calibrate(twice).kappas[0].pooled

    assert pooled is not None
    assert pooled.std_err == pytest.approx(0.1)
    assert found(lift_test_findings(twice, MARCH)) == [Conflict.OVERLAPPING_TESTS]


def test_the_prior_is_learned_from_five_tested_channels_on() -> None:
    kappas = [0.2, 0.3, 0.1, 0.4, 0.25]
    tests = [lift_test(k, 0.05, f"e{i}", Target(f"c{i}")) for i, k in enumerate(kappas)]

    few, enough = calibrate(tests[:4]).prior, calibrate(tests).prior

    assert (few.tested, few.std_dev) == (0, 0.5)
    assert enough.tested == 5
    # They lie about 0.75 below 1, and so does what is to be expected of a sixth.
    assert enough.std_dev == pytest.approx(math.sqrt(np.mean((1 - np.array(kappas)) ** 2)), 0.05)
    assert enough.moment_std_dev == pytest.approx(enough.std_dev, rel=0.05)


def test_the_order_of_tests_is_of_no_consequence() -> None:
    tests = [lift_test(0.2, 0.1), lift_test(0.7, 0.2, "e2", cell=APRIL), lift_test(0.5, 0.1, "e3")]

    assert len({str(calibrate(order).kappas) for order in permutations(tests)}) == 1


@given(st.floats(-2, 4), st.floats(0.01, 5), st.floats(0.05, 3))
def test_shrinkage_lies_between_the_test_and_one(kappa: float, std_err: float, tau: float) -> None:
    believed = calibrate([lift_test(kappa, std_err)], prior=Prior(tau)).kappas[0]

    assert min(kappa, 1) - 1e-9 <= believed.mean <= max(kappa, 1) + 1e-9
    assert believed.std_dev <= min(std_err, tau) + 1e-9


def test_cost_per_incremental_conversion_says_when_it_has_no_bound() -> None:
    known = calibrate([lift_test(0.5, 0.1)], prior=Prior(100.0))
    sure = incremental(SEARCH, Estimate(200.0, 0.0), 1000.0, known)
    vague = incremental(
        SEARCH, Estimate(200.0, 0.0), 1000.0, calibrate([lift_test(0.1, 0.2)], prior=Prior(100.0))
    )
    free = incremental(SEARCH, Estimate(200.0, 0.0), 0.0, known)

    assert sure.incremental.value == pytest.approx(100, rel=1e-3)
    assert sure.cost_per_incremental == pytest.approx(10, rel=1e-3)
    assert isinstance(sure.cost_low, float)
    assert isinstance(sure.cost_high, float)
    assert sure.cost_low < 10 < sure.cost_high
    assert vague.cost_high is Undefined.NOTHING_INCREMENTAL
    assert free.cost_per_incremental is Undefined.ZERO_COST


def test_windows_and_units_that_do_not_fit_are_said() -> None:
    good = lift_test(0.5, 0.1)
    apart = replace(good, credited=APRIL)
    half = replace(good, credited=Cell(0, 15 * DAY_US, 1000))
    fewer = replace(good, credited=replace(MARCH, units=500))
    none = replace(good, outcome=replace(good.outcome, attributed=Estimate(0.0, 0.0)))

    assert lift_test_findings([good], MARCH) == ()
    assert found(lift_test_findings([apart], MARCH)) == [Conflict.NO_SHARED_WINDOW]
    assert measure(apart) is Undefined.NOT_OBSERVED
    assert calibrate([apart]).kappas[0].pooled is None
    assert found(lift_test_findings([half], MARCH)) == [Conflict.PARTLY_SHARED_WINDOW]
    assert found(lift_test_findings([fewer], MARCH)) == [Conflict.DIFFERENT_UNITS]
    assert found(lift_test_findings([none], MARCH)) == [Conflict.NOTHING_ATTRIBUTED]
    assert measure(none) is Undefined.ZERO_DENOMINATOR
    assert found(lift_test_findings([good], APRIL)) == [Conflict.OUTSIDE_REPORT]
    other = lift_test(0.5, 0.1, "e2", Target("mail"))
    assert found(lift_test_findings([good, other], MARCH)) == [Conflict.CONCURRENT_TESTS]


def test_kappas_that_say_little_or_harm_are_said() -> None:
    assert found(kappa_findings(calibrate([lift_test(0.5, 2.0)]))) == [Conflict.MOSTLY_PRIOR]
    assert found(kappa_findings(calibrate([lift_test(-2.0, 0.1)]))) == [Conflict.HARMFUL]


def joint_test(kappa: float, std_err: float, *targets: Target) -> JointTest:
    """A test of all targets at once, each with 100 attributed conversions of 1,000 units."""
    whole = lift_test(kappa, std_err, "all-off", targets[0])
    attributed = Estimate(100.0 * len(targets), 0.0)
    outcome = replace(whole.outcome, attributed=attributed)
    outcome = replace(outcome, difference=outcome.difference.times(len(targets)))
    test = replace(whole, outcome=outcome)
    return JointTest(test, tuple((target, 100.0) for target in targets))


def test_a_lift_of_several_channels_is_split_and_not_counted_for_each() -> None:
    channels = (SEARCH, Target("mail"), Target("display"))
    known = calibrate([], prior=Prior(0.5), joint=[joint_test(0.4, 0.05, *channels)])

    # The prior of the mean of three: .25 * (1/2 + 1/2 * 1/3), the weight of the test .9852.
    of_mean = 0.25 * (0.5 + 0.5 / 3)
    weight = of_mean / (of_mean + 0.05**2)
    assert [kappa.mean for kappa in known.kappas] == pytest.approx([1 - 0.6 * weight] * 3)
    assert known.believed is not None
    whole = known.believed.total([100.0] * 3)
    assert whole.value == pytest.approx(300 * (1 - 0.6 * weight))
    assert whole.std_err == pytest.approx(300 * math.sqrt(weight) * 0.05)
    # Of each alone much less is known: half of the variance is not in common, a third of it is.
    for kappa in known.kappas:
        assert kappa.std_dev**2 == pytest.approx(weight * 0.05**2 + 0.25 * 0.5 * 2 / 3)
        assert kappa.pooled is None
        assert kappa.together is not None
        assert (kappa.together.value, kappa.together.std_err) == pytest.approx((0.4, 0.05))
    expected = known.expected(Target("radio"))
    single = calibrate([lift_test(0.4, 0.05)], prior=Prior(0.5)).expected(Target("radio"))
    assert expected is not None
    assert single is not None
    # A mean of three channels says more of another one than a single channel does.
    assert 0.4 < expected.mean < single.mean


def test_a_test_of_one_channel_tells_the_others_of_a_joint_one_apart() -> None:
    mail = Target("mail")
    together = joint_test(0.5, 0.02, SEARCH, mail)
    alone = calibrate([], prior=Prior(0.5), joint=[together])
    both = calibrate([lift_test(0.9, 0.02)], prior=Prior(0.5), joint=[together])

    assert alone.of(mail).mean == pytest.approx(0.5, abs=0.01)
    assert both.of(SEARCH).mean == pytest.approx(0.9, abs=0.01)
    assert both.of(mail).mean == pytest.approx(0.1, abs=0.02)
    assert both.of(mail).std_dev < 0.1 < alone.of(mail).std_dev
    assert found(joint_findings(both)) == []


def test_parts_above_a_measured_whole_are_said() -> None:
    mail = Target("mail")
    tests = [lift_test(0.8, 0.05), lift_test(0.9, 0.05, "e2", mail)]
    rows = [incremental(t, Estimate(100.0, 0.0), 1.0, calibrate(tests)) for t in (SEARCH, mail)]

    def said(kappa: float) -> list[Conflict]:
        return found(
            joint_findings(calibrate(tests, joint=[joint_test(kappa, 0.05, SEARCH, mail)]))
        )

    assert said(0.5) == [Conflict.SUM_ABOVE_LIFT]
    assert said(0.8) == []
    assert said(1.2) == [Conflict.TESTS_DISAGREE]
    assert found(sum_findings(rows, 100.0)) == [Conflict.ABOVE_ALL_CONVERSIONS]
    assert sum_findings(rows, 1000.0) == ()


def test_an_experiment_counts_once_for_a_target() -> None:
    with pytest.raises(DomainError, match="one test of a target"):
        calibrate([lift_test(0.5, 0.1), lift_test(0.4, 0.1)])


@pytest.mark.parametrize("std_err", [-1.0, math.nan, math.inf])
def test_a_standard_error_that_cannot_be_is_refused(std_err: float) -> None:
    with pytest.raises(DomainError, match="std_err"):
        Estimate(1.0, std_err)


def rows_of(
    population: Population, credited: np.ndarray, prior: Prior
) -> list[tuple[float, float, float]]:
    """Low end, estimate and high end of the conversions that each channel caused."""
    known = calibrate(lift_tests(population, credited), prior=prior, alpha=0.05)
    found_rows = (
        incremental(Target(name), Estimate(count, 0.0), 1.0, known)
        for name, count in zip(CHANNELS, credited.tolist(), strict=True)
    )
    return [(row.low, row.incremental.value, row.high) for row in found_rows]


def test_calibrated_credit_recovers_what_channels_caused_and_credit_alone_does_not() -> None:
    unshrunken: list[bool] = []
    covered: dict[str, list[bool]] = {}
    credit_near: dict[str, list[bool]] = {}
    error: dict[str, list[tuple[float, float]]] = {}
    for seed in range(50):
        population = simulate(30_000, seed)
        for model, credited in attributed(journeys_of(population)).items():
            flat = rows_of(population, credited, Prior(10.0))
            bounds = zip(flat, population.caused.tolist(), strict=True)
            unshrunken += [low <= truth <= high for (low, _, high), truth in bounds]
            for channel, (low, value, high) in enumerate(rows_of(population, credited, Prior())):
                truth = float(population.caused[channel])
                covered.setdefault(model, []).append(low <= truth <= high)
                # A credit is a count: three of its standard deviations are generous.
                near = abs(credited[channel] - truth) <= 3 * math.sqrt(credited[channel])
                credit_near.setdefault(f"{model} {CHANNELS[channel]}", []).append(near)
                error.setdefault(model, []).append((value - truth, credited[channel] - truth))

    # Intervals of 95 %, 150 for each model. Without a prior they hold what they say; the pull of
    # the prior toward 1 costs those of a kappa near 0 (retargeting) a little.
    assert 0.92 <= np.mean(unshrunken) <= 0.98
    for model, hits in covered.items():
        assert np.mean(hits) >= 0.88
        assert np.mean(credit_near[f"{model} retargeting"]) == 0
        calibrated, alone = np.sqrt(np.mean(np.square(error[model]), axis=0))
        assert calibrated < alone / 3
