"""Comparisons with one control against Dunnett's tables, scipy and simulation."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side
from touchstone_statistics.shared_control import (
    Rivals,
    critical_value,
    exceedance,
    loadings,
    simultaneous,
)


def equal(count: int, side: Side = Side.TWO_SIDED, correlation: float = 0.5) -> Rivals:
    return Rivals(np.full(count, np.sqrt(correlation)), np.ones(count, dtype=bool), side)


def none(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("count", "dof", "side", "table"),
    [
        # Dunnett (1964), table II (two-sided 5 %), and Dunnett (1955), table 1a (one-sided 5 %).
        (2, np.inf, Side.TWO_SIDED, 2.21),
        (3, np.inf, Side.TWO_SIDED, 2.35),
        (5, np.inf, Side.TWO_SIDED, 2.51),
        (2, 10, Side.TWO_SIDED, 2.57),
        (3, 20, Side.TWO_SIDED, 2.54),
        (2, np.inf, Side.GREATER, 1.92),
        (3, np.inf, Side.GREATER, 2.06),
        (4, 12, Side.GREATER, 2.41),
    ],
)
def test_critical_values_are_those_of_dunnetts_tables(
    count: int, dof: float, side: Side, table: float
) -> None:
    found = critical_value(equal(count, side), 0.05, dof)
    assert float(found) == pytest.approx(table, abs=0.0051)
    assert exceedance(found, equal(count, side), dof) == pytest.approx(0.05, rel=1e-9)


def test_adjusted_p_values_match_scipy_dunnett() -> None:
    rng = np.random.default_rng(1)
    control, arms = rng.normal(0, 1, 15), [rng.normal(m, 1, n) for m, n in ((0.4, 9), (0.9, 20))]
    reference = stats.dunnett(*arms, control=control, rng=np.random.default_rng(2))
    dof = 15 + 9 + 20 - 3
    sizes = np.array([9.0, 20.0])
    rivals = Rivals(np.sqrt(sizes / (sizes + 15)), np.ones(2, dtype=bool))
    for at in range(2):
        ours = exceedance(np.abs(np.asarray(reference.statistic[at])), rivals, dof)
        assert float(ours) == pytest.approx(reference.pvalue[at], abs=3e-4)


def test_without_correlation_it_is_sidaks_level() -> None:
    threshold = np.asarray(2.3)
    single = 2 * stats.norm.sf(2.3)
    ours = exceedance(threshold, equal(4, correlation=0.0))
    assert float(ours) == pytest.approx(1 - (1 - single) ** 4, rel=1e-9)


def test_a_single_treatment_needs_no_adjustment() -> None:
    p = np.array([[0.03], [1e-200], [1.0]])
    rivals = Rivals(np.full((3, 1), 0.7), np.ones((3, 1), dtype=bool))
    ours = simultaneous(p, none(3, 1), rivals, 0.05)
    np.testing.assert_allclose(ours.p_value, p, rtol=1e-9)
    np.testing.assert_allclose(ours.alpha, 0.05, rtol=1e-8)


def test_a_missing_treatment_does_not_count() -> None:
    p = np.array([0.02, 0.5, 0.01])
    gap = np.array([0, Gap.NO_UNITS, 0], dtype=np.uint8)
    load = np.array([0.6, 0.9, 0.7])
    ours = simultaneous(p, gap, Rivals(load, np.ones(3, dtype=bool)), 0.05)
    pair = Rivals(load[[0, 2]], np.ones(2, dtype=bool))
    alone = simultaneous(p[[0, 2]], none(2), pair, 0.05)
    np.testing.assert_allclose(ours.p_value[[0, 2]], alone.p_value, rtol=1e-12)
    assert not ours.rejected[1]
    assert ours.gap[1] == Gap.NO_UNITS


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-6, 6), st.floats(0.05, 5.0)), min_size=1, max_size=5),
    st.sampled_from(list(Side)),
    st.sampled_from([0.01, 0.1]),
)
def test_intervals_at_the_level_agree_with_the_adjusted_p_value(
    arms: list[tuple[float, float]], side: Side, alpha: float
) -> None:
    values, variances = (np.array(part) for part in zip(*arms, strict=True))
    missing, ones = none(len(arms)), np.ones(len(arms))
    control = Estimate(50 * ones[:1], ones[:1], 400 * ones[:1], missing[:1], missing[:1])
    contrast = Contrast(control, Estimate(50 + values, variances, 300 * ones, missing, missing))
    reading = Fixed(side=side).read(contrast)
    rivals = Rivals(loadings(contrast), np.ones(len(arms), dtype=bool), side)
    ours = simultaneous(reading.p_value, reading.gap, rivals, alpha)
    assume((np.abs(ours.p_value / alpha - 1) > 1e-6).all())
    again = Fixed(ours.alpha, side).read(contrast)
    np.testing.assert_array_equal(again.difference.excludes(0.0), ours.rejected)
    np.testing.assert_array_equal(again.lift.excludes(0.0), ours.rejected)


def test_intervals_cover_all_differences_at_once() -> None:
    # 20,000 experiments with a small control; Monte Carlo standard error 0.15 points.
    rng = np.random.default_rng(3)
    variances = np.array([1.0, 0.2, 0.5, 2.0])
    control = rng.normal(0, 1, (20_000, 1))
    error = rng.normal(0, 1, (20_000, 4)) * np.sqrt(variances) - control
    load = np.sqrt(1 / (1 + variances))
    rivals = Rivals(load, np.ones(4, dtype=bool))
    critical = critical_value(rivals, 0.05)
    z = np.abs(error) / np.sqrt(1 + variances)
    assert (z > critical).any(axis=1).mean() == pytest.approx(0.05, abs=0.006)
    assert (z > 1.96).any(axis=1).mean() > 0.11


def test_families_of_a_batch_are_apart() -> None:
    p = np.array([[0.01, 0.2, 0.04], [0.5, 0.001, 0.02]])
    load = np.array([[0.5, 0.6, 0.7], [0.9, 0.1, 0.3]])
    both = simultaneous(p, none(2, 3), Rivals(load, np.ones((2, 3), dtype=bool)), 0.05)
    for row in range(2):
        rivals = Rivals(load[row], np.ones(3, dtype=bool))
        one = simultaneous(p[row], none(3), rivals, 0.05)
        np.testing.assert_allclose(both.p_value[row], one.p_value, rtol=1e-12)
        np.testing.assert_allclose(both.alpha[row], one.alpha, rtol=1e-9)
