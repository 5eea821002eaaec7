"""Whatever reads it and whatever it is of: an interval excludes its null exactly when p < alpha."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from touchstone_statistics.adjust import adjust
from touchstone_statistics.anytime import Anytime, AnytimeT
from touchstone_statistics.boundaries import Ledger, Plan, advance
from touchstone_statistics.cluster import Sums, by_cluster, cluster_robust
from touchstone_statistics.contrast import Contrast, interaction
from touchstone_statistics.estimand import Mean, Ratio, estimate
from touchstone_statistics.hybrid import Hybrid
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side
from touchstone_statistics.margins import not_worse
from touchstone_statistics.moments import Moments
from touchstone_statistics.proportions import Proportions
from touchstone_statistics.quantile import QuantileCounts, quantile_estimate, ranks
from touchstone_statistics.sequential import GroupSequential
from touchstone_statistics.strata import poststratify

TRIALS, UNITS, ALPHA = 150, 60, 0.05
Inference = Fixed | GroupSequential | Anytime | AnytimeT | Hybrid


def rows(seed: int, arms: int) -> np.ndarray:
    """Positive, correlated columns with effects of all sizes: (trials, arms, units, 4)."""
    rng = np.random.default_rng(seed)
    before = rng.gamma(4, 1, (TRIALS, arms, UNITS, 2))
    after = before * rng.gamma(8, 1 / 8, before.shape)
    after[..., 0] *= 1 + rng.normal(0, 0.15, (TRIALS, arms, 1))
    return np.concatenate([after, before], axis=-1)


def moments(arms: int = 2) -> Moments:
    return Moments.from_rows(rows(1, arms))


def plain() -> Contrast:
    arms = estimate(moments(3), Mean(0))
    return Contrast(arms[:, :1], arms[:, 1:])


def adjusted() -> Contrast:
    return adjust(moments(3), Ratio(0, 1), [Mean(2), Mean(3)], per_arm=True).joint.contrast(1)


def stratified() -> Contrast:
    parts = rows(2, 2).reshape(TRIALS, 2, 3, 20, 4).swapaxes(1, 2)
    return poststratify(Moments.from_rows(parts), Mean(0)).joint.contrast(0)


def crossed() -> Contrast:
    cells = estimate(moments(4), Mean(0))
    return interaction(*(cells[:, i] for i in range(4)))


def sums(arm: np.ndarray) -> Sums:
    values = rows(3, 2)[..., 0].reshape(TRIALS, -1)
    return Sums(values, np.ones_like(values), arm, np.arange(2 * UNITS) // 6)


def whole_clusters() -> Contrast:
    arms = by_cluster(sums(np.arange(2 * UNITS) // UNITS), 2)
    return Contrast(arms[:, 0], arms[:, 1])


def switchback() -> Contrast:
    return cluster_robust(sums(np.arange(2 * UNITS) % 2), 2).contrast(0)


def quantiles() -> Contrast:
    place, ordered = ranks(UNITS, 0.5), np.sort(rows(4, 2)[..., 0], axis=-1)
    low, centre, high = (ordered[..., int(r) - 1] for r in (place.low, place.centre, place.high))
    arms = quantile_estimate(
        QuantileCounts(np.full(low.shape, float(UNITS)), low, centre, high), 0.5
    )
    return Contrast(arms[:, 0], arms[:, 1])


def negative() -> Contrast:
    """Means below zero, where a rise is a positive lift all the same."""
    flipped = Moments.from_rows(-rows(5, 2))
    arms = estimate(flipped, Mean(0))
    return Contrast(arms[:, 0], arms[:, 1])


def third_look(side: Side) -> GroupSequential:
    plan, ledger = Plan(1000, ALPHA, side), Ledger()
    for units in (200, 400, 700):
        ledger = advance(plan, ledger, units)
    return GroupSequential(plan, ledger)


CONTRASTS = [
    plain, adjusted, stratified, crossed, whole_clusters, switchback, quantiles, negative
]  # fmt: skip
INFERENCES: dict[str, Callable[[Side], Inference]] = {
    "fixed": lambda side: Fixed(ALPHA, side),
    "group sequential": third_look,
    "anytime": lambda side: Anytime(200.0, ALPHA, side),
    "anytime t": lambda side: AnytimeT(20.0, ALPHA, side),
    "hybrid": lambda side: Hybrid(100.0, ALPHA, side),
}


@pytest.mark.parametrize("name", INFERENCES)
@pytest.mark.parametrize("make", CONTRASTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("null_lift", [0.0, -0.1, 0.05])
def test_interval_and_p_value_are_one_statement(
    name: str, make: Callable[[], Contrast], null_lift: float
) -> None:
    contrast = replace(make(), null_lift=null_lift)
    for side in Side:
        reading = INFERENCES[name](side).read(contrast)
        assert not reading.gap.any()
        clear = np.abs(reading.p_value / ALPHA - 1) > 1e-6
        rejected = (reading.p_value < ALPHA)[clear]
        np.testing.assert_array_equal(reading.difference.excludes(0.0)[clear], rejected)
        np.testing.assert_array_equal(reading.lift.excludes(null_lift)[clear], rejected)
    assert clear.mean() > 0.9


def test_a_margin_makes_it_easier_and_never_moves_the_lift() -> None:
    contrast = plain()
    strict, lenient = (
        Fixed(ALPHA, Side.GREATER).read(not_worse(contrast, margin)) for margin in (0.0, 0.1)
    )
    assert np.all(lenient.p_value < strict.p_value)
    np.testing.assert_allclose(lenient.lift.low, strict.lift.low, atol=0.005)


def test_each_comparison_may_have_a_level_of_its_own() -> None:
    rng = np.random.default_rng(6)
    level = rng.uniform(0.001, 0.2, (TRIALS, 2))
    rate = rng.binomial(40, 0.2, (TRIALS, 3)) / 40
    spread = (40 * rate * (1 - rate))[..., None, None]
    arms = estimate(Moments(np.full((TRIALS, 3), 40.0), rate[..., None], spread), Mean(0))
    contrast = Contrast(arms[:, :1], arms[:, 1:])
    for below in (0.0, 8.0, np.inf):
        reading = Proportions(level, below=below).read(contrast)
        clear = np.abs(reading.p_value / level - 1) > 1e-6
        np.testing.assert_array_equal(
            reading.lift.excludes(0.0)[clear], (reading.p_value < level)[clear]
        )
