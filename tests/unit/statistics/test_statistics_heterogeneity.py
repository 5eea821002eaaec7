"""Segments: Cochran's test against statsmodels, shrinkage against the eight schools and draws."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.family import Correction, Method, correct
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.heterogeneity import Effects, heterogeneity, shrink
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments

# Rubin (1981), coaching in eight schools; posterior of Gelman et al. (2013), table 5.3.
SCHOOLS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SCHOOL_ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def effects(value: object, std_err: object) -> Effects:
    y, s = np.asarray(value, dtype=float), np.asarray(std_err, dtype=float)
    return Effects(y, np.broadcast_to(s**2, y.shape), np.zeros(y.shape, dtype=np.uint8))


def test_cochrans_test_matches_statsmodels() -> None:
    rng = np.random.default_rng(1)
    y, s = rng.normal(0.5, 1, (4, 7)), rng.uniform(0.3, 0.9, (4, 7))
    ours = heterogeneity(effects(y, s))
    for row in range(4):
        reference = combine_effects(y[row], s[row] ** 2, method_re="dl")
        assert ours.statistic[row] == pytest.approx(reference.q)
        assert ours.spread[row] ** 2 == pytest.approx(max(reference.tau2, 0.0))
        assert ours.i_squared[row] == pytest.approx(max(reference.i2, 0.0))
        assert ours.pooled[row] == pytest.approx(reference.mean_effect_fe)
        assert ours.p_value[row] == pytest.approx(stats.chi2.sf(reference.q, 6))


def test_the_eight_schools_show_no_heterogeneity() -> None:
    ours = heterogeneity(effects(SCHOOLS, SCHOOL_ERRORS))
    # Gelman et al. (2013), section 5.5: pooled estimate 7.7 with standard error 4.1.
    assert ours.pooled == pytest.approx(7.7, abs=0.05)
    assert np.sqrt(ours.pooled_variance) == pytest.approx(4.1, abs=0.05)
    assert ours.i_squared == 0.0
    assert ours.spread == 0.0


def test_a_missing_segment_is_left_out() -> None:
    y, s = np.array([1.0, 99.0, 3.0, 2.0]), np.array([1.0, 0.0, 1.0, 0.5])
    part = Effects(y, s**2, np.array([0, Gap.ZERO_VARIANCE, 0, 0], dtype=np.uint8))
    whole, rest = heterogeneity(part), heterogeneity(effects(y[[0, 2, 3]], s[[0, 2, 3]]))
    assert whole.statistic == pytest.approx(rest.statistic)
    assert whole.dof == 2
    ours, alone = shrink(part), shrink(effects(y[[0, 2, 3]], s[[0, 2, 3]]))
    np.testing.assert_allclose(ours.value[[0, 2, 3]], alone.value, rtol=1e-9)
    assert ours.gap.tolist() == [0, Gap.ZERO_VARIANCE, 0, 0]
    assert np.isfinite(ours.interval.low).all()


def test_too_few_segments_have_a_reason() -> None:
    assert heterogeneity(effects([1.0], [1.0])).gap == Gap.NOT_APPLICABLE
    assert heterogeneity(effects([1.0, 2.0], [1.0, 1.0])).gap == Gap.NONE
    ours = shrink(effects([1.0, 2.0], [1.0, 1.0]))
    assert ours.gap.tolist() == [Gap.NOT_APPLICABLE] * 2
    assert np.isfinite(ours.value).all()


def test_shrinkage_of_the_eight_schools_is_that_of_the_book() -> None:
    ours = shrink(effects(SCHOOLS, SCHOOL_ERRORS))
    # The book's table comes from 200 draws: ends of intervals within 3, school A and G.
    assert (ours.interval.low[0], ours.interval.high[0]) == pytest.approx((-2, 31), abs=3)
    assert (ours.interval.low[6], ours.interval.high[6]) == pytest.approx((-1, 26), abs=3)
    half = shrink(effects(SCHOOLS, SCHOOL_ERRORS), alpha=0.5).interval
    assert (half.low[0], half.high[0]) == pytest.approx((7, 16), abs=1.5)
    assert (half.low[4], half.high[4]) == pytest.approx((1, 10), abs=1.5)


def draws(y: FloatArray, s: FloatArray, many: int, seed: int) -> FloatArray:
    """Posterior draws by another road: a fine grid of the spread, then simulation."""
    rng = np.random.default_rng(seed)
    tau = (np.arange(40_000) + 0.5) * 200 * s.mean() / 40_000
    v = s**2 + tau[:, None] ** 2
    total = (1 / v).sum(axis=1)
    mu = (y / v).sum(axis=1) / total
    log_p = stats.norm.logpdf(y, mu[:, None], np.sqrt(v)).sum(axis=1) - 0.5 * np.log(total)
    p = np.exp(log_p - log_p.max())
    t = rng.choice(tau, many, p=p / p.sum())[:, None]
    v = s**2 + t**2
    total = (1 / v).sum(axis=1, keepdims=True)
    common = rng.normal((y / v).sum(axis=1, keepdims=True) / total, 1 / np.sqrt(total))
    pull = s**2 / v
    return np.asarray(rng.normal(y + pull * (common - y), np.sqrt(1 - pull) * s))


@pytest.mark.parametrize(
    ("y", "s"),
    [
        (SCHOOLS, SCHOOL_ERRORS),
        (np.linspace(-30, 30, 12), np.full(12, 2.0)),
        (np.array([0.1, 0.11, 0.09, 0.1]), np.array([0.02, 0.01, 0.03, 0.02])),
    ],
)
def test_shrinkage_matches_simulation(y: np.ndarray, s: np.ndarray) -> None:
    ours, sample = shrink(effects(y, s)), draws(y, s, 200_000, 2)
    scale = s.mean()
    np.testing.assert_allclose(ours.value / scale, sample.mean(axis=0) / scale, atol=0.02)
    np.testing.assert_allclose(ours.std_dev / scale, sample.std(axis=0) / scale, atol=0.03)
    low, high = np.quantile(sample, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(ours.interval.low / scale, low / scale, atol=0.05)
    np.testing.assert_allclose(ours.interval.high / scale, high / scale, atol=0.05)


def test_clear_segments_stay_and_vague_ones_move() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(0, 1, 2000)
    precise = shrink(effects(y, 0.01))
    np.testing.assert_allclose(precise.value, y, atol=2e-3)
    assert np.abs(shrink(effects(y[:50], 50.0)).value - y[:50].mean()).max() < 0.4


def test_intervals_cover_and_the_largest_segment_is_no_longer_flattered() -> None:
    # 1,500 experiments of ten segments; the chosen one is that with the largest estimate.
    rng = np.random.default_rng(4)
    truth = rng.normal(1.0, 0.5, (1500, 10))
    y = rng.normal(truth, 0.8)
    ours = shrink(effects(y, 0.8))
    covered = (ours.interval.low < truth) & (truth < ours.interval.high)
    best = np.argmax(y, axis=1)[:, None]
    assert np.take_along_axis(covered, best, 1).mean() > 0.935
    flattery = np.take_along_axis(y - truth, best, 1).mean()
    shrunken = np.take_along_axis(ours.value - truth, best, 1).mean()
    assert flattery > 0.8
    assert abs(shrunken) < 0.25 * flattery


def test_false_alarms_of_the_test_are_as_promised() -> None:
    rng = np.random.default_rng(5)
    p = heterogeneity(effects(rng.normal(2, 0.3, (20_000, 6)), 0.3)).p_value
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.006)


def test_lifts_of_segments_have_the_variance_that_is_drawn() -> None:
    # Both arms are drawn anew 50,000 times; control means of 20 with a standard error of 0.5.
    rng = np.random.default_rng(7)
    none, ones = np.zeros(50_000, dtype=np.uint8), np.ones(50_000)
    control = Estimate(rng.normal(20, 0.5, 50_000), 0.25 * ones, 1e4 * ones, none, none)
    treated = Estimate(rng.normal(26, 0.7, 50_000), 0.49 * ones, 1e4 * ones, none, none)
    ours = Effects.of_lifts(Contrast(control, treated))
    assert ours.value.mean() == pytest.approx(0.3, abs=0.002)
    assert ours.variance.mean() == pytest.approx(ours.value.var(), rel=0.03)
    nothing = Effects.of_lifts(Contrast(control[:1], replace(treated[:1], value=np.zeros(1))))
    assert nothing.variance[0] == pytest.approx(0.49 / float(control.value[0]) ** 2)


def test_a_common_lift_is_not_heterogeneity_of_lifts() -> None:
    # Three regions whose baselines differ tenfold, each with a lift of ten per cent.
    base = np.array([1.0, 5.0, 10.0])
    none, units = np.zeros(3, dtype=np.uint8), np.full(3, 1e4)
    control = Estimate(base, (0.02 * base) ** 2, units, none, none)
    contrast = Contrast(control, Estimate(1.1 * base, (0.02 * base) ** 2, units, none, none))
    assert heterogeneity(Effects.of_lifts(contrast)).statistic == pytest.approx(0.0, abs=1e-9)
    assert heterogeneity(Effects.of(contrast)).p_value < 0.01


def test_segments_of_a_contrast_are_read_corrected_and_shrunken_together() -> None:
    rng = np.random.default_rng(6)
    lifts = [0.0, 0.0, 0.0, 1.0]
    control, treated = (
        [Moments.from_rows(rng.normal(5 + on * lift, 2, (400, 1))) for lift in lifts]
        for on in (0, 1)
    )
    arms = [
        estimate(
            Moments.of([m.units for m in arm], [m.mean for m in arm], [m.co_moment for m in arm]),
            Mean(0),
        )
        for arm in (control, treated)
    ]
    contrast = Contrast(arms[0], arms[1])
    assert heterogeneity(Effects.of(contrast)).p_value < 1e-4
    reading = Fixed().read(contrast)
    ours = correct(reading.p_value, reading.gap, Correction(Method.BENJAMINI_HOCHBERG))
    assert ours.rejected.tolist() == [False, False, False, True]
    assert shrink(Effects.of(contrast)).value[3] < contrast.difference[3]
