"""Waves against a control group: the four factors of a bank's journey, scipy, and simulation."""

import numpy as np
import pytest
from scipy import stats
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.family import Method
from touchstone_statistics.gaps import Gap
from touchstone_statistics.holdouts import (
    Population,
    Reach,
    evaluate,
    global_effect,
    pooled,
)
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Shape
from touchstone_statistics.moments import Moments
from touchstone_statistics.proportions import Proportions


def rates(units: object, successes: object) -> Moments:
    """Moments of one binary column from counts of any batch shape."""
    n, x = np.asarray(units, dtype=float), np.asarray(successes, dtype=float)
    share = np.divide(x, n, out=np.zeros(np.broadcast(n, x).shape), where=n > 0)
    n = np.broadcast_to(n, share.shape)
    return Moments.of(n, share[..., None], (n * share * (1 - share))[..., None, None])


# A journey of new accounts: 20,000 customers in three waves, 5,000 kept out of everything. Rows:
# active in payment, balance of 10,000 yuan, second card, first wealth product.
METRICS = ("payment-active", "balance-10k", "dual-card", "first-wealth")
CONTROL_UNITS, WAVE_UNITS = 5000, np.array([8000, 7000, 5000])
CONTROL = np.array([[900], [190], [250], [70]])
WAVES = np.array(
    [[2810, 2470, 1776], [1160, 1010, 711], [1220, 1060, 760], [512, 446, 322]], dtype=float
)
CLAIMED = np.array([1.96, 3.79, 3.04, 4.57])


def journey() -> tuple[Moments, Moments]:
    return rates(CONTROL_UNITS, CONTROL), rates(WAVE_UNITS, WAVES)


def test_the_four_factors_of_a_journey() -> None:
    control, waves = journey()
    together = evaluate(estimate(control, Mean(0)), pooled(waves, Mean(0)))
    np.testing.assert_allclose(together.ratio[:, 0], CLAIMED, atol=0.005)
    np.testing.assert_allclose(together.ratio, 1 + Contrast(together.control, together.waves).lift)
    # The relative lift is the ratio less one: x1.96 is +96 %.
    assert together.reading.lift.low[0, 0] < 0.96 < together.reading.lift.high[0, 0]
    assert (together.ratio_interval.low > 1.0).all()
    # A factor of 4.57 from 70 control customers is known no better than from 3.6 to 6.
    assert 3.5 < together.ratio_interval.low[3, 0] < 3.8
    assert 5.7 < together.ratio_interval.high[3, 0] < 6.2
    gained = together.gained[:, 0]
    np.testing.assert_allclose(gained, WAVES.sum(axis=1) - 20_000 * CONTROL[:, 0] / 5000)


def test_each_wave_is_read_at_a_level_that_keeps_all_true_at_once() -> None:
    control, waves = (estimate(part, Mean(0)) for part in journey())
    ours = evaluate(control, waves)
    single = Fixed(0.05).read(Contrast(control, waves))
    np.testing.assert_allclose(ours.reading.p_value, single.p_value)
    bonferroni = evaluate(control, waves, Reach(method=Method.BONFERRONI))
    assert (ours.ratio_interval.low < 1 + single.lift.low).all()
    assert (ours.ratio_interval.low > bonferroni.ratio_interval.low).all()
    np.testing.assert_allclose(bonferroni.adjusted.alpha, 0.05 / 3)
    assert ((ours.adjusted.alpha > 0.05 / 3) & (ours.adjusted.alpha < 0.05)).all()
    excluded = ours.ratio_interval.excludes(1.0)
    np.testing.assert_array_equal(excluded, ours.adjusted.rejected)


def test_waves_without_an_effect_are_told_from_those_with_one() -> None:
    control = estimate(rates([4000], [400]), Mean(0))
    waves = estimate(rates([4000, 4000, 0], [404, 520, 0]), Mean(0))
    ours = evaluate(control, waves)
    assert ours.adjusted.rejected.tolist() == [False, True, False]
    assert ours.adjusted.gap[2] == Gap.NO_UNITS
    assert ours.ratio_interval.low[0] < 1.0 < ours.ratio_interval.high[0]
    assert ours.gained[2] == 0.0


def test_all_ratios_are_covered_at_once() -> None:
    # 10,000 journeys of three waves with true ratios 1, 1.5 and 2; standard error 0.22 points.
    rng = np.random.default_rng(1)
    truth = np.array([1.0, 1.5, 2.0])
    control = estimate(rates(2000, rng.binomial(2000, 0.1, (10_000, 1))), Mean(0))
    waves = estimate(rates(6000, rng.binomial(6000, 0.1 * truth, (10_000, 3))), Mean(0))
    ours = evaluate(control, waves)
    missed = (ours.ratio_interval.low > truth) | (ours.ratio_interval.high < truth)
    assert missed.any(axis=1).mean() == pytest.approx(0.05, abs=0.012)
    alone = Fixed().read(Contrast(control, waves)).lift
    naive = (1 + alone.low > truth) | (1 + alone.high < truth)
    assert naive.any(axis=1).mean() > 0.085


def test_rates_of_small_cells_are_read_by_the_score_test() -> None:
    control = estimate(rates([[300], [300]], [[2], [0]]), Mean(0))
    waves = estimate(rates([[2000, 500]], [[40, 9], [35, 1]]), Mean(0))
    ours = evaluate(control, waves, Reach(rates=True))
    single = Proportions(ours.adjusted.alpha).read(Contrast(control, waves))
    np.testing.assert_array_equal(ours.reading.lift.low, single.lift.low)
    np.testing.assert_array_equal(ours.ratio_interval.excludes(1.0), ours.adjusted.rejected)
    # Nobody of the control converted: no ratio, but a bound below which it cannot be.
    assert ours.ratio_gap[1, 0] == Gap.ZERO_CONTROL_MEAN
    assert ours.reading.lift_gap[1, 0] == Gap.NONE
    assert ours.ratio_interval.low[1, 0] > 0.0


def test_a_ratio_to_a_mean_below_zero_is_not_given() -> None:
    none, one = np.zeros(1, dtype=np.uint8), np.ones(1)
    control = Estimate(-5 * one, 0.01 * one, 100 * one, none, none)
    ours = evaluate(control, Estimate(-4 * one, 0.01 * one, 100 * one, none, none))
    assert ours.ratio_gap[0] == Gap.NOT_APPLICABLE
    assert ours.reading.lift_gap[0] == Gap.NONE


def test_a_control_that_is_hardly_there_leaves_the_ratio_open() -> None:
    control = estimate(rates([40], [1]), Mean(0))
    ours = evaluate(control, estimate(rates([4000], [110]), Mean(0)))
    assert ours.ratio_interval.shape[0] != Shape.BETWEEN
    assert not ours.ratio_interval.excludes(1e6)[0]


def test_the_cumulative_effect_of_a_programme_is_that_of_its_holdout() -> None:
    # A year of changes: five per cent were kept on the old product.
    holdout = estimate(rates([50_000], [5000]), Mean(0))
    exposed = estimate(rates([950_000], [99_750]), Mean(0))
    ours = evaluate(holdout, exposed, Reach(rates=True))
    assert ours.reading.lift.low[0] < 0.05 < ours.reading.lift.high[0]
    assert ours.gained[0] == pytest.approx(950_000 * 0.005)
    assert ours.gained_interval.low[0] > 0.0
    everybody = global_effect(Contrast(holdout, exposed), Population(1_000_000, 0.0))
    assert everybody.gained[0] == pytest.approx(1_000_000 * 0.005)


def test_a_global_lift_is_coverage_times_local_lift() -> None:
    contrast = Contrast(
        estimate(rates(10_000, 1000), Mean(0)), estimate(rates(10_000, 1100), Mean(0))
    )
    # A tenth of those eligible are in the experiment; they hold a fifth of the total.
    population = Population.of_experiment(20_000, 0.1, total=100_000, within=2100)
    assert population.eligible_units == pytest.approx(200_000)
    assert population.total_elsewhere == pytest.approx(79_000)
    ours = global_effect(contrast, population)
    assert ours.gained == pytest.approx(200_000 * 0.01)
    assert ours.coverage == pytest.approx(20_000 / 99_000)
    assert ours.lift == pytest.approx(ours.coverage * contrast.lift)
    everybody = global_effect(contrast, Population(200_000, 0.0))
    reading = Fixed().read(contrast)
    assert everybody.lift_interval.low == pytest.approx(reading.lift.low)
    assert everybody.lift_interval.high == pytest.approx(reading.lift.high)
    assert bool(ours.lift_interval.excludes(0.0)) == bool(reading.p_value < 0.05)


def test_the_interval_of_a_global_lift_covers_as_promised() -> None:
    rng = np.random.default_rng(2)
    control = estimate(rates(3000, rng.binomial(3000, 0.1, 10_000)), Mean(0))
    treated = estimate(rates(3000, rng.binomial(3000, 0.12, 10_000)), Mean(0))
    ours = global_effect(Contrast(control, treated), Population(30_000, 9000.0))
    truth = 30_000 * 0.02 / (9000 + 30_000 * 0.1)
    missed = ours.lift_interval.excludes(truth)
    assert missed.mean() == pytest.approx(0.05, abs=0.008)


def test_nothing_to_set_an_effect_against_has_a_reason() -> None:
    contrast = Contrast(estimate(rates(10, 0), Mean(0)), estimate(rates(10, 3), Mean(0)))
    assert global_effect(contrast, Population(10, 0.0)).gap == Gap.ZERO_DENOMINATOR


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_senseless_populations_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share is"):
        Population.of_experiment(10, share, 1, 1)
    with pytest.raises(ValueError, match="neither may be negative"):
        Population(-1.0, share)
    with pytest.raises(ValueError, match="alpha is"):
        Reach(alpha=0.7)


def test_a_wave_alone_matches_scipy() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.normal(5, 1, 50), rng.normal(6, 2, 70)
    control, wave = (
        estimate(Moments.from_rows(rows[:, None]), Mean(0))[None] for rows in (left, right)
    )
    ours = evaluate(control, wave)
    expected = stats.ttest_ind(right, left, equal_var=False)
    assert ours.adjusted.p_value[0] == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval()
    assert ours.reading.difference.low[0] == pytest.approx(interval.low, rel=1e-8)
