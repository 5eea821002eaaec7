"""Post-stratification: its formula, its precision, its coverage and strata that are too small."""

import numpy as np
import pytest
from touchstone_statistics.adjust import adjust
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, estimate
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments
from touchstone_statistics.strata import poststratify


def cells(values: list[list[list[float]]]) -> Moments:
    """Moments with axes strata and arms from lists of values."""
    each = [[Moments.from_rows(np.reshape(arm, (-1, 1))) for arm in line] for line in values]
    return Moments.of(
        [[m.units for m in line] for line in each],
        [[m.mean for m in line] for line in each],
        [[m.co_moment for m in line] for line in each],
    )


SMALL = [
    [[1.0, 2.0, 4.0], [2.0, 3.0, 5.0, 6.0]],
    [[10.0, 12.0], [13.0, 15.0, 14.0]],
]


def test_the_formula_of_miratrix_sekhon_and_yu() -> None:
    ours = poststratify(cells(SMALL), Mean(0))
    contrast = ours.joint.contrast(0)
    weights = np.array([7, 5]) / 12
    effects = np.array([np.mean(t) - np.mean(c) for c, t in SMALL])
    tau = weights @ effects
    within = [np.var(c, ddof=1) / len(c) + np.var(t, ddof=1) / len(t) for c, t in SMALL]
    expected = weights**2 @ within + (weights @ effects**2 - tau**2) / 12
    np.testing.assert_allclose(ours.weights, weights)
    assert contrast.difference[0] == pytest.approx(tau, rel=1e-12)
    assert contrast.variance[0] == pytest.approx(expected, rel=1e-12)
    assert not ours.merged.any()
    parts = np.array(
        [
            weights**2 * [np.var(arm, ddof=1) / len(arm) for arm in arms]
            for arms in zip(*SMALL, strict=True)
        ]
    )
    counts = np.array([[len(arm) for arm in arms] for arms in zip(*SMALL, strict=True)])
    freedom = parts.sum(axis=1) ** 2 / (parts**2 / (counts - 1)).sum(axis=1)
    np.testing.assert_allclose(ours.joint.arms.dof, freedom, rtol=1e-12)


def test_one_stratum_is_no_stratification() -> None:
    flat = [[[1.0, 2.0, 4.0, 9.0], [2.0, 3.0, 5.0]]]
    ours = poststratify(cells(flat), Mean(0))
    np.testing.assert_allclose(ours.joint.arms.value, ours.plain.value, rtol=1e-12)
    np.testing.assert_allclose(ours.joint.arms.variance, ours.plain.variance, rtol=1e-12)
    ours_p = Fixed().read(ours.joint.contrast(0)).p_value[0]
    assert ours_p == pytest.approx(Fixed().read(Contrast(ours.plain[0], ours.plain[1])).p_value)


MEANS = np.array([[10.0, 11.0], [20.0, 22.5], [40.0, 43.0]])
MIX = np.array([0.5, 0.3, 0.2])


def trials(seed: int, repetitions: int, units: int, effect: float) -> Moments:
    """Moments with axes trials, strata, arms: each unit draws a stratum and an arm by chance."""
    rng = np.random.default_rng(seed)
    sizes = rng.multinomial(units, np.outer(MIX, [0.5, 0.5]).ravel(), repetitions).reshape(-1, 3, 2)
    centre = MEANS[:, :1] + effect * (MEANS - MEANS[:, :1])
    mean = centre + rng.normal(size=sizes.shape) * 5 / np.sqrt(sizes)
    squares = 25 * rng.chisquare(np.maximum(sizes - 1, 1))
    return Moments.of(sizes, mean[..., None], squares[..., None, None])


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_estimates_are_unbiased_narrower_and_cover(effect: float) -> None:
    repetitions = 6000
    moments = trials(1, repetitions, 600, effect)
    ours = poststratify(moments, Mean(0))
    contrast = ours.joint.contrast(0)
    reading = Fixed().read(contrast)
    truth = effect * float(MIX @ (MEANS[:, 1] - MEANS[:, 0]))
    lift = truth / float(MIX @ MEANS[:, 0])
    spread = float(contrast.difference.std())
    assert abs(float(contrast.difference.mean()) - truth) < 2.5 * spread / np.sqrt(repetitions)
    assert contrast.std_err.mean() == pytest.approx(spread, rel=0.02)
    # 6,000 trials: Monte Carlo standard error 0.28 points; four of them.
    assert np.mean(reading.difference.excludes(truth)) == pytest.approx(0.05, abs=0.012)
    assert np.mean(reading.lift.excludes(lift)) == pytest.approx(0.05, abs=0.012)
    plain = np.sqrt(ours.plain.variance.sum(axis=-1))
    assert contrast.std_err.mean() < 0.5 * plain.mean()


def test_it_agrees_with_regression_on_the_strata() -> None:
    rng = np.random.default_rng(2)
    values: list[list[list[float]]] = []
    rows: list[list[FloatArray]] = [[], []]
    for stratum, base in enumerate((1.0, 4.0, 9.0)):
        line = []
        for arm in (0, 1):
            y = base + 0.5 * arm + rng.normal(size=400)
            marks = np.tile(np.eye(3)[stratum, 1:], (400, 1))
            rows[arm].append(np.column_stack([y, marks]))
            line.append(list(y))
        values.append(line)
    ours = poststratify(cells(values), Mean(0)).joint.contrast(0)
    arms = [Moments.from_rows(np.concatenate(part)) for part in rows]
    stacked = Moments.of(
        [m.units for m in arms], [m.mean for m in arms], [m.co_moment for m in arms]
    )
    regression = adjust(stacked, Mean(0), [Mean(1), Mean(2)], per_arm=True).joint.contrast(0)
    assert ours.difference[0] == pytest.approx(regression.difference[0], rel=1e-9)
    assert ours.std_err[0] == pytest.approx(regression.std_err[0], rel=5e-3)
    assert ours.control.variance[0] == pytest.approx(regression.control.variance[0], rel=5e-3)


def test_strata_too_small_for_a_variance_join_the_largest() -> None:
    values: list[list[list[float]]] = [*SMALL, [[30.0], [31.0, 32.0]], [[], []], [[7.0, 8.0], []]]
    ours = poststratify(cells(values), Mean(0))
    assert ours.merged.tolist() == [False, False, True, False, True]
    joined = poststratify(
        cells([[[*SMALL[0][0], 30.0, 7.0, 8.0], [*SMALL[0][1], 31.0, 32.0]], SMALL[1]]), Mean(0)
    )
    np.testing.assert_allclose(ours.joint.arms.value, joined.joint.arms.value, rtol=1e-12)
    np.testing.assert_allclose(ours.joint.covariance, joined.joint.covariance, rtol=1e-12)
    assert ours.weights[2:].tolist() == [0, 0, 0]


def test_an_arm_without_units_is_a_gap_and_joins_nothing() -> None:
    ours = poststratify(cells([[*line, []] for line in SMALL]), Mean(0))
    alone = poststratify(cells(SMALL), Mean(0))
    assert not ours.merged.any()
    assert ours.joint.arms.gap.tolist() == [Gap.NONE, Gap.NONE, Gap.NO_UNITS]
    np.testing.assert_allclose(ours.joint.covariance[:2, :2], alone.joint.covariance, rtol=1e-12)


def test_every_slice_is_stratified_alone() -> None:
    moments = trials(3, 4, 60, 1.0)
    together = poststratify(moments, Mean(0))
    for index in range(4):
        alone = poststratify(moments[index], Mean(0))
        np.testing.assert_allclose(together.joint.arms.value[index], alone.joint.arms.value)
        np.testing.assert_array_equal(together.merged[index], alone.merged)


def test_the_merged_total_is_what_it_was() -> None:
    ours = poststratify(cells([*SMALL, [[30.0], [31.0]]]), Mean(0))
    expected = estimate(cells([*SMALL, [[30.0], [31.0]]]).total(axis=0), Mean(0))
    np.testing.assert_allclose(ours.plain.value, expected.value)
