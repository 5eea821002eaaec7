"""Health of the data against scipy, closed forms and the mistakes that others make."""

import numpy as np
import pytest
from scipy import special, stats
from touchstone_statistics.gaps import Gap, NotEstimable
from touchstone_statistics.health import (
    ALERT_BELOW,
    completeness,
    sample_ratio,
    sample_ratio_by_value,
    skewness,
)


def test_matches_scipy_chisquare() -> None:
    units, weights = np.array([5020.0, 2480.0, 2610.0]), np.array([2.0, 1.0, 1.0])
    ours = sample_ratio(units, weights)
    expected = stats.chisquare(units, weights / weights.sum() * units.sum())
    assert ours.statistic == pytest.approx(expected.statistic)
    assert ours.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert not ours.alert


def test_an_arm_of_zero_weight_has_no_degree_of_freedom() -> None:
    ours = sample_ratio(np.array([1000.0, 1100.0, 0.0]), np.array([0.5, 0.5, 0.0]))
    assert ours.dof == 1
    assert ours.p_value == pytest.approx(0.0291, abs=5e-5)


def test_units_in_an_arm_of_zero_weight_are_an_alert() -> None:
    ours = sample_ratio(np.array([1000.0, 1000.0, 3.0]), np.array([0.5, 0.5, 0.0]))
    assert ours.unexpected_units == 3
    assert ours.alert


def test_a_strong_mismatch_is_an_alert_with_a_p_value_above_zero() -> None:
    ours = sample_ratio(np.array([50_000.0, 52_000.0]), np.array([1.0, 1.0]))
    assert ours.alert
    assert isinstance(ours.p_value, float)
    assert 0 < ours.p_value < 1e-9


@pytest.mark.parametrize(
    ("units", "weights", "gap"),
    [([0.0, 0.0], [1.0, 1.0], Gap.NO_UNITS), ([9.0, 0.0], [1.0, 0.0], Gap.NOT_APPLICABLE)],
)
def test_nothing_to_test_has_a_reason(units: list[float], weights: list[float], gap: Gap) -> None:
    ours = sample_ratio(np.array(units), np.array(weights))
    assert ours.p_value == NotEstimable(gap)
    assert not ours.alert


def test_only_a_deviation_from_the_intended_ratio_is_flagged() -> None:
    intended = np.array([95.0, 5.0])
    assert not sample_ratio(np.array([95_100.0, 4_900.0]), intended).alert
    assert sample_ratio(np.array([95_400.0, 4_600.0]), intended).alert
    assert sample_ratio(np.array([50_000.0, 50_000.0]), intended).alert


def test_a_tiny_mismatch_in_many_units_is_an_alert_that_shows_its_size() -> None:
    ours = sample_ratio(np.array([50_030_000.0, 49_970_000.0]), np.ones(2))
    assert ours.alert
    assert ours.deviation == pytest.approx(0.0006)


def test_few_units_are_no_alert_that_the_exact_test_does_not_confirm() -> None:
    # Four of ten units in an arm of five per cent: Pearson says 4e-7, the exact test 1.03e-3.
    units, weights = np.array([6.0, 4.0]), np.array([95.0, 5.0])
    ours = sample_ratio(units, weights)
    assert ours.p_value == pytest.approx(stats.binomtest(4, 10, 0.05).pvalue)
    assert not ours.alert
    assert stats.chisquare(units, [9.5, 0.5]).pvalue < 1e-6
    values = np.array([[9500.0, 500.0], units])
    assert not sample_ratio_by_value(values, weights).alert.any()
    assert sample_ratio(np.array([4.0, 6.0]), weights).alert


def test_small_values_raise_no_more_alerts_than_promised() -> None:
    # 2,000 dimensions of five values with ten units each, split 97 : 3.
    rng = np.random.default_rng(9)
    first = rng.binomial(10, 0.97, (2000, 5)).astype(float)
    weights = np.array([97.0, 3.0])
    alerts = [
        sample_ratio_by_value(np.stack([row, 10 - row], axis=-1), weights).alert.any()
        for row in first
    ]
    pearson = (first - 9.7) ** 2 / 9.7 + (0.3 - first + 9.7) ** 2 / 0.3
    alone = (special.chdtrc(1, pearson) * 5 < ALERT_BELOW).any(axis=1)
    # Bonferroni at 0.001 expects at most two; Pearson's statistic alone alerts far more often.
    assert np.sum(alerts) <= 6
    assert np.sum(alone) > 20


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="weights are"):
        sample_ratio(np.array([1.0, 2.0]), np.array([1.0, -1.0]))


BROWSERS = np.array([[5050.0, 4990.0], [2000.0, 2030.0], [1500.0, 1100.0], [0.0, 0.0]])


def test_each_value_of_a_dimension_is_tested_and_the_cause_is_named() -> None:
    ours = sample_ratio_by_value(BROWSERS, np.ones(2))
    for value in range(3):
        alone = sample_ratio(BROWSERS[value], np.ones(2))
        assert ours.p_value[value] == pytest.approx(alone.p_value)
        assert ours.adjusted_p[value] == pytest.approx(min(1.0, 3 * ours.p_value[value]))
    assert ours.alert.tolist() == [False, False, True, False]
    assert ours.gap[3] == Gap.NO_UNITS
    assert ours.cause is not None
    assert (ours.cause.value, ours.cause.arm) == (2, 1)
    assert ours.cause.missing_units == pytest.approx(400.0)
    assert isinstance(ours.cause.p_value_without, float)
    assert ours.cause.p_value_without > 0.5
    assert ours.cause.share > 0.95


def test_missing_units_are_counted_by_unequal_weights() -> None:
    units = np.array([[900.0, 60.0, 40.0], [9000.0, 600.0, 400.0]])
    units[0, 1] = 10.0
    ours = sample_ratio_by_value(units, np.array([90.0, 6.0, 4.0]))
    assert ours.cause is not None
    assert (ours.cause.value, ours.cause.arm) == (0, 1)
    assert ours.cause.missing_units == pytest.approx(50.0)


def test_without_an_alert_there_is_no_cause() -> None:
    ours = sample_ratio_by_value(np.array([[500.0, 510.0], [20.0, 30.0]]), np.ones(2))
    assert not ours.alert.any()
    assert ours.cause is None
    single = sample_ratio_by_value(np.array([[500.0, 0.0]]), np.array([1.0, 0.0]))
    assert single.gap[0] == Gap.NOT_APPLICABLE


def test_units_that_no_assignment_explains_are_an_alert_by_value() -> None:
    units = np.array([[500.0, 500.0, 0.0], [500.0, 500.0, 2.0]])
    ours = sample_ratio_by_value(units, np.array([1.0, 1.0, 0.0]))
    assert ours.alert.tolist() == [False, True]


def test_skewness_matches_scipy_and_asks_for_units() -> None:
    rng = np.random.default_rng(1)
    revenue = np.where(rng.random(4000) < 0.03, rng.lognormal(3, 1, 4000), 0.0)
    centred = revenue - revenue.mean()
    ours = skewness(np.array(4000.0), np.mean(centred**2), np.mean(centred**3))
    assert ours.value == pytest.approx(stats.skew(revenue))
    assert ours.units_needed == np.ceil(355 * stats.skew(revenue) ** 2)
    assert ours.short
    one = np.ones(())
    assert not skewness(500 * one, one, one).short
    assert skewness(300 * one, one, one).short


def test_skewness_without_variation_has_a_reason() -> None:
    ours = skewness(np.array([0.0, 1.0, 9.0]), np.zeros(3), np.zeros(3))
    assert ours.gap.tolist() == [Gap.NO_UNITS, Gap.ONE_UNIT, Gap.ZERO_VARIANCE]
    assert not ours.short.any()


def test_complete_cohorts_are_a_share_of_the_exposed() -> None:
    ours = completeness(np.array([50.0, 0.0]), np.array([200.0, 0.0]))
    assert ours.share[0] == pytest.approx(0.25)
    assert ours.gap[1] == Gap.NO_UNITS
    with pytest.raises(ValueError, match="complete_units"):
        completeness(np.array([2.0]), np.array([1.0]))
