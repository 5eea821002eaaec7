"""Interactions against the contrast of four cells, least squares and the promised level."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import WLS
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.interactions import assignment_dependence, joint_interaction


def cells(value: object, variance: object) -> Estimate:
    y = np.asarray(value, dtype=float)
    v = np.broadcast_to(np.asarray(variance, dtype=float), y.shape)
    none = np.zeros(y.shape, dtype=np.uint8)
    return Estimate(y, v, np.full(y.shape, 1000.0), none, none)


def test_four_cells_are_the_difference_of_differences() -> None:
    y, v = np.array([[10.0, 11.0], [10.5, 12.5]]), np.array([[0.1, 0.2], [0.3, 0.15]])
    ours = joint_interaction(cells(y, v))
    z = ((y[1, 1] - y[1, 0]) - (y[0, 1] - y[0, 0])) / np.sqrt(v.sum())
    assert ours.statistic == pytest.approx(z**2)
    assert ours.dof == 1
    assert ours.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_effects_that_add_up_are_no_interaction() -> None:
    a, b, c = np.array([0.0, 1, 2]), np.array([0.0, -3]), np.array([5.0, 5.5])
    y = a[:, None, None] + b[None, :, None] + c + 1e6
    ours = joint_interaction(cells(y, 0.5), experiments=3)
    assert ours.statistic == pytest.approx(0.0, abs=1e-9)
    assert ours.dof == 12 - 1 - 2 - 1 - 1


def test_larger_tables_match_weighted_least_squares() -> None:
    rng = np.random.default_rng(1)
    y, v = rng.normal(size=(5, 3, 4)), rng.uniform(0.1, 2, (5, 3, 4))
    ours = joint_interaction(cells(y, v))
    rows, columns = np.indices((3, 4)).reshape(2, -1)
    design = np.column_stack(
        [np.ones(12), *(rows == i for i in (1, 2)), *(columns == j for j in (1, 2, 3))]
    ).astype(float)
    for batch in range(5):
        fit = WLS(y[batch].ravel(), design, weights=1 / v[batch].ravel()).fit()
        assert ours.statistic[batch] == pytest.approx(fit.wresid @ fit.wresid)
        np.testing.assert_allclose(ours.residual[batch].ravel(), fit.resid, atol=1e-9)
    assert (ours.dof == 6).all()


def test_an_empty_cell_costs_a_degree_of_freedom() -> None:
    whole = cells(np.arange(6.0).reshape(2, 3) ** 2, 1.0)
    gap = np.zeros((2, 3), dtype=np.uint8)
    gap[1, 2] = Gap.NO_UNITS
    ours = joint_interaction(Estimate(whole.value, whole.variance, whole.units, gap, gap))
    without = joint_interaction(cells(np.arange(6.0).reshape(2, 3)[:, :2] ** 2, 1.0))
    assert ours.dof == 1
    square = (np.arange(6.0).reshape(2, 3) ** 2)[:, :2]
    assert without.statistic == pytest.approx(ours.statistic)
    assert without.statistic == pytest.approx((square[1, 1] - square[1, 0] - square[0, 1]) ** 2 / 4)
    gap[:, 1:] = Gap.NO_UNITS
    assert joint_interaction(Estimate(whole.value, whole.variance, whole.units, gap, gap)).gap == (
        Gap.NOT_APPLICABLE
    )


def test_the_level_is_kept_and_interactions_are_found() -> None:
    rng = np.random.default_rng(2)
    base = np.array([0.0, 1.0, 1.5])[:, None] + np.array([0.0, 0.5, -2.0])
    noise = rng.normal(0, 0.3, (8000, 3, 3))
    assert (joint_interaction(cells(base + noise, 0.09)).p_value < 0.05).mean() == pytest.approx(
        0.05, abs=0.01
    )
    base[2, 2] += 1.5
    # The interaction of one cell of nine spreads: 4/9 of its square is orthogonal to both effects.
    power = stats.ncx2.sf(stats.chi2.isf(0.05, 4), 4, 1.5**2 * 4 / 9 / 0.09)
    found = (joint_interaction(cells(base + noise, 0.09)).p_value < 0.05).mean()
    assert found == pytest.approx(power, abs=0.018)


def test_dependence_of_assignments_matches_scipy() -> None:
    units = np.array([[900.0, 1100, 0], [1000, 1010, 0], [980, 990, 0], [0, 0, 0]])
    ours = assignment_dependence(units)
    expected = stats.chi2_contingency(units[:3, :2], correction=False)
    assert ours.statistic == pytest.approx(expected.statistic)
    assert ours.p_value == pytest.approx(expected.pvalue)
    assert ours.dof == 2
    assert ours.alert
    assert not assignment_dependence(np.array([[500.0, 510], [505, 495]])).alert


@pytest.mark.parametrize(
    ("units", "gap"), [(np.zeros((2, 2)), Gap.NO_UNITS), (np.ones((1, 2)), Gap.NOT_APPLICABLE)]
)
def test_tables_without_an_answer_have_a_reason(units: np.ndarray, gap: Gap) -> None:
    ours = assignment_dependence(units)
    assert ours.gap is gap
    assert not ours.alert


def test_senseless_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two experiments"):
        joint_interaction(cells(np.zeros((2, 1)), 1.0))
    with pytest.raises(ValueError, match="table of two"):
        assignment_dependence(np.zeros(3))
