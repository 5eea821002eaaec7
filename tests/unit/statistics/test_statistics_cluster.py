"""Clusters and switchbacks against statsmodels, enumeration and simulation with a naive twin."""

import itertools

import numpy as np
import pytest
import statsmodels.api as sm
from touchstone_statistics.cluster import Sums, by_cluster, cluster_robust, design_effect
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, Ratio, estimate
from touchstone_statistics.gaps import FloatArray, Gap, NotEstimable
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side
from touchstone_statistics.moments import Moments
from touchstone_statistics.switchback import carry_over, permutation_test


def switchback(rng: np.random.Generator, shape: tuple[int, int], effect: float = 0.0) -> Sums:
    """Regions by windows with a level of each region, shocks that last, and uneven sizes."""
    regions, windows = shape
    level = rng.normal(10, 3, (regions, 1))
    shock = rng.normal(0, 1, (regions, windows))
    shock[:, 1:] += 0.5 * shock[:, :-1]
    arm = rng.permuted(np.tile(np.arange(windows) % 2, (regions, 1)), axis=1)
    size = np.asarray(rng.poisson(40, shape) + 1, dtype=np.float64)
    total = size * (level + shock + effect * arm)
    region = np.repeat(np.arange(regions), windows)
    return Sums(total.ravel(), size.ravel(), arm.ravel(), region)


def test_any_dependence_within_clusters_matches_statsmodels() -> None:
    sums = switchback(np.random.default_rng(1), (12, 30), 0.5)
    contrast = cluster_robust(sums, 2).contrast(0)
    design = np.column_stack([np.ones(sums.arm.size), sums.arm])
    fit = sm.WLS(sums.total / sums.size, design, weights=sums.size).fit(
        cov_type="cluster", cov_kwds={"groups": sums.cluster, "use_correction": False}
    )
    # Ours has the factor G / (G - 1), theirs none here.
    assert contrast.difference[0] == pytest.approx(fit.params[1], rel=1e-10)
    assert contrast.std_err[0] == pytest.approx(fit.bse[1] * np.sqrt(12 / 11), rel=1e-10)
    assert contrast.dof[0] == 11
    robust = fit.cov_params()
    assert contrast.control.variance[0] == pytest.approx(robust[0, 0] * 12 / 11, rel=1e-10)


def test_whole_clusters_are_the_observations() -> None:
    total, size = np.array([10.0, 30.0, 22.0, 9.0, 40.0]), np.array([5.0, 10.0, 8.0, 3.0, 11.0])
    arm = np.array([0, 0, 0, 1, 1])
    ours = by_cluster(Sums(total, size, arm, np.array([7, 3, 5, 4, 9])), 2)
    for number in (0, 1):
        rows = np.column_stack([total, size])[arm == number]
        expected = estimate(Moments.from_rows(rows), Ratio(0, 1))
        assert ours.value[number] == pytest.approx(expected.value, rel=1e-12)
        assert ours.variance[number] == pytest.approx(expected.variance, rel=1e-12)
    assert ours.units.tolist() == [3, 2]
    assert ours.dof.tolist() == [2, 1]
    # Groups of one cluster count together.
    split = Sums(
        np.array([4.0, 6.0, *total[1:]]),
        np.array([2.0, 3.0, *size[1:]]),
        np.array([0, *arm]),
        np.array([7, 7, 3, 5, 4, 9]),
    )
    np.testing.assert_allclose(by_cluster(split, 2).variance, ours.variance, rtol=1e-12)


def test_false_alarms_keep_their_level_and_single_units_do_not() -> None:
    rng = np.random.default_rng(2)
    repetitions, clusters, members = 1500, 30, 20
    level = rng.normal(0, 1, (repetitions, clusters, 1))
    values = 10 + level + rng.normal(0, 2, (repetitions, clusters, members))
    size = np.full((repetitions, clusters), float(members))
    sums = Sums(values.sum(axis=2), size, np.arange(clusters) % 2, np.arange(clusters))
    ours = by_cluster(sums, 2)
    contrast = Contrast(ours[:, :1], ours[:, 1:])
    # 1,500 trials: Monte Carlo standard error 0.56 points; four of them.
    assert np.mean(Fixed().read(contrast).p_value < 0.05) == pytest.approx(0.05, abs=0.023)
    naive = [single_units(values[:, start::2]) for start in (0, 1)]
    single = Contrast(estimate(naive[0], Mean(0)), estimate(naive[1], Mean(0)))
    assert np.mean(Fixed().read(single).p_value < 0.05) > 0.25
    # Kish: 1 + (m - 1) times the intraclass correlation of 1 / 5.
    found = design_effect(ours[:, 0], single.control)
    assert float(found.factor.mean()) == pytest.approx(1 + 19 * 0.2, rel=0.05)


def single_units(values: FloatArray) -> Moments:
    flat = values.reshape(values.shape[0], -1)
    spread = flat.var(axis=1) * flat.shape[1]
    return Moments.of(
        np.full(len(flat), flat.shape[1]), flat.mean(axis=1)[:, None], spread[:, None, None]
    )


def test_switchbacks_keep_their_level_by_region() -> None:
    rng = np.random.default_rng(3)
    trials = [switchback(rng, (25, 12)) for _ in range(400)]
    p_values = [
        float(Fixed().read(cluster_robust(sums, 2).contrast(0)).p_value[0]) for sums in trials
    ]
    # 400 trials: Monte Carlo standard error 1.1 points; three of them.
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.033)


def test_metrics_are_analysed_together() -> None:
    rng = np.random.default_rng(4)
    one, two = switchback(rng, (8, 10)), switchback(rng, (8, 10))
    both = Sums(
        np.stack([one.total, two.total]), np.stack([one.size, two.size]), one.arm, one.cluster
    )
    together = cluster_robust(both, 2)
    alone = cluster_robust(Sums(two.total, two.size, one.arm, one.cluster), 2)
    np.testing.assert_allclose(together.covariance[1], alone.covariance, rtol=1e-12)
    np.testing.assert_allclose(together.arms.value[1], alone.arms.value, rtol=1e-12)


def test_the_permutation_p_value_is_that_of_all_assignments() -> None:
    y = np.array([3.0, 5.0, 4.0, 9.0, 8.0, 7.5, 2.0])
    arm = np.array([0, 0, 0, 1, 1, 1, 0])

    def statistic(treated: tuple[int, ...]) -> float:
        mask = np.isin(np.arange(7), treated)
        a, b = y[~mask], y[mask]
        spread = a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)
        return float((b.mean() - a.mean()) / np.sqrt(spread))

    every = [statistic(chosen) for chosen in itertools.combinations(range(7), 3)]
    seen = statistic((3, 4, 5))
    sums = Sums(y, np.ones(7), arm, np.zeros(7, dtype=np.intp))
    for side, far in (
        (Side.TWO_SIDED, np.abs(every) >= abs(seen) - 1e-9),
        (Side.GREATER, np.array(every) >= seen - 1e-9),
        (Side.LESS, np.array(every) <= seen + 1e-9),
    ):
        rng = np.random.default_rng(5)
        ours = permutation_test(sums, np.arange(7), rng, 4000, side)
        assert ours.statistic == pytest.approx(seen)
        assert ours.p_value == pytest.approx(float(np.mean(far)), abs=0.012)


def test_the_permutation_test_keeps_its_level_with_few_regions() -> None:
    rng = np.random.default_rng(6)
    p_values = []
    for _ in range(300):
        sums = switchback(rng, (3, 14))
        result = permutation_test(sums, np.arange(sums.arm.size), rng, 199)
        assert isinstance(result.p_value, float)
        p_values.append(result.p_value)
    # 300 trials: Monte Carlo standard error 1.3 points; three of them.
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.038)
    strong = switchback(np.random.default_rng(7), (3, 40), 6.0)
    found = permutation_test(strong, np.arange(120), np.random.default_rng(8), 199)
    assert found.p_value == 1 / 200


def test_windows_that_change_everywhere_are_exchanged_as_a_whole() -> None:
    rng = np.random.default_rng(9)
    windows = np.tile(np.arange(10), 4)
    shared = np.repeat(rng.normal(0, 5, 10)[None], 4, axis=0).ravel()
    sums = Sums(20 + shared, np.ones(40), windows % 2, np.repeat(np.arange(4), 10))
    result = permutation_test(sums, windows, np.random.default_rng(10), 499)
    assert isinstance(result.p_value, float)
    assert result.p_value > 0.05
    again = permutation_test(sums, windows, np.random.default_rng(10), 499)
    assert again == result


def carried(rng: np.random.Generator, rest: float) -> tuple[Sums, np.ndarray]:
    """A switchback in which a share `rest` of the last window's effect of 2 remains."""
    arm = rng.integers(0, 2, (30, 40))
    level = rng.normal(10, 3, (30, 1)) + rng.normal(0, 0.5, (30, 40))
    previous = np.column_stack([np.full(30, -1), arm[:, :-1]])
    total = level + 2.0 * arm + 2.0 * rest * np.maximum(previous, 0)
    region = np.repeat(np.arange(30), 40)
    return Sums(total.ravel(), np.ones(1200), arm.ravel(), region), previous.ravel()


def test_what_the_last_window_left_behind_is_seen() -> None:
    rng = np.random.default_rng(11)
    contrast = carry_over(*carried(rng, 0.3))
    assert contrast.difference[0] == pytest.approx(0.6, abs=4 * float(contrast.std_err[0]))
    assert Fixed().read(contrast).p_value[0] < 0.05
    calm = [float(Fixed().read(carry_over(*carried(rng, 0.0))).p_value[0]) for _ in range(200)]
    # 200 trials: Monte Carlo standard error 1.5 points; three of them.
    assert np.mean(np.array(calm) < 0.05) == pytest.approx(0.05, abs=0.046)


def test_what_cannot_be_known_has_a_reason() -> None:
    zeros = np.zeros(3, dtype=np.intp)
    lone = Sums(np.arange(3.0), np.ones(3), zeros, np.arange(3))
    assert cluster_robust(lone, 2).arms.gap.tolist() == [Gap.NONE, Gap.NO_UNITS]
    assert by_cluster(lone, 2).gap.tolist() == [Gap.NONE, Gap.NO_UNITS]
    test = permutation_test(lone, np.arange(3), np.random.default_rng(1))
    assert test.p_value == NotEstimable(Gap.NO_UNITS)
    flat = Sums(np.ones(4), np.ones(4), np.array([0, 1, 0, 1]), np.zeros(4, dtype=np.intp))
    assert permutation_test(flat, np.arange(4), np.random.default_rng(1)).statistic == NotEstimable(
        Gap.ZERO_VARIANCE
    )
    single = cluster_robust(flat, 2)
    assert single.arms.spread_gap.tolist() == [Gap.ONE_UNIT, Gap.ONE_UNIT]


def test_senseless_input_is_refused() -> None:
    one = np.ones(2)
    codes = np.array([0, 1])
    with pytest.raises(ValueError, match="all must be the same"):
        Sums(one, one, codes, np.zeros(3, dtype=np.intp))
    with pytest.raises(ValueError, match="count from 0"):
        Sums(one, one, codes - 1, codes)
    both = Sums(one, one, codes, np.zeros(2, dtype=np.intp))
    with pytest.raises(ValueError, match="is in two arms"):
        by_cluster(both, 2)
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="each must have one arm"):
        permutation_test(both, np.zeros(2, dtype=np.intp), rng)
    with pytest.raises(ValueError, match="allowed are 0 and 1"):
        permutation_test(Sums(one, one, codes + 1, codes), codes, rng)
    with pytest.raises(ValueError, match="must have one axis"):
        permutation_test(Sums(one[None], one[None], codes, codes), codes, rng)
    with pytest.raises(ValueError, match="repetitions is"):
        permutation_test(both, codes, rng, 0)
    with pytest.raises(ValueError, match="previous has shape"):
        carry_over(both, np.zeros(3, dtype=np.intp))
    with pytest.raises(ValueError, match="weights has shape"):
        cluster_robust(both, 2).combine(np.ones((1, 3)))
