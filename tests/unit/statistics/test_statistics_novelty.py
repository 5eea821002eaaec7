"""Effects over time since exposure, against least squares and with units that come back."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import GLS, WLS
from touchstone_statistics.gaps import Gap
from touchstone_statistics.moments import Moments
from touchstone_statistics.novelty import TimedEffects, Trend, change, slope

DAYS = np.arange(1.0, 8.0)


def independent(value: np.ndarray, std_err: np.ndarray | float) -> TimedEffects:
    variance = np.broadcast_to(np.asarray(std_err) ** 2, value.shape)
    return TimedEffects.independent(value, variance, np.zeros(value.shape, dtype=np.uint8))


def test_independent_periods_match_weighted_least_squares() -> None:
    rng = np.random.default_rng(1)
    y, s = rng.normal(size=(3, 7)), rng.uniform(0.5, 2, (3, 7))
    ours = slope(independent(y, s), DAYS)
    for row in range(3):
        fit = WLS(y[row], np.column_stack([np.ones(7), DAYS]), 1 / s[row] ** 2).fit(
            cov_type="fixed scale"
        )
        assert ours.per_day[row] == pytest.approx(fit.params[1])
        assert ours.std_err[row] == pytest.approx(fit.bse[1])
        assert ours.p_value[row] == pytest.approx(
            2 * stats.norm.sf(abs(fit.params[1] / fit.bse[1]))
        )
        assert ours.first[row] == pytest.approx(fit.params[0] + fit.params[1])
        assert ours.last[row] == pytest.approx(fit.params[0] + 7 * fit.params[1])


@pytest.mark.parametrize(
    ("first", "last", "trend"),
    [
        (3.0, 1.0, Trend.FADING),
        (-3.0, -1.0, Trend.FADING),
        (1.0, 3.0, Trend.GROWING),
        (-1.0, -3.0, Trend.GROWING),
        (2.0, -2.0, Trend.REVERSING),
        (2.0, 2.0, Trend.NONE_SEEN),
    ],
)
def test_the_course_is_read_in_words(first: float, last: float, trend: Trend) -> None:
    ours = slope(independent(np.linspace(first, last, 7), 0.1), DAYS)
    assert Trend(int(ours.trend)) is trend
    assert (ours.first, ours.last) == pytest.approx((first, last))
    vague = slope(independent(np.linspace(first, last, 7), 50.0), DAYS)
    assert Trend(int(vague.trend)) is Trend.NONE_SEEN


def returning(rng: np.random.Generator, units: int, effect: np.ndarray) -> Moments:
    """Units whose daily values share a large part of their own."""
    rows = rng.normal(0, 2, (units, 1)) + rng.normal(effect, 1.0, (units, len(effect)))
    return Moments.from_rows(rows)


def test_units_that_come_back_do_not_mislead_the_slope() -> None:
    # 1,500 experiments without any trend: the level holds with the covariance of the days, and
    # taking the days for independent hides almost every trend.
    rng = np.random.default_rng(2)
    right, wrong = [], []
    for _ in range(1500):
        arms = [returning(rng, 60, np.full(5, level)) for level in (0.0, 1.0)]
        ours = TimedEffects.of(*arms)
        right.append(slope(ours, DAYS[:5]).p_value)
        diagonal = np.diagonal(ours.covariance)
        wrong.append(slope(independent(ours.value, np.sqrt(diagonal)), DAYS[:5]).p_value)
    # Monte Carlo standard error 0.6 points; a normal quantile at 118 degrees adds 0.3.
    assert np.mean(np.array(right) < 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(np.array(wrong) < 0.05) < 0.005


def test_a_change_between_windows_is_the_generalised_least_squares_residual() -> None:
    rng = np.random.default_rng(3)
    ours = TimedEffects.of(
        returning(rng, 300, np.zeros(4)), returning(rng, 200, np.array([1, 1, 0.5, 0.2]))
    )
    fit = GLS(ours.value, np.ones((4, 1)), sigma=ours.covariance).fit()
    found = change(ours)
    assert found.statistic == pytest.approx(float(fit.wresid @ fit.wresid))
    assert found.p_value == pytest.approx(stats.chi2.sf(float(found.statistic), 3))
    assert found.dof == 3


def test_two_windows_are_a_paired_comparison() -> None:
    rng = np.random.default_rng(4)
    rows = [rng.normal(0, 2, (400, 1)) + rng.normal(e, 1, (400, 2)) for e in ([0, 0], [1, 0.4])]
    ours = change(TimedEffects.of(*(Moments.from_rows(arm) for arm in rows)))
    gain = [arm[:, 0] - arm[:, 1] for arm in rows]
    z = (gain[1].mean() - gain[0].mean()) / np.sqrt(sum(g.var(ddof=1) / 400 for g in gain))
    assert ours.statistic == pytest.approx(z**2)


def test_periods_without_variation_are_left_out() -> None:
    value = np.array([1.0, 2.0, 7.0])
    gap = np.array([0, 0, Gap.ZERO_VARIANCE], dtype=np.uint8)
    part = TimedEffects.independent(value, np.array([1.0, 1.0, 0.0]), gap)
    alone = independent(value[:2], 1.0)
    assert slope(part, DAYS[:3]).per_day == pytest.approx(slope(alone, DAYS[:2]).per_day)
    assert change(part).statistic == pytest.approx(change(alone).statistic)
    assert change(part).dof == 1


def test_missing_knowledge_has_a_reason() -> None:
    nobody = TimedEffects.of(Moments.empty((), 3), Moments.from_rows(np.ones((1, 3))))
    assert nobody.gap.tolist() == [Gap.NO_UNITS] * 3
    assert slope(nobody, DAYS[:3]).gap == Gap.NOT_APPLICABLE
    assert change(nobody).gap == Gap.NOT_APPLICABLE
    assert slope(independent(np.ones(1), 1.0), DAYS[:1]).gap == Gap.NOT_APPLICABLE
