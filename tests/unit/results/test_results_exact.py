"""Moments out of whole numbers: against exact fractions, numpy and scipy."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from services.results.domain.exact import Cell, Coarse, Sums


@pytest.mark.parametrize("shift", [0, 10**9, -(10**15)])
def test_exact_sums_do_not_cancel(shift: int) -> None:
    values = [shift + x for x in (0, 1, 2, 5, 9, 9)]
    cell = Cell(6, (sum(values),), (sum(x * x for x in values),))
    moments = Sums((0,), ((cell, Cell(0, (0,), (0,))),)).moments
    assert moments.mean[0, 0, 0] == float(Fraction(sum(values), 6))
    assert moments.covariance[0, 0, 0, 0] == pytest.approx(np.var([0, 1, 2, 5, 9, 9], ddof=1))
    assert moments.units.tolist() == [[6, 0]]
    assert moments.mean[0, 1].tolist() == [0.0]


def test_columns_in_different_steps_have_the_covariances_of_numpy() -> None:
    rows = np.random.default_rng(1).integers(-1000, 1000, (50, 3))
    exponents = (0, -3, 5)
    cell = cell_of(rows)
    moments = Sums(exponents, ((cell,),)).moments[0, 0]
    scaled = rows * np.ldexp(1.0, np.array(exponents))
    assert moments.mean == pytest.approx(scaled.mean(axis=0), rel=1e-14)
    assert moments.covariance == pytest.approx(np.cov(scaled.T), rel=1e-12)


def test_skewness_is_that_of_scipy_and_zero_without_spread() -> None:
    values = np.random.default_rng(2).lognormal(5, 1, 200).round().astype(int)
    flat = np.full(7, 3)
    sums = Sums((0,), ((cell_of(values[:, None]), cell_of(flat[:, None])),))
    assert sums.skewness[0] == pytest.approx([stats.skew(values), 0.0], rel=1e-9)


def test_sums_beyond_a_double_are_infinite() -> None:
    sums = Sums((1000,), ((Cell(2, (2**60,), (2**119,)),),))
    assert sums.totals[0, 0, 0] == float("inf")
    assert sums.moments.mean[0, 0, 0] == float("inf")


def cell_of(rows: np.ndarray) -> Cell:
    whole = rows.astype(object)
    one, other = np.triu_indices(rows.shape[1])
    powers = [
        int(x) for x in (whole[:, 0].sum(), (whole[:, 0] ** 2).sum(), (whole[:, 0] ** 3).sum())
    ]
    products = (whole[:, one] * whole[:, other]).sum(axis=0)
    return Cell(len(rows), tuple(whole.sum(axis=0)), tuple(products), Coarse(*powers))
