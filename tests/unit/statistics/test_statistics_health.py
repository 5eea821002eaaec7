"""The sample-ratio check against scipy and the mistakes that others make."""

import numpy as np
import pytest
from scipy import stats
from touchstone_statistics.gaps import Gap, NotEstimable
from touchstone_statistics.health import sample_ratio


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
