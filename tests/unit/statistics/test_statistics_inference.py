"""Fixed-horizon inference against scipy, statsmodels, closed forms and its own promises."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate, Mean, Ratio, estimate
from touchstone_statistics.gaps import Gap, NotEstimable, at
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Shape, Side
from touchstone_statistics.moments import Moments


def contrast_of(control: object, treatment: object) -> Contrast:
    arms = [
        estimate(Moments.from_rows(np.asarray(arm, dtype=float)[:, None]), Mean(0))
        for arm in (control, treatment)
    ]
    return Contrast(arms[0], arms[1])


def summarised(means: list[float], variances: list[float], units: list[int]) -> Contrast:
    """A contrast from means and sampling variances, control first."""
    none = np.zeros((), dtype=np.uint8)
    arms = [
        Estimate(np.float64(m) * np.ones(()), np.asarray(v), np.asarray(float(n)), none, none)
        for m, v, n in zip(means, variances, units, strict=True)
    ]
    return Contrast(arms[0], arms[1])


@pytest.mark.parametrize(
    ("side", "alternative"),
    [(Side.TWO_SIDED, "two-sided"), (Side.GREATER, "greater"), (Side.LESS, "less")],
)
def test_welch_matches_scipy(
    side: Side, alternative: Literal["two-sided", "greater", "less"]
) -> None:
    rng = np.random.default_rng(3)
    control, treatment = rng.normal(5, 1, 40), rng.normal(5.4, 3, 25)
    ours = Fixed(0.1, side).read(contrast_of(control, treatment))
    scipy = stats.ttest_ind(treatment, control, equal_var=False, alternative=alternative)
    interval = scipy.confidence_interval(0.90)
    assert ours.statistic == pytest.approx(scipy.statistic, rel=1e-12)
    assert ours.dof == pytest.approx(scipy.df, rel=1e-12)
    assert ours.p_value == pytest.approx(scipy.pvalue, rel=1e-12)
    assert ours.difference.low == pytest.approx(interval.low, rel=1e-12)
    assert ours.difference.high == pytest.approx(interval.high, rel=1e-12)


def test_welch_interval_matches_statsmodels() -> None:
    rng = np.random.default_rng(4)
    control, treatment = rng.exponential(2, 300), rng.exponential(2.5, 200)
    ours = Fixed().read(contrast_of(control, treatment))
    reference = CompareMeans(DescrStatsW(treatment), DescrStatsW(control))
    low, high = reference.tconfint_diff(usevar="unequal")
    assert (ours.difference.low, ours.difference.high) == pytest.approx((low, high), rel=1e-12)


def test_a_tiny_p_value_does_not_become_zero() -> None:
    reading = Fixed().read(summarised([0.0, 30.0], [0.5, 0.5], [10_000, 10_000]))
    assert 0 < float(reading.p_value) < 1e-150


def test_fieller_solves_its_own_equation() -> None:
    contrast = summarised([10.0, 12.0], [0.5, 0.8], [50, 60])
    reading = Fixed().read(contrast)
    critical = stats.t.ppf(0.975, contrast.dof)
    for end in (reading.lift.low, reading.lift.high):
        deviation = 12.0 - (1 + end) * 10.0
        assert abs(deviation) == pytest.approx(critical * np.sqrt(0.8 + (1 + end) ** 2 * 0.5))


def test_fieller_approaches_the_delta_method_for_a_precise_control() -> None:
    reading = Fixed().read(summarised([100.0, 103.0], [1e-4, 1e-4], [10**6, 10**6]))
    delta = np.sqrt(1e-4 / 100**2 + 103**2 * 1e-4 / 100**4)
    half_width = float(reading.lift.high - reading.lift.low) / 2
    assert half_width == pytest.approx(1.959966 * delta, rel=1e-5)


def test_lift_of_a_negative_control_follows_the_difference() -> None:
    reading = Fixed().read(summarised([-10.0, -8.0], [0.01, 0.01], [100, 100]))
    assert float(reading.lift.low) > 0
    assert float(reading.lift.low) < 0.2 < float(reading.lift.high)


def test_a_control_near_zero_leaves_the_lift_unbounded() -> None:
    vague = Fixed().read(summarised([0.1, 0.2], [1.0, 1.0], [100, 100]))
    assert vague.lift.shape == Shape.EVERYTHING
    assert np.isneginf(vague.lift.low)
    assert np.isposinf(vague.lift.high)
    clear = Fixed().read(summarised([0.1, 20.0], [1.0, 1.0], [100, 100]))
    assert clear.lift.shape == Shape.OUTSIDE
    assert clear.lift.excludes(0.0)


means = st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-6)
variances = st.floats(1e-6, 1e6)


@settings(max_examples=400)
@given(
    st.tuples(means, means),
    st.tuples(variances, variances),
    st.tuples(st.integers(2, 10**7), st.integers(2, 10**7)),
    st.sampled_from([0.001, 0.05, 0.2]),
    st.sampled_from(list(Side)),
)
def test_intervals_exclude_zero_exactly_when_p_is_below_alpha(
    arm_means: tuple[float, float],
    arm_variances: tuple[float, float],
    units: tuple[int, int],
    alpha: float,
    side: Side,
) -> None:
    contrast = summarised(list(arm_means), list(arm_variances), list(units))
    reading = Fixed(alpha, side).read(contrast)
    assume(abs(float(reading.p_value) / alpha - 1) > 1e-6)
    rejected = bool(reading.p_value < alpha)
    assert bool(reading.difference.excludes(0.0)) == rejected
    if arm_means[0] != 0:
        assert bool(reading.lift.excludes(0.0)) == rejected
    assert reading.lift.low <= reading.lift.high


@settings(max_examples=200)
@given(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(1e-4, 0.01), st.floats(1e-4, 0.01))
def test_the_lift_lies_in_its_interval(a: float, b: float, va: float, vb: float) -> None:
    contrast = summarised([a, b], [va, vb], [1000, 1000])
    reading = Fixed().read(contrast)
    assert not reading.lift.excludes(float(contrast.lift))


def coverage_of_fieller(rate: float, lift: float, units: int, trials: int) -> tuple[float, float]:
    """Share of simulated trials whose interval lies above and below the true lift."""
    rng = np.random.default_rng(20_260_101)
    arms = []
    for probability in (rate, rate * (1 + lift)):
        converted = rng.binomial(units, probability, trials).astype(float)
        share = converted / units
        co_moment = (units * share * (1 - share))[:, None, None]
        arms.append(
            estimate(Moments.of(np.full(trials, units), share[:, None], co_moment), Mean(0))
        )
    reading = Fixed().read(Contrast(arms[0], arms[1]))
    return float(np.mean(reading.lift.low > lift)), float(np.mean(reading.lift.high < lift))


@pytest.mark.parametrize("lift", [0.0, 0.2])
@pytest.mark.parametrize(("rate", "units"), [(0.1, 1000), (0.01, 4000)])
def test_fieller_covers_as_promised(rate: float, units: int, lift: float) -> None:
    # 20,000 trials: Monte Carlo standard error 0.15 points; five of them and discreteness.
    above, below = coverage_of_fieller(rate, lift, units, 20_000)
    assert 0.042 < above + below < 0.058
    assert 0.015 < above < 0.035
    assert 0.015 < below < 0.035


def test_all_arms_and_trials_are_read_at_once() -> None:
    rng = np.random.default_rng(5)
    rows = [rng.normal(mean, 2, (200, 4)) for mean in (1.0, 1.2, 1.5)]
    single = [Moments.from_rows(arm) for arm in rows]
    stacked = Moments.of(
        [m.units for m in single], [m.mean for m in single], [m.co_moment for m in single]
    )
    arms = estimate(stacked, Mean(2))
    reading = Fixed().read(Contrast(arms[:1], arms[1:]))
    assert reading.p_value.shape == (2,)
    for index, treatment in enumerate(rows[1:]):
        expected = stats.ttest_ind(treatment[:, 2], rows[0][:, 2], equal_var=False)
        assert reading.p_value[index] == pytest.approx(expected.pvalue, rel=1e-10)


def test_ratio_is_the_delta_method() -> None:
    rng = np.random.default_rng(6)
    sessions = rng.poisson(5, 400) + 1.0
    revenue = sessions * rng.normal(3, 1, 400)
    ratio = estimate(Moments.from_rows(np.column_stack([revenue, sessions])), Ratio(0, 1))
    value = revenue.mean() / sessions.mean()
    residual = (revenue - value * sessions) / sessions.mean()
    assert ratio.value == pytest.approx(value, rel=1e-12)
    assert ratio.variance == pytest.approx(residual.var(ddof=1) / 400, rel=1e-10)
    flat = estimate(Moments.from_rows([[1.0, 0.0], [2.0, 0.0]]), Ratio(0, 1))
    assert flat.gap == Gap.ZERO_DENOMINATOR


@pytest.mark.parametrize(
    ("control", "treatment", "gap", "spread_gap", "lift_gap"),
    [
        ([], [1.0, 2.0], Gap.NO_UNITS, Gap.NO_UNITS, Gap.NO_UNITS),
        ([3.0], [1.0, 2.0], Gap.NONE, Gap.ONE_UNIT, Gap.NONE),
        ([3.0, 3.0], [2.0, 2.0], Gap.NONE, Gap.ZERO_VARIANCE, Gap.NONE),
        ([0.1] * 7, [0.1] * 9, Gap.NONE, Gap.ZERO_VARIANCE, Gap.NONE),
        ([0.0, 0.0], [0.0, 1.0], Gap.NONE, Gap.NONE, Gap.ZERO_CONTROL_MEAN),
    ],
)
def test_missing_knowledge_has_a_reason(
    control: list[float], treatment: list[float], gap: Gap, spread_gap: Gap, lift_gap: Gap
) -> None:
    contrast = contrast_of(control, treatment)
    assert contrast.gap == gap
    assert contrast.spread_gap == spread_gap
    assert contrast.lift_gap == lift_gap
    reading = Fixed().read(contrast)
    assert np.isfinite(reading.p_value)
    p_value = at(reading.p_value, reading.gap)
    if spread_gap is Gap.NONE:
        assert isinstance(p_value, float)
    else:
        assert p_value == NotEstimable(spread_gap)


@pytest.mark.parametrize("alpha", [0.0, 0.51, -1.0, float("nan")])
def test_a_senseless_level_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha is"):
        Fixed(alpha)
