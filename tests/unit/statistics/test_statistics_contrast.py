"""Hypotheses as linear contrasts: margins, shared variance, sums of arms, interactions."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_ind
from touchstone_statistics.bayes import Bayes
from touchstone_statistics.contrast import Contrast, Joint, interaction, linear
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side
from touchstone_statistics.margins import equivalence, not_worse, toward
from touchstone_statistics.moments import Moments


def arm(mean: float, variance: float, units: int) -> Estimate:
    none = np.zeros((), dtype=np.uint8)
    return Estimate(np.array(mean), np.array(variance), np.array(float(units)), none, none)


def sample(values: np.ndarray) -> Estimate:
    return estimate(Moments.from_rows(values[:, None]), Mean(0))


means = st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6)
variances = st.floats(1e-6, 1e6)
sizes = st.integers(2, 10**7)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(means, means),
    st.tuples(variances, variances, st.floats(-0.9, 0.9)),
    st.tuples(sizes, sizes),
    st.floats(-0.5, 0.5),
    st.sampled_from([0.001, 0.05, 0.2]),
    st.sampled_from(list(Side)),
)
def test_the_lift_excludes_the_margin_exactly_when_the_test_rejects(
    pair: tuple[float, float],
    spread: tuple[float, float, float],
    units: tuple[int, int],
    null_lift: float,
    alpha: float,
    side: Side,
) -> None:
    covariance = spread[2] * np.sqrt(spread[0] * spread[1])
    contrast = Contrast(
        arm(pair[0], spread[0], units[0]), arm(pair[1], spread[1], units[1]), null_lift, covariance
    )
    reading = Fixed(alpha, side).read(contrast)
    assume(abs(float(reading.p_value) / alpha - 1) > 1e-6)
    rejected = bool(reading.p_value < alpha)
    assert bool(reading.difference.excludes(0.0)) == rejected
    ends = np.array([reading.lift.low, reading.lift.high])
    assume(float(np.abs(ends - null_lift).min()) > 1e-9)
    assert bool(reading.lift.excludes(null_lift)) == rejected


@pytest.mark.parametrize("increase_is_better", [True, False])
def test_a_margin_is_a_scaled_sample_against_the_treatment(increase_is_better: bool) -> None:
    rng = np.random.default_rng(1)
    control, treatment = rng.normal(10, 2, 80), rng.normal(9.9, 3, 60)
    factor = 0.9 if increase_is_better else 1.1
    alternative: Literal["greater", "less"] = "greater" if increase_is_better else "less"
    expected = stats.ttest_ind(
        treatment, factor * control, equal_var=False, alternative=alternative
    )
    contrast = not_worse(Contrast(sample(control), sample(treatment)), 0.1, increase_is_better)
    reading = Fixed(0.05, toward(increase_is_better)).read(contrast)
    assert reading.p_value == pytest.approx(expected.pvalue, rel=1e-10)
    assert reading.dof == pytest.approx(expected.df, rel=1e-10)
    assert contrast.lift == pytest.approx(treatment.mean() / control.mean() - 1)


def test_a_margin_of_a_negative_control_is_a_share_of_its_size() -> None:
    # From -10 to -10.5 is a fall of five per cent of the size: within a margin of six.
    contrast = Contrast(arm(-10.0, 1e-6, 1000), arm(-10.5, 1e-6, 1000))
    assert Fixed(0.05, Side.GREATER).read(not_worse(contrast, 0.06)).p_value < 1e-6
    assert Fixed(0.05, Side.GREATER).read(not_worse(contrast, 0.04)).p_value > 0.999


def test_equivalence_of_a_precise_control_matches_statsmodels() -> None:
    rng = np.random.default_rng(2)
    # A control known almost exactly, so that the margin is the fixed bound of statsmodels.
    control, treatment = rng.normal(100, 1e-4, 300), rng.normal(100.1, 4, 200)
    result = equivalence(Contrast(sample(control), sample(treatment)), 0.008, 0.05)
    margin = 0.008 * control.mean()
    p_value, low, high = ttost_ind(treatment, control, -margin, margin, usevar="unequal")
    assert result.p_value == pytest.approx(p_value, rel=1e-4)
    assert result.above.p_value == pytest.approx(low[1], rel=1e-4)
    assert result.below.p_value == pytest.approx(high[1], rel=1e-4)


def test_equivalent_means_both_intervals_exclude_their_margin() -> None:
    near = Contrast(arm(10.0, 0.001, 500), arm(10.05, 0.001, 500))
    result = equivalence(near, 0.02)
    assert result.equivalent
    assert result.above.lift.low > -0.02
    assert result.below.lift.high < 0.02
    assert not equivalence(near, 0.005).equivalent


def test_the_chance_of_a_margin_agrees_with_the_prior_moved_by_it() -> None:
    plain = Contrast(arm(10.0, 0.05, 500), arm(10.1, 0.05, 500))
    wide = Bayes(alpha=0.05).read(plain)
    shifted = Bayes(alpha=0.05).read(not_worse(plain, 0.02))
    assert shifted.probability_to_beat > wide.probability_to_beat
    # The credible set of the lift is one statement about the lift, whatever is tested.
    assert shifted.lift.low == pytest.approx(float(wide.lift.low), abs=5e-4)
    assert shifted.lift.high == pytest.approx(float(wide.lift.high), abs=5e-4)


def test_what_two_arms_share_does_not_blur_their_difference() -> None:
    shared = Contrast(arm(10.0, 0.5, 100), arm(11.0, 0.6, 100), covariance=0.4)
    assert shared.variance == pytest.approx(0.1 + 0.2)
    assert shared.control_covariance == pytest.approx(0.4 - 0.5)
    # Welch's dof from what the arms do not share.
    alone = Contrast(arm(10.0, 0.1, 100), arm(11.0, 0.2, 100))
    assert shared.dof == pytest.approx(float(alone.dof))
    same = Contrast(arm(10.0, 0.1 + 0.2, 100), arm(11.0, 0.3, 100), covariance=0.3)
    assert same.variance == 0.0


def test_a_paired_comparison_through_the_joint_covariance() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(5, 3, 40)
    before, after = base + rng.normal(0, 1, 40), base + rng.normal(0.5, 1, 40)
    moments = Moments.from_rows(np.column_stack([before, after]))
    each = [estimate(moments, Mean(0)), estimate(moments, Mean(1))]
    arms = Estimate(
        *(
            np.stack([getattr(e, name) for e in each])
            for name in ("value", "variance", "units", "gap", "spread_gap")
        )
    )
    joint = Joint(arms, moments.covariance / 40, np.array(39.0))
    reading = Fixed(0.05).read(joint.contrast(0))
    expected = stats.ttest_rel(after, before)
    assert reading.p_value[0] == pytest.approx(expected.pvalue, rel=1e-10)
    interval = expected.confidence_interval(0.95)
    assert reading.difference.low[0] == pytest.approx(interval.low, rel=1e-10)
    with pytest.raises(ValueError, match="it must be 0 to 1"):
        joint.contrast(2)


def test_a_linear_sum_has_satterthwaites_freedom() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(1, 1, 12), rng.normal(2, 4, 7)
    difference = linear([sample(second), sample(first)], [1.0, -1.0])
    expected = CompareMeans(DescrStatsW(second), DescrStatsW(first))
    assert difference.value == pytest.approx(second.mean() - first.mean())
    assert difference.std_err == pytest.approx(expected.std_meandiff_separatevar)
    assert difference.dof == pytest.approx(expected.dof_satt())
    with pytest.raises(ValueError, match="give one for each term"):
        linear([sample(first)], [1.0, 2.0])


def test_an_interaction_is_the_difference_of_the_effects() -> None:
    cells = [arm(13.0, 0.1, 50), arm(11.0, 0.2, 60), arm(10.5, 0.3, 70), arm(10.0, 0.4, 80)]
    contrast = interaction(*cells)
    assert contrast.difference == pytest.approx((13.0 - 11.0) - (10.5 - 10.0))
    assert contrast.variance == pytest.approx(1.0)
    assert contrast.lift == pytest.approx(0.15)
    expected = 1.0 / (0.01 / 49 + 0.04 / 59 + 0.09 / 69 + 0.16 / 79)
    assert contrast.dof == pytest.approx(expected)
    reading = Fixed().read(contrast)
    assert reading.p_value == pytest.approx(2 * stats.t.sf(1.5, expected))
    assert Bayes().read(contrast).gap == 0


def test_the_interval_of_an_interaction_covers() -> None:
    rng = np.random.default_rng(5)
    effects = np.array([12.0, 11.0, 10.5, 10.0])  # an interaction of 0.5, or 5 %
    draws = rng.normal(effects, np.sqrt([0.1, 0.2, 0.3, 0.4]), (20_000, 4))
    none = np.zeros(20_000, dtype=np.uint8)
    cells = [
        Estimate(draws[:, i], np.full(20_000, v), np.full(20_000, 1e6), none, none)
        for i, v in enumerate([0.1, 0.2, 0.3, 0.4])
    ]
    reading = Fixed().read(interaction(*cells))
    # Monte Carlo standard error 0.15 points; five of them.
    assert np.mean(reading.difference.excludes(0.5)) == pytest.approx(0.05, abs=0.008)
    assert np.mean(reading.lift.excludes(0.05)) == pytest.approx(0.05, abs=0.008)


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_a_senseless_margin_is_refused(margin: float) -> None:
    contrast = Contrast(arm(1.0, 1.0, 10), arm(1.0, 1.0, 10))
    with pytest.raises(ValueError, match="margin is"):
        not_worse(contrast, margin)
    with pytest.raises(ValueError, match="margin is"):
        equivalence(contrast, margin)
    with pytest.raises(ValueError, match="null_lift is"):
        Contrast(arm(1.0, 1.0, 10), arm(1.0, 1.0, 10), -1.0)
