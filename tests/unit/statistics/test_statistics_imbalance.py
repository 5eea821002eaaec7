"""The test of imbalance against Hotelling's T squared, scipy and its own false alarms."""

import numpy as np
import pytest
from scipy import stats
from touchstone_statistics.gaps import Gap
from touchstone_statistics.imbalance import imbalance
from touchstone_statistics.moments import Moments


def stacked(*arms: np.ndarray) -> Moments:
    each = [Moments.from_rows(arm) for arm in arms]
    return Moments.of([m.units for m in each], [m.mean for m in each], [m.co_moment for m in each])


def test_two_arms_are_hotellings_statistic() -> None:
    rng = np.random.default_rng(1)
    left, right = rng.normal(0, 1, (80, 3)), rng.normal(0.1, 2, (120, 3))
    pooled = (79 * np.cov(left.T) + 119 * np.cov(right.T)) / 198
    shift = left.mean(axis=0) - right.mean(axis=0)
    expected = 80 * 120 / 200 * shift @ np.linalg.solve(pooled, shift)
    ours = imbalance(stacked(left, right))
    assert ours.statistic == pytest.approx(expected)
    assert ours.dof == 3
    assert ours.p_value == pytest.approx(stats.chi2.sf(expected, 3))


def test_each_covariate_is_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(2)
    arms = [rng.normal(0, 1, (60, 2)) for _ in range(3)]
    ours = imbalance(stacked(*arms))
    for column in range(2):
        f = stats.f_oneway(*(arm[:, column] for arm in arms)).statistic
        assert ours.by_covariate[column] == pytest.approx(stats.chi2.sf(2 * f, 2))
    assert ours.dof == 4


def test_constant_and_collinear_covariates_add_nothing() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(1e6, 1, (500, 2))
    more = np.column_stack([rows, rows.sum(axis=1), np.full(500, 0.1)])
    plain = imbalance(stacked(rows[:250], rows[250:]))
    ours = imbalance(stacked(more[:250], more[250:]))
    assert ours.dof == 2
    assert ours.statistic == pytest.approx(plain.statistic, rel=1e-6)
    assert ours.covariate_gap.tolist() == [0, 0, 0, Gap.ZERO_VARIANCE]


def test_a_shift_of_one_arm_is_an_alert() -> None:
    rng = np.random.default_rng(4)
    arms = [rng.normal(0, 1, (4000, 2)) for _ in range(3)]
    assert not imbalance(stacked(*arms)).alert
    arms[2][:, 1] += 0.15
    ours = imbalance(stacked(*arms))
    assert ours.alert
    assert np.argmin(ours.by_covariate) == 1
    assert ours.standardised[2, 1] == pytest.approx(0.1, abs=0.03)


def test_false_alarms_are_as_rare_as_promised() -> None:
    # 2,000 experiments of 3 x 400 skewed units: at 5 % the Monte Carlo error is 0.5 points.
    rng = np.random.default_rng(7)
    p_values = [imbalance(stacked(*rng.exponential(1, (3, 400, 4)))).p_value for _ in range(2000)]
    assert 0.035 < np.mean(np.asarray(p_values) < 0.05) < 0.065


@pytest.mark.parametrize(
    ("arms", "gap"),
    [
        ([np.zeros((0, 1)), np.ones((3, 1))], Gap.NOT_APPLICABLE),
        ([np.zeros((1, 1)), np.ones((1, 1))], Gap.ONE_UNIT),
        ([np.full((4, 1), 0.1), np.full((3, 1), 0.1)], Gap.ZERO_VARIANCE),
    ],
)
def test_nothing_to_compare_has_a_reason(arms: list[np.ndarray], gap: Gap) -> None:
    ours = imbalance(stacked(*arms))
    assert ours.gap is gap
    assert not ours.alert
    assert ours.covariate_gap.tolist() == [gap]
