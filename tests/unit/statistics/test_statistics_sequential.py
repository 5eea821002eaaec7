"""Inference under a group-sequential plan: published values, simulation and its promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from touchstone_statistics.boundaries import Futility, Ledger, Plan, advance
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.curve import boundary_curve
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Shape, Side
from touchstone_statistics.looks import before, running
from touchstone_statistics.operating import drift_for_power, operating, planned
from touchstone_statistics.sequential import GroupSequential
from touchstone_statistics.spending import HwangShihDeCani, OBrienFleming, Pocock, Power, Spending
from touchstone_statistics.stagewise import stagewise

SPENDINGS = [OBrienFleming(), Pocock(), Power(2.0), HwangShihDeCani(-4.0)]


def scored(z: object, units: float = 1e9, control: float = 10.0) -> Contrast:
    """A contrast whose difference is `z` standard errors of one."""
    z = np.asarray(z, dtype=float)
    none = np.zeros(z.shape, dtype=np.uint8)
    half, size = np.full(z.shape, 0.5), np.full(z.shape, units)
    flat = Estimate(np.full(z.shape, control), half, size, none, none)
    return Contrast(flat, Estimate(control + z, half, size, none, none))


def test_the_interval_reaches_the_critical_value_of_the_look() -> None:
    plan = Plan(5.0)
    ledger = planned(plan, np.array([0.2, 0.4, 0.6, 0.8, 1.0]))
    reading = GroupSequential(plan, Ledger(ledger.looks[:3])).read(scored([0.0, 2.9]))
    assert reading.critical == pytest.approx([2.680, 2.680], abs=0.0006)
    assert reading.difference.low == pytest.approx([-2.680, 2.9 - 2.680], abs=0.0006)
    assert list(reading.difference.excludes(0.0)) == [False, True]
    assert list(reading.p_value < 0.05) == [False, True]


def test_a_single_look_at_the_end_is_welch_at_the_same_level() -> None:
    plan = Plan(40.0)
    contrast = scored(np.linspace(-4, 4, 33), units=20.0)
    reading = GroupSequential(plan, planned(plan, np.array([1.0]))).read(contrast)
    fixed = Fixed().read(contrast)
    assert fixed.critical is not None
    assert reading.critical == pytest.approx(np.broadcast_to(fixed.critical, (33,)), rel=1e-10)
    assert reading.difference.low == pytest.approx(fixed.difference.low, rel=1e-9)
    assert reading.lift.high == pytest.approx(fixed.lift.high, rel=1e-9)
    assert reading.p_value[:14] == pytest.approx(fixed.p_value[:14], rel=1e-5)


@pytest.mark.parametrize("side", [Side.TWO_SIDED, Side.GREATER])
@pytest.mark.parametrize("spending", SPENDINGS)
def test_p_is_the_level_of_the_boundary_that_would_just_reject(
    spending: Spending, side: Side
) -> None:
    fractions = np.array([0.3, 0.5, 0.9])
    curve = GroupSequential(
        Plan(1.0, 0.05, side, spending), planned(Plan(1.0, 0.05, side, spending), fractions)
    )
    for level in (0.3, 0.01, 1e-4):
        other = Plan(1.0, level, side, spending)
        critical = planned(other, fractions).looks[-1].critical
        assert critical is not None
        reading = curve.read(scored(critical))
        assert float(reading.p_value) == pytest.approx(level, rel=1e-3)
        corrected = GroupSequential(curve.plan, curve.ledger, np.array(level))
        assert corrected.read(scored(0.0)).critical == pytest.approx(critical, rel=1e-4)


LEDGERS = [
    (plan, planned(plan, np.array(fractions)))
    for side in Side
    for plan in (Plan(1e4, 0.05, side), Plan(1e4, 0.01, side, Pocock()))
    for fractions in ((0.01,), (0.3, 0.6), (0.2, 0.21, 0.8, 1.0))
]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(LEDGERS),
    st.floats(-8, 8),
    st.integers(3, 10**7),
    st.floats(-20, 20).filter(lambda mean: mean == 0 or abs(mean) > 1e-3),
    st.floats(1e-4, 0.5),
    st.booleans(),
)
def test_intervals_exclude_zero_exactly_when_p_is_below_alpha(
    case: tuple[Plan, Ledger], z: float, units: int, control: float, level: float, corrected: bool
) -> None:
    plan, ledger = case
    alpha = level if corrected else plan.alpha
    inference = GroupSequential(plan, ledger, np.array(level) if corrected else None)
    reading = inference.read(scored(z, units, control))
    rejected = bool(reading.p_value < alpha)
    assert bool(reading.difference.excludes(0.0)) == rejected
    assert reading.critical is not None
    near = abs(abs(z) - reading.critical) < 1e-6
    if control != 0 and not near:
        assert bool(reading.lift.excludes(0.0)) == rejected
    assert 0 < reading.p_value <= 1


def test_a_month_read_look_by_look_is_read_the_same_as_at_once() -> None:
    # Tables are made from those of the look before; what was kept must not change the answer.
    plan = Plan(28.0, spending=Pocock())
    ledger = planned(plan, np.arange(1, 13) / 28)
    z = np.linspace(0, 6, 50)
    boundary_curve.cache_clear()
    at_once = GroupSequential(plan, ledger).read(scored(z)).p_value
    boundary_curve.cache_clear()
    for look in range(12):
        reading = GroupSequential(plan, Ledger(ledger.looks[: look + 1])).read(scored(z))
    assert np.array_equal(reading.p_value, at_once)


def test_p_falls_as_the_statistic_grows() -> None:
    plan = Plan(28.0)
    ledger = planned(plan, np.arange(1, 15) / 28)
    p_value = GroupSequential(plan, ledger).read(scored(np.linspace(0, 9, 500))).p_value
    assert np.all(np.diff(p_value) <= 0)
    assert p_value[0] == 1.0
    assert 0 < p_value[-1] < 1e-6


def test_where_nothing_can_be_rejected_the_interval_says_so() -> None:
    plan = Plan(1e6)
    for ledger in (Ledger(), advance(plan, Ledger(), 1e4)):
        reading = GroupSequential(plan, ledger).read(scored([3.0, 30.0]))
        assert list(reading.difference.shape) == [Shape.EVERYTHING] * 2
        assert list(reading.lift.shape) == [Shape.EVERYTHING] * 2
        assert list(reading.p_value) == [1.0, 1.0]
        assert np.all(np.isposinf(reading.difference.high))


def test_no_t_statistic_of_three_units_reaches_an_early_bound() -> None:
    plan = Plan(1e5, 0.05, Side.GREATER)
    ledger = planned(plan, np.array([0.012]))
    assert ledger.looks[0].critical is not None
    reading = GroupSequential(plan, ledger).read(scored([3.0, 1e25], units=2.0))
    assert list(reading.difference.shape) == [Shape.EVERYTHING] * 2
    assert np.all(reading.p_value >= 0.05)


def test_each_metric_may_have_a_ledger_of_its_own() -> None:
    plan = Plan(100.0)
    early, late = (planned(plan, np.array(looks)) for looks in ([0.5], [0.5, 1.0]))
    z = np.full((3, 2), 2.5)
    together = GroupSequential(plan, (early, late, early)).read(scored(z))
    for row, ledger in enumerate((early, late, early)):
        alone = GroupSequential(plan, ledger).read(scored(z[row]))
        assert list(together.p_value[row]) == list(alone.p_value)
        assert list(together.difference.low[row]) == list(alone.difference.low)
    with pytest.raises(ValueError, match="there are 2 ledgers for contrasts of shape"):
        GroupSequential(plan, (early, late)).read(scored(z))


def test_a_gap_is_passed_on_and_leaves_the_running_evidence_alone() -> None:
    plan = Plan(2.0)
    ledger = planned(plan, np.array([0.5]))
    contrast = scored([4.0, 4.0])
    gapped = Estimate(
        contrast.treatment.value,
        np.array([0.5, 0.0]),
        contrast.treatment.units,
        contrast.treatment.gap,
        np.array([Gap.NONE, Gap.ONE_UNIT], dtype=np.uint8),
    )
    reading = GroupSequential(plan, ledger).read(Contrast(contrast.control, gapped))
    assert list(reading.gap) == [Gap.NONE, Gap.ONE_UNIT]
    so_far = running(before((2,)), reading)
    assert so_far.p_value[0] < 0.05
    assert so_far.p_value[1] == 1.0


def brownian(looks: int, trials: int, drift: float, seed: int) -> np.ndarray:
    """z statistics of simulated tests at equally spaced looks: trials + looks."""
    rng = np.random.default_rng(seed)
    times = np.arange(1, looks + 1) / looks
    steps = rng.normal(drift / looks, np.sqrt(1 / looks), (trials, looks))
    return steps.cumsum(axis=1) / np.sqrt(times)


def read_all(plan: Plan, ledger: Ledger, z: np.ndarray) -> np.ndarray:
    """Running p-values of every trial at every look."""
    so_far, found = before(z.shape[:1]), []
    for look in range(z.shape[1]):
        inference = GroupSequential(plan, Ledger(ledger.looks[: look + 1]))
        so_far = running(so_far, inference.read(scored(z[:, look])))
        found.append(so_far.p_value)
    return np.stack(found, axis=1)


def test_a_month_of_daily_looks_keeps_the_level_and_peeking_does_not() -> None:
    plan = Plan(28.0)
    ledger = planned(plan, np.arange(1, 29) / 28)
    z = brownian(28, 10_000, 0.0, seed=11)
    p_value = read_all(plan, ledger, z)
    assert np.all(np.diff(p_value, axis=1) <= 0)
    # 10,000 trials: Monte Carlo standard error 0.22 points.
    assert np.mean(p_value[:, -1] < 0.05) == pytest.approx(0.05, abs=0.007)
    assert np.mean(p_value[:, -1] < 0.2) == pytest.approx(0.2, abs=0.013)
    naive = np.mean((np.abs(z) > 1.959964).any(axis=1))
    assert naive == pytest.approx(0.274, abs=0.015)


def test_power_and_sample_size_of_the_published_design() -> None:
    # gsDesign's printed example: five looks, HSD(-4), 0.025 one-sided, 90 % power: 1.023 times
    # the fixed sample, 0.7366 of it on average with the effect and 1.0197 without.
    plan = Plan(1.0, 0.025, Side.GREATER, HwangShihDeCani(-4.0))
    ledger = planned(plan, np.arange(1, 6) / 5)
    drift = drift_for_power(plan, ledger, 0.9)
    inflation = (drift / (stats.norm.isf(0.025) + stats.norm.isf(0.1))) ** 2
    assert inflation == pytest.approx(1.023, abs=0.0006)
    effect = operating(plan, ledger, drift)
    assert effect.rejected == pytest.approx([0.0370, 0.1512, 0.2647, 0.2699, 0.1771], abs=6e-5)
    assert effect.expected_information * inflation == pytest.approx(0.7366, abs=6e-5)
    nothing = operating(plan, ledger, 0.0)
    assert nothing.power == pytest.approx(0.025, abs=1e-8)
    assert nothing.expected_information * inflation == pytest.approx(1.0197, abs=6e-5)


def test_futility_spends_the_error_that_was_allowed() -> None:
    futility = Futility(3.2415 * np.sqrt(1.0699), 0.1, HwangShihDeCani(-2.0))
    plan = Plan(1.0, 0.025, Side.GREATER, HwangShihDeCani(-4.0), futility)
    ledger = planned(plan, np.array([1, 2, 3]) / 3)
    found = operating(plan, ledger, futility.drift, futility=True)
    assert found.power == pytest.approx(0.9, abs=1e-4)
    assert found.power + found.futile.sum() == pytest.approx(1.0, abs=1e-8)
    # Stopping there can only lower the type I error.
    assert operating(plan, ledger, 0.0, futility=True).power < 0.025


@pytest.mark.parametrize("drift", [0.0, 2.0, 4.0])
def test_the_estimate_at_stopping_is_median_unbiased_and_its_interval_covers(drift: float) -> None:
    plan = Plan(5.0, spending=Pocock())
    ledger = planned(plan, np.arange(1, 6) / 5)
    z = brownian(5, 4_000, drift, seed=12)
    bounds = np.array([look.critical for look in ledger.looks], dtype=float)
    crossed = np.abs(z) > bounds
    stop = np.where(crossed.any(axis=1), crossed.argmax(axis=1), 4)
    above, missed, naive = 0, 0, []
    for look in range(5):
        chosen = z[stop == look, look]
        found = stagewise(plan, Ledger(ledger.looks[: look + 1]), scored(chosen))
        assert np.all(found.gap == Gap.NONE)
        # A difference of z standard errors of one: divided by the root of time it is a drift.
        scale = np.sqrt((look + 1) / 5)
        above += int((found.difference / scale > drift).sum())
        missed += int(found.interval.excludes(drift * scale).sum())
        naive.extend(chosen / scale)
        assert np.array_equal(found.p_value < 0.05, found.interval.excludes(0.0))
    # 4,000 trials: Monte Carlo standard errors 0.8 and 0.35 points.
    assert above / 4000 == pytest.approx(0.5, abs=0.03)
    assert missed / 4000 == pytest.approx(0.05, abs=0.013)
    if drift == 4.0:
        assert np.median(naive) > drift * 1.02


@pytest.mark.parametrize("side", [Side.GREATER, Side.LESS])
def test_one_sided_stopping_mirrors(side: Side) -> None:
    plan = Plan(2.0, 0.05, side)
    ledger = planned(plan, np.array([0.5, 1.0]))
    sign = 1.0 if side is Side.GREATER else -1.0
    found = stagewise(plan, ledger, scored(sign * np.array([2.2, 0.5, -3.0])))
    assert found.p_value[0] < 0.05 < found.p_value[1] < found.p_value[2]
    assert np.array_equal(found.interval.excludes(0.0), [True, False, False])
    finite, infinite = (
        (found.interval.low, found.interval.high)
        if side is Side.GREATER
        else (found.interval.high, found.interval.low)
    )
    assert np.all(np.isfinite(finite))
    assert np.all(np.isinf(infinite))
    assert np.all(sign * found.difference > sign * finite)


def test_a_test_that_goes_on_has_no_analysis_at_stopping() -> None:
    plan = Plan(4.0)
    ledger = planned(plan, np.array([0.25, 0.5]))
    found = stagewise(plan, ledger, scored([0.3, 5.0]))
    assert list(found.gap) == [Gap.NOT_APPLICABLE, Gap.NONE]
    with pytest.raises(ValueError, match="the ledger has no look"):
        stagewise(plan, Ledger(), scored(1.0))
    with pytest.raises(ValueError, match=r"power is 0\.01"):
        drift_for_power(plan, ledger, 0.01)


def test_stopping_at_the_first_look_leaves_the_plain_estimate() -> None:
    plan = Plan(4.0)
    found = stagewise(plan, planned(plan, np.array([0.5])), scored(5.0))
    assert found.difference == pytest.approx(5.0, rel=1e-6)
    assert found.interval.low == pytest.approx(5.0 - 1.959964, rel=1e-6)
