"""Regression adjustment against least squares, tea-tasting, simulation and its own invariants."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_statistics.adjust import adjust
from touchstone_statistics.estimand import Mean, Ratio
from touchstone_statistics.gaps import Gap
from touchstone_statistics.independence import independent
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments


def stacked(parts: list[Moments]) -> Moments:
    return Moments.of(
        [m.units for m in parts], [m.mean for m in parts], [m.co_moment for m in parts]
    )


def arms_of(rows: list[np.ndarray]) -> Moments:
    return stacked([Moments.from_rows(arm) for arm in rows])


def trial(seed: int, sizes: tuple[int, ...] = (300, 200, 150)) -> list[np.ndarray]:
    """Outcome and two correlated covariates; slopes differ a little between the arms."""
    rng, arms = np.random.default_rng(seed), []
    for index, size in enumerate(sizes):
        x = rng.normal(size=(size, 2)) @ [[1.0, 0.3], [0.0, 1.0]] + 3
        noise = rng.normal(size=size) * (1.5 + 0.5 * index)
        arms.append(np.column_stack([x @ [1.0 + 0.2 * index, 2.0] + noise + 5 + 0.3 * index, x]))
    return arms


def dummies(arms: list[np.ndarray]) -> np.ndarray:
    return np.repeat(np.eye(len(arms)), [len(arm) for arm in arms], axis=0)


def test_pooled_slopes_are_those_of_the_analysis_of_covariance() -> None:
    arms = trial(1)
    rows = np.concatenate(arms)
    fit = sm.OLS(rows[:, 0], np.column_stack([dummies(arms), rows[:, 1:]])).fit()
    ours = adjust(arms_of(arms), Mean(0), [Mean(1), Mean(2)])
    contrast = ours.joint.contrast(0)
    np.testing.assert_allclose(ours.theta, np.tile(fit.params[3:], (3, 1)), rtol=1e-10)
    np.testing.assert_allclose(contrast.difference, fit.params[1:3] - fit.params[0], rtol=1e-10)
    robust = fit.get_robustcov_results("HC2").cov_params()
    expected = [np.sqrt(robust[a, a] + robust[0, 0] - 2 * robust[a, 0]) for a in (1, 2)]
    np.testing.assert_allclose(contrast.std_err, expected, rtol=0.01)
    assert ours.used.all()


def test_slopes_of_each_arm_are_those_of_the_interacted_regression() -> None:
    arms = trial(2)
    rows, arm = np.concatenate(arms), dummies(arms)
    x = rows[:, 1:] - rows[:, 1:].mean(axis=0)
    interacted = (arm[:, :, None] * x[:, None, :]).reshape(len(rows), -1)
    fit = sm.OLS(rows[:, 0], np.column_stack([arm, interacted])).fit()
    ours = adjust(arms_of(arms), Mean(0), [Mean(1), Mean(2)], per_arm=True)
    np.testing.assert_allclose(ours.joint.arms.value, fit.params[:3], rtol=1e-10)
    np.testing.assert_allclose(ours.theta.ravel(), fit.params[3:], rtol=1e-9)


def test_two_equal_arms_have_the_error_of_least_squares() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 2000)), rng.normal(size=(2, 2000))
    arms = [np.column_stack([y[i] + x[i], x[i]]) for i in (0, 1)]
    rows = np.concatenate(arms)
    fit = sm.OLS(rows[:, 0], np.column_stack([dummies(arms), rows[:, 1]])).fit()
    contrast = adjust(arms_of(arms), Mean(0), [Mean(1)]).joint.contrast(0)
    expected = fit.t_test([-1, 1, 0]).sd[0, 0]
    assert contrast.std_err[0] == pytest.approx(expected, rel=1e-3)


def test_means_and_ratios_match_tea_tasting() -> None:
    data = tt.make_users_data(rng=42, covariates=True, n_users=20_000, return_type="pandas")
    assert isinstance(data, pd.DataFrame)
    names = ["orders", "sessions", "orders_covariate", "sessions_covariate"]
    groups = [data.loc[data.variant == v, names].to_numpy(dtype=float) for v in (0, 1)]
    moments = arms_of(groups)
    theirs = tt.Experiment(
        mean=tt.Mean("orders", "orders_covariate"),
        ratio=tt.RatioOfMeans("orders", "sessions", "orders_covariate", "sessions_covariate"),
    ).analyze(data)
    for name, ours in {
        "mean": adjust(moments, Mean(0), [Mean(2)]),
        "ratio": adjust(moments, Ratio(0, 1), [Ratio(2, 3)]),
    }.items():
        contrast = ours.joint.contrast(0)
        reading = Fixed().read(contrast)
        # Its slope includes the difference between the arms: the same to a few parts in 1e4.
        assert contrast.difference[0] == pytest.approx(theirs[name].effect_size, abs=5e-5)
        assert reading.p_value[0] == pytest.approx(theirs[name].pvalue, rel=0.02)
        assert reading.difference.low[0] == pytest.approx(theirs[name].effect_size_ci_lower, 3e-3)


def simulated(
    rho: float, lift: float, repetitions: int, shares: tuple[float, float] = (1.0, 1.0)
) -> Moments:
    """Batch of bivariate normal trials; mean 10, standard deviation 2 in both columns."""
    rng = np.random.default_rng(4)
    cells = []
    for share, mean in zip(shares, (10.0, 10.0 * (1 + lift)), strict=True):
        size = int(200 * share)
        z = rng.normal(size=(repetitions, size, 2))
        y = mean + 2 * (rho * z[..., 1] + np.sqrt(1 - rho**2) * z[..., 0])
        rows = np.stack([y, 10 + 2 * z[..., 1]], axis=-1)
        means = rows.mean(axis=1)
        centred = rows - means[:, None]
        cells.append((size, means, np.einsum("rni,rnj->rij", centred, centred)))
    return Moments.of(
        np.tile([c[0] for c in cells], (repetitions, 1)),
        np.stack([c[1] for c in cells], axis=1),
        np.stack([c[2] for c in cells], axis=1),
    )


@pytest.mark.parametrize("per_arm", [False, True])
def test_adjusted_estimates_are_unbiased_narrower_and_cover(per_arm: bool) -> None:
    rho, lift, repetitions = 0.9, 0.5, 4000
    ours = adjust(simulated(rho, lift, repetitions), Mean(0), [Mean(1)], per_arm)
    contrast = ours.joint.contrast(0)
    reading = Fixed().read(contrast)
    spread = float(contrast.difference.std())
    # Two Monte Carlo standard errors.
    assert abs(float(contrast.difference.mean()) - 5.0) < 2 * spread / np.sqrt(repetitions)
    assert contrast.std_err.mean() == pytest.approx(spread, rel=0.025)
    shrunk = contrast.std_err / np.sqrt(ours.plain.variance.sum(axis=1, keepdims=True))
    assert shrunk.mean() == pytest.approx(np.sqrt(1 - rho**2), rel=0.02)
    np.testing.assert_allclose(shrunk[:, 0], np.sqrt(1 - ours.r_squared), rtol=0.05)
    # 4,000 trials: Monte Carlo standard error 0.34 points; four of them.
    assert np.mean(reading.difference.excludes(5.0)) == pytest.approx(0.05, abs=0.014)
    assert np.mean(reading.lift.excludes(lift)) == pytest.approx(0.05, abs=0.014)


def test_the_joint_covariance_of_the_arms_is_what_repetition_shows() -> None:
    ours = adjust(simulated(0.9, 0.0, 6000, (1.0, 2.0)), Mean(0), [Mean(1)])
    seen = np.cov(ours.joint.arms.value.T)
    np.testing.assert_allclose(ours.joint.covariance.mean(axis=0), seen, rtol=0.06)
    # Arms that share their centre covary; without that a lift would be given too much certainty.
    assert seen[0, 1] > 0.3 * seen[0, 0]


def test_an_adjusted_ratio_covers() -> None:
    rng = np.random.default_rng(5)
    repetitions, size = 1500, 400
    cells = []
    for _ in range(2):
        taste = rng.gamma(4, 0.5, (repetitions, size))
        visits = [rng.poisson(5, (repetitions, size)) + 1.0 for _ in range(2)]
        orders = [rng.poisson(v * taste) for v in visits]
        cells.append(np.stack([orders[0], visits[0], orders[1], visits[1]], axis=-1))
    rows = np.stack(cells, axis=1)
    means = rows.mean(axis=2)
    centred = rows - means[:, :, None]
    moments = Moments.of(
        np.full((repetitions, 2), size), means, np.einsum("rani,ranj->raij", centred, centred)
    )
    ours = adjust(moments, Ratio(0, 1), [Ratio(2, 3)])
    contrast = ours.joint.contrast(0)
    # 1,500 trials: Monte Carlo standard error 0.56 points; four of them.
    rejected = np.mean(Fixed().read(contrast).p_value < 0.05)
    assert rejected == pytest.approx(0.05, abs=0.023)
    assert contrast.std_err.mean() == pytest.approx(contrast.difference.std(), rel=0.05)
    plain = np.sqrt(ours.plain.variance.sum(axis=1)).mean()
    assert contrast.std_err.mean() < 0.8 * plain


def test_useless_covariates_are_dropped_and_named() -> None:
    arms = trial(6)
    extended = [
        np.column_stack([arm, 2 * arm[:, 1] - arm[:, 2], np.full(len(arm), 7.1)]) for arm in arms
    ]
    both = adjust(arms_of(arms), Mean(0), [Mean(1), Mean(2)])
    more = adjust(arms_of(extended), Mean(0), [Mean(i) for i in (1, 2, 3, 4)])
    assert more.used.sum() == 2
    assert not more.used[3]
    np.testing.assert_allclose(more.joint.arms.value, both.joint.arms.value, rtol=1e-9)
    np.testing.assert_allclose(more.joint.covariance, both.joint.covariance, rtol=1e-9)


def test_nothing_known_before_leaves_the_estimate_as_it_was() -> None:
    arms = [np.column_stack([arm[:, 0], np.zeros(len(arm))]) for arm in trial(7)]
    ours = adjust(arms_of(arms), Mean(0), [Mean(1)])
    assert not ours.used.any()
    assert ours.r_squared == 0
    np.testing.assert_array_equal(ours.joint.arms.value, ours.plain.value)
    np.testing.assert_allclose(ours.joint.arms.variance, ours.plain.variance, rtol=1e-12)


def test_a_ratio_without_any_denominator_before_is_no_covariate() -> None:
    rng = np.random.default_rng(8)
    arms = [np.column_stack([rng.normal(size=(50, 2)) + 3, np.zeros((50, 2))]) for _ in (0, 1)]
    ours = adjust(arms_of(arms), Ratio(0, 1), [Ratio(2, 3)])
    assert not ours.used.any()
    np.testing.assert_array_equal(ours.joint.arms.value, ours.plain.value)


@pytest.mark.parametrize("per_arm", [False, True])
def test_more_covariates_than_units_can_bear_are_not_used(per_arm: bool) -> None:
    arms = trial(9, (2, 2))
    ours = adjust(arms_of(arms), Mean(0), [Mean(1), Mean(2)], per_arm)
    assert not ours.used.any()
    np.testing.assert_array_equal(ours.joint.arms.value, ours.plain.value)


@pytest.mark.parametrize("per_arm", [False, True])
def test_an_arm_without_units_stays_a_gap_and_touches_no_other(per_arm: bool) -> None:
    arms = trial(10, (40, 30))
    two = arms_of(arms)
    three = stacked([two[0], two[1], Moments.empty((), 3)])
    ours, alone = (adjust(m, Mean(0), [Mean(1)], per_arm) for m in (three, two))
    assert ours.used.all()
    np.testing.assert_allclose(ours.joint.arms.value[:2], alone.joint.arms.value, rtol=1e-12)
    np.testing.assert_allclose(ours.joint.covariance[:2, :2], alone.joint.covariance, rtol=1e-12)
    assert ours.joint.arms.gap[2] == Gap.NO_UNITS


@pytest.mark.parametrize("per_arm", [False, True])
def test_a_covariate_that_explains_all_leaves_no_variance(per_arm: bool) -> None:
    rows = [np.random.default_rng(i).normal(5, 1, 30) for i in (0, 1)]
    ours = adjust(arms_of([np.column_stack([r, r]) for r in rows]), Mean(0), [Mean(1)], per_arm)
    contrast = ours.joint.contrast(0)
    assert ours.r_squared == 1.0
    assert contrast.spread_gap[0] == Gap.ZERO_VARIANCE


def test_every_metric_and_slice_has_slopes_of_its_own() -> None:
    each = [[arms_of(trial(10 * m + s)) for s in range(3)] for m in range(2)]
    batch = Moments.of(
        [[m.units for m in line] for line in each],
        [[m.mean for m in line] for line in each],
        [[m.co_moment for m in line] for line in each],
    )
    together = adjust(batch, Mean(0), [Mean(1), Mean(2)])
    assert together.theta.shape == (2, 3, 3, 2)
    for m in range(2):
        for s in range(3):
            alone = adjust(each[m][s], Mean(0), [Mean(1), Mean(2)])
            np.testing.assert_allclose(together.theta[m, s], alone.theta, rtol=1e-12)
            np.testing.assert_allclose(
                together.joint.covariance[m, s], alone.joint.covariance, rtol=1e-12
            )


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
    st.booleans(),
)
def test_the_unit_of_a_covariate_does_not_matter(
    seed: int, offset: float, scale: float, per_arm: bool
) -> None:
    arms = trial(seed, (40, 60))
    moved = [np.column_stack([a[:, 0], scale * a[:, 1] + offset, a[:, 2]]) for a in arms]
    one, other = (
        adjust(arms_of(each), Mean(0), [Mean(1), Mean(2)], per_arm).joint for each in (arms, moved)
    )
    np.testing.assert_allclose(one.arms.value, other.arms.value, rtol=1e-7)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 3))
def test_what_is_kept_has_the_rank_of_the_whole(seed: int, rank: int, extra: int) -> None:
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(50, rank))
    columns = np.column_stack([basis, basis @ rng.normal(size=(rank, extra))])
    covariance = np.cov(columns.T).reshape(rank + extra, rank + extra)
    kept = independent(covariance, np.zeros(rank + extra))
    assert kept.sum() == rank
    assert np.linalg.matrix_rank(covariance[np.ix_(kept, kept)], hermitian=True) == rank


def test_an_adjustment_by_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="covariates is empty"):
        adjust(arms_of(trial(1)), Mean(0), [])
