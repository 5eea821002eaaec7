"""Planning against statsmodels, closed forms, published numbers and simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.power import NormalIndPower, TTestIndPower
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.detection import AtHorizon, AtLooks, PlannedTest, anytime
from touchstone_statistics.estimand import Estimate, Mean, Ratio, estimate
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side
from touchstone_statistics.moments import Moments
from touchstone_statistics.plan import (
    Design,
    Detectable,
    History,
    NotReachable,
    Obstacle,
    Running,
    Size,
    days_left,
    detectable,
    detectable_by_delta_method,
    power,
    running_time,
    sample_size,
    smallest_margin,
)
from touchstone_statistics.spending import Pocock

UNIT = History(mean=10.0, variance=1.0)


def size(history: History, difference: float, design: Design) -> Size:
    found = sample_size(history, difference, design)
    assert isinstance(found, Size)
    return found


@pytest.mark.parametrize("effect", [0.02, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    ("side", "alternative"), [(Side.TWO_SIDED, "two-sided"), (Side.GREATER, "larger")]
)
def test_sample_size_and_power_match_statsmodels(
    effect: float, side: Side, alternative: str
) -> None:
    design = Design(power=0.9, side=side)
    expected = TTestIndPower().solve_power(effect, alpha=0.05, power=0.9, alternative=alternative)
    found = size(UNIT, effect, design)
    assert found.units == (math.ceil(expected),) * 2
    n = found.units[0]
    reference = TTestIndPower().power(effect, n, 0.05, alternative=alternative)
    assert power(UNIT, effect, 2 * n, design) == pytest.approx(reference, rel=1e-9)


def test_a_million_units_are_no_numerical_trouble() -> None:
    for effect in (0.001, 0.002, 0.0028, 0.01):
        found = size(UNIT, effect, Design())
        expected = 2 * (special.ndtri(0.975) + special.ndtri(0.8)) ** 2 / effect**2
        assert found.units[0] == pytest.approx(expected, rel=1e-4)
        assert found.power == pytest.approx(0.8, abs=1e-9)


def test_the_textbook_number_sixteen() -> None:
    # Lehr (1992): 16 s^2 / d^2 units an arm for 80 % power at 5 %.
    assert size(UNIT, 0.1, Design()).units[0] * 0.1**2 == pytest.approx(15.7, abs=0.05)


@pytest.mark.parametrize("ratio", [0.25, 3.0])
def test_unequal_arms_match_statsmodels(ratio: float) -> None:
    expected = NormalIndPower().solve_power(0.05, alpha=0.01, power=0.8, ratio=ratio)
    found = size(UNIT, 0.05, Design((1.0, ratio), alpha=0.01))
    assert found.units[0] == pytest.approx(expected, rel=1e-3)
    assert found.units[1] == pytest.approx(ratio * expected, rel=1e-3)


def test_proportions_have_the_variance_of_the_rate_they_move_to() -> None:
    history = History.of_rate(0.10)
    z = special.ndtri(0.975) + special.ndtri(0.8)
    expected = z**2 * (0.10 * 0.90 + 0.12 * 0.88) / 0.02**2
    assert size(history, 0.02, Design()).units[0] == pytest.approx(expected, rel=1e-3)


def test_the_least_powered_of_many_treatments_decides() -> None:
    three = size(UNIT, 0.1, Design((2.0, 2.0, 1.0), comparisons=2))
    pair = size(UNIT, 0.1, Design((2.0, 1.0), alpha=0.025))
    assert three.units[0] == pytest.approx(pair.units[0], abs=1)
    assert three.units[2] == pytest.approx(pair.units[1], abs=1)
    assert three.units[1] == pytest.approx(three.units[0], abs=1)


def test_covariates_and_clusters_scale_the_variance() -> None:
    plain = size(UNIT, 0.01, Design()).total
    adjusted = size(replace(UNIT, r_squared=0.4), 0.01, Design()).total
    clustered = size(replace(UNIT, design_effect=1 + 9 * 0.05), 0.01, Design()).total
    assert adjusted / plain == pytest.approx(0.6, rel=1e-3)
    assert clustered / plain == pytest.approx(1.45, rel=1e-3)


def test_a_ratio_is_planned_by_its_delta_method_variance() -> None:
    rng = np.random.default_rng(1)
    sessions = rng.poisson(5, 5000) + 1.0
    rows = np.column_stack([sessions * rng.normal(3, 1, 5000), sessions])
    arm = estimate(Moments.from_rows(rows), Ratio(0, 1))
    history = History.of_estimate(arm)
    value = rows[:, 0].mean() / rows[:, 1].mean()
    residual = (rows[:, 0] - value * rows[:, 1]) / rows[:, 1].mean()
    assert history.variance == pytest.approx(residual.var(ddof=1))
    found = detectable(history, 10_000, Design())
    assert isinstance(found, Detectable)
    z = special.ndtri(0.975) + special.ndtri(0.8)
    assert found.difference == pytest.approx(z * np.sqrt(2 * history.variance / 5000), rel=1e-3)
    assert found.lift == pytest.approx(found.difference / value)


def test_an_estimate_without_variance_cannot_be_planned_with() -> None:
    arm = estimate(Moments.from_rows([[1.0]]), Mean(0))
    with pytest.raises(ValueError, match="ONE_UNIT"):
        History.of_estimate(arm)


def test_non_inferiority_is_the_exact_linear_contrast() -> None:
    # mT - 0.98 mC with equal arms: shift 0.02 m, variance s^2 (1 + 0.98^2) / n.
    design = Design(side=Side.GREATER, null_lift=-0.02)
    z = special.ndtri(0.95) + special.ndtri(0.8)
    expected = z**2 * (1 + 0.98**2) / (0.02 * 10) ** 2
    found = size(UNIT, 0.0, design)
    assert found.units[0] == pytest.approx(expected, rel=5e-3)
    margin = smallest_margin(UNIT, found.total, Design(side=Side.GREATER))
    assert margin == pytest.approx(0.02, rel=2e-3)
    harmful = sample_size(UNIT, -0.2, design)
    assert harmful == NotReachable(Obstacle.NO_EFFECT)


def test_a_margin_means_the_same_for_a_metric_below_zero() -> None:
    below = replace(UNIT, mean=-10.0)
    design = Design(side=Side.GREATER, null_lift=-0.02)
    # mT - 1.02 mC: the null is two per cent further below zero.
    z = special.ndtri(0.95) + special.ndtri(0.8)
    expected = z**2 * (1 + 1.02**2) / 0.2**2
    assert size(below, 0.0, design).units[0] == pytest.approx(expected, abs=2.5)


def test_the_margin_of_a_metric_that_should_fall() -> None:
    down = Design(side=Side.LESS)
    margin = smallest_margin(UNIT, 20_000, down)
    assert isinstance(margin, float)
    planned = replace(down, null_lift=margin)
    assert power(UNIT, 0.0, 20_000, planned) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="a margin has one"):
        smallest_margin(UNIT, 20_000, Design())


@settings(max_examples=60, deadline=None)
@given(
    st.floats(10, 1e9),
    st.sampled_from([(1.0, 1.0), (9.0, 1.0), (1.0, 2.0, 3.0)]),
    st.sampled_from(list(Side)),
    st.booleans(),
)
def test_what_is_detectable_needs_just_these_units(
    total: float, weights: tuple[float, ...], side: Side, binary: bool
) -> None:
    history = History.of_rate(0.3) if binary else History(-4.0, 7.0)
    design = Design(weights, power=0.9, side=side)
    found = detectable(history, total, design)
    if isinstance(found, NotReachable):
        assert found.obstacle is Obstacle.TOO_FEW_UNITS
        assert total < 200
        return
    assert (found.difference < 0) == (side is Side.LESS)
    assert power(history, found.difference, total, design) == pytest.approx(0.9, abs=1e-6)
    needed = sample_size(history, found.difference, design)
    assert isinstance(needed, Size)
    assert needed.total <= total * 1.001 + 2 * len(weights)


def test_power_is_what_simulation_finds() -> None:
    # 20,000 skewed experiments with unequal arms; Monte Carlo standard error 0.35 points.
    rng = np.random.default_rng(2)
    history, design = History.of_rate(0.05), Design((3.0, 1.0))
    arms = []
    for units, rate in ((12_000, 0.05), (4000, 0.06)):
        share = rng.binomial(units, rate, 20_000) / units
        arms.append(
            estimate(
                Moments.of(
                    np.full(20_000, units),
                    share[:, None],
                    (units * share * (1 - share))[:, None, None],
                ),
                Mean(0),
            )
        )
    rejected = Fixed().read(Contrast(arms[0], arms[1])).p_value < 0.05
    assert rejected.mean() == pytest.approx(power(history, 0.01, 16_000, design), abs=0.012)


def test_one_look_is_the_normal_test_and_more_looks_cost_little() -> None:
    one = AtLooks(1).power(2.8, PlannedTest(0.05, Side.TWO_SIDED, math.inf, 1000))
    assert one == pytest.approx(
        float(special.ndtr(2.8 - 1.959964) + special.ndtr(-2.8 - 1.959964)), abs=1e-6
    )
    null = AtLooks(14, Pocock()).power(0.0, PlannedTest(0.05, Side.TWO_SIDED, math.inf, 1000))
    assert null == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("side", Side)
def test_a_larger_effect_is_never_found_less_often(side: Side) -> None:
    test = PlannedTest(0.05, side, math.inf, 1000)
    powers = [AtLooks(28).power(float(z), test) for z in np.linspace(0.0, 120.0, 241)]
    assert np.diff(powers).min() > -1e-9
    assert max(powers) < 1.0 + 1e-9
    assert size(UNIT, 1.0, Design(rule=AtLooks(28))).total < 100


def test_group_sequential_inflation_is_that_of_jennison_and_turnbull() -> None:
    # Jennison and Turnbull (2000), chapter 2, give 1.017 for O'Brien and Fleming's own
    # boundary, 3 looks and 80 % power; that of Lan and DeMets comes within half a per cent.
    fixed = size(UNIT, 0.01, Design()).total
    looks = size(UNIT, 0.01, Design(rule=AtLooks(3))).total
    assert looks / fixed == pytest.approx(1.017, abs=0.005)
    daily = size(UNIT, 0.01, Design(rule=AtLooks(28))).total
    assert 1.0 < looks / fixed < daily / fixed < 1.06
    pocock = size(UNIT, 0.01, Design(rule=AtLooks(28, Pocock()))).total
    assert pocock / fixed > 1.2


def test_a_boundary_valid_at_any_time_needs_more_units() -> None:
    design = Design(rule=anytime())
    ratio = size(UNIT, 0.01, design).total / size(UNIT, 0.01, Design()).total
    z = special.ndtri(0.8)
    assert ratio == pytest.approx(((3.0352 + z) / (1.959964 + z)) ** 2, rel=1e-3)
    elsewhere = size(UNIT, 0.01, Design(rule=anytime(tuned_for=1000))).total
    assert elsewhere > 1.05 * size(UNIT, 0.01, design).total


def test_the_lift_of_a_delta_method_interval_solves_its_own_equation() -> None:
    history, design = History(2.0, 9.0), Design((2.0, 1.0))
    lift = detectable_by_delta_method(history, 3000, design)
    assert isinstance(lift, float)
    k = special.ndtri(0.975) + special.ndtri(0.8)
    std_err = np.sqrt(9 / 4 * (1 / 1000 + (1 + lift) ** 2 / 2000))
    assert lift == pytest.approx(k * std_err)
    found = detectable(history, 3000, design)
    assert isinstance(found, Detectable)
    assert found.lift is not None
    assert lift > found.lift
    # It exists if and only if the control has more than k^2 s^2 / u^2 units.
    edge = k**2 * 9 / 4 * 1.5
    assert isinstance(detectable_by_delta_method(history, edge * 1.01, design), float)
    vague = detectable_by_delta_method(history, edge * 0.99, design)
    assert vague == NotReachable(Obstacle.CONTROL_TOO_VAGUE)


def test_days_follow_the_curve_of_new_units() -> None:
    needed = size(UNIT, 0.1, Design()).total
    history = replace(UNIT, units_per_day=(1000.0, 500.0, 100.0))
    running = running_time(history, 0.1, Design())
    assert running == Running(2 + math.ceil((needed - 1500) / 100), needed)
    assert running_time(replace(history, units_per_day=(4000.0, 0.0)), 0.1, Design()) == Running(
        1, needed
    )
    assert days_left(history, 0.1, Design(), needed - 10) == Running(1, needed)
    assert days_left(history, 0.1, Design(), needed + 5) == Running(0, needed)


def test_days_left_depend_on_the_variance_and_not_on_the_effect() -> None:
    design = Design()
    calm = replace(UNIT, units_per_day=(200.0,))
    noisy = replace(calm, variance=2.0)
    assert days_left(noisy, 0.1, design, 1000) != days_left(calm, 0.1, design, 1000)
    moved = replace(calm, mean=99.0)
    assert days_left(moved, 0.1, design, 1000) == days_left(calm, 0.1, design, 1000)


@pytest.mark.parametrize(
    ("history", "difference", "obstacle"),
    [
        (UNIT, 0.0, Obstacle.NO_EFFECT),
        (History(1.0, 0.0), 0.1, Obstacle.NO_VARIANCE),
        (History.of_rate(0.9), 0.2, Obstacle.NO_LEVEL),
        (UNIT, 0.1, Obstacle.NO_TRAFFIC),
        (replace(UNIT, units_per_day=(5.0, 0.0)), 0.1, Obstacle.NO_TRAFFIC),
        (replace(UNIT, units_per_day=(1e-9,)), 0.1, Obstacle.NO_TRAFFIC),
    ],
)
def test_what_cannot_be_reached_says_why(
    history: History, difference: float, obstacle: Obstacle
) -> None:
    assert running_time(history, difference, Design()) == NotReachable(obstacle)


def test_too_few_units_detect_nothing() -> None:
    assert detectable(UNIT, 3, Design()) == NotReachable(Obstacle.TOO_FEW_UNITS)
    assert detectable(History.of_rate(0.5), 8, Design()) == NotReachable(Obstacle.TOO_FEW_UNITS)
    assert detectable(History(3.0, 0.0), 8, Design()) == NotReachable(Obstacle.NO_VARIANCE)
    assert smallest_margin(History(0.0, 1.0), 8, Design(side=Side.GREATER)) == NotReachable(
        Obstacle.CONTROL_TOO_VAGUE
    )


def test_a_rate_of_zero_can_be_planned_with() -> None:
    found = size(History.of_rate(0.0), 0.001, Design())
    assert 0.8 <= found.power < 0.81


@pytest.mark.parametrize(
    "make",
    [
        lambda: Design(weights=(1.0,)),
        lambda: Design(weights=(1.0, 0.0)),
        lambda: Design(alpha=0.6),
        lambda: Design(power=0.05),
        lambda: Design(comparisons=0),
        lambda: Design(null_lift=-1.0),
        lambda: History(math.nan, 1.0),
        lambda: History(1.0, -1.0),
        lambda: History(1.0, 1.0, r_squared=1.0),
        lambda: History(1.5, 1.0, binary=True),
        lambda: History(1.0, 1.0, (-1.0,)),
        lambda: AtLooks(0),
    ],
)
def test_senseless_plans_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"must|may|from"):
        make()  # type: ignore[operator]


def test_the_far_tail_of_the_noncentral_t_is_nothing_and_not_missing() -> None:
    for dof in (2.0, 30.0, 1e4, 9.9e4, 1e7):
        for alpha in (0.05, 1e-6):
            test = PlannedTest(alpha, Side.TWO_SIDED, dof, 100)
            levels = [AtHorizon().power(z, test) for z in np.linspace(0.0, 40.0, 81)]
            assert np.isfinite(levels).all()
            assert levels[0] == pytest.approx(alpha, rel=1e-4)
            assert (np.diff(levels) >= -1e-9).all()
    reference = stats.nct.sf(2.0, 10, 1.0)
    one_sided = PlannedTest(float(stats.t.sf(2.0, 10)), Side.GREATER, 10.0, 12)
    assert AtHorizon().power(1.0, one_sided) == pytest.approx(reference, rel=1e-9)


def test_huge_effects_are_found_by_the_fewest_units() -> None:
    for variance in (1e-12, 1e-30, 1e-300):
        assert size(History(10.0, variance), 5.0, Design()).units == (2, 2)
    few = PlannedTest(0.05, Side.GREATER, 2.0, 4)
    # Where the two formulas meet they agree, and the power never falls.
    near, far = (AtHorizon().power(z, few) for z in (9999.0, 10_001.0))
    assert far == pytest.approx(near, rel=1e-6)
    assert AtHorizon().power(1e300, few) == 1.0
    rare = PlannedTest(1e-12, Side.GREATER, 2.0, 4)
    assert AtHorizon().power(9999.0, rare) == pytest.approx(
        AtHorizon().power(10_001.0, rare), rel=1e-3
    )


def test_an_effect_too_small_for_any_number_of_units_says_so() -> None:
    assert sample_size(UNIT, 1e-12, Design()) == NotReachable(Obstacle.NO_EFFECT)


def test_estimates_of_an_adjusted_arm_carry_their_gain() -> None:
    none = np.zeros((), dtype=np.uint8)
    arm = Estimate(np.asarray(5.0), np.asarray(0.002), np.asarray(1000.0), none, none)
    assert History.of_estimate(arm).variance == pytest.approx(2.0)
