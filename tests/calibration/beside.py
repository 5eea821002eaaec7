"""What stands beside a comparison: chosen effects, clusters, windows of time, revenue."""

from functools import partial

import numpy as np
from touchstone_statistics.cluster import Sums, by_cluster, cluster_robust
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.hurdle import HurdlePosterior
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments
from touchstone_statistics.selected import corrected
from touchstone_statistics.switchback import permutation_test
from touchstone_statistics.versus import Pairs, credible_lift

from tests.calibration.promises import Promise

LEVEL, BAR, MEAN = 0.05, 1.959963984540054, 1000.0
CLUSTERS, WINDOWS, REGIONS, BATCH = 40, 24, 3, 100
BUYS, SPREAD, LIFT = 0.3, 0.8, 0.1


def chosen(count: int, truth: float) -> Contrast:
    """So many comparisons that are significant, of a true effect of so many standard errors."""
    rng, found = np.random.default_rng(201), np.zeros(0)
    while found.size < count:
        drawn = rng.normal(truth, 1.0, count)
        found = np.append(found, drawn[np.abs(drawn) > BAR])
    none = np.zeros(count, dtype=np.uint8)
    half, units = np.full(count, 0.5), np.full(count, 1e9)
    means = np.full(count, MEAN), MEAN + found[:count]
    arms = [Estimate(mean, half, units, none, none) for mean in means]
    return Contrast(arms[0], arms[1])


def choice_missed(truth: float, count: int) -> float:
    """Share of the chosen whose corrected interval misses the true difference."""
    found = corrected(chosen(count, truth), np.array(BAR), LEVEL).difference_interval
    return float(np.mean((found.low > truth) | (found.high < truth)))


def choice_above(truth: float, count: int) -> float:
    """Share of the chosen whose corrected difference is above the true one."""
    found = corrected(chosen(count, truth), np.array(BAR), LEVEL).difference
    return float(np.mean(found > truth))


def grouped(trials: int, each_has_both: bool) -> Sums:
    """Clusters whose units are alike and whose sizes differ, with one arm each or with both."""
    rng = np.random.default_rng(202)
    cluster = np.arange(2 * CLUSTERS)
    arm = np.tile([0, 1], CLUSTERS)
    if each_has_both:
        cluster = cluster // 2
    shape = (trials, 2 * CLUSTERS)
    size = np.asarray(1 + rng.poisson(20, shape), dtype=np.float64)
    alike = rng.normal(5.0, 1.0, (trials, 2 * CLUSTERS))[:, cluster]
    total = size * alike + rng.normal(0.0, 2.0, shape) * np.sqrt(size)
    return Sums(total, size, arm, cluster)


def clusters_rejected(each_has_both: bool, trials: int) -> float:
    """Share of A/A tests of clusters that are rejected."""
    sums = grouped(trials, each_has_both)
    if each_has_both:
        contrast = cluster_robust(sums, 2).contrast(0)
    else:
        arms = by_cluster(sums, 2)
        contrast = Contrast(arms[:, 0], arms[:, 1])
    return float(np.mean(Fixed(LEVEL).read(contrast).p_value < LEVEL))


def windows_rejected(trials: int) -> float:
    """Share of switchbacks without any effect that permutation rejects.

    Weather stays from window to window, so outcomes are far from independent; variants are drawn.
    """
    rng = np.random.default_rng(203)
    region = np.repeat(np.arange(REGIONS), WINDOWS)
    each, rejected = np.arange(region.size), 0
    for _ in range(trials):
        weather = np.cumsum(rng.normal(size=(REGIONS, WINDOWS)), axis=1).ravel()
        size = np.asarray(1 + rng.poisson(10, region.size), dtype=np.float64)
        sums = Sums(size * (20.0 + weather), size, rng.integers(0, 2, region.size), region)
        found = permutation_test(sums, each, rng, repetitions=199).p_value
        rejected += isinstance(found, float) and found <= LEVEL
    return rejected / trials


def revenue_missed(units: int, trials: int) -> float:
    """Share of experiments whose credible interval of the lift of revenue misses the true one."""
    rng = np.random.default_rng(204)
    wrong = 0
    for start in range(0, trials, BATCH):
        count = min(BATCH, trials - start)
        arms = [_revenue(rng, units, count, lift) for lift in (0.0, LIFT)]
        found = credible_lift(Pairs.of(arms[0], arms[1]), LEVEL)
        wrong += int(((found.low > LIFT) | (found.high < LIFT)).sum())
    return wrong / trials


def _revenue(rng: np.random.Generator, units: int, count: int, lift: float) -> HurdlePosterior:
    """The posterior of so many arms, whose buyers spend more by the lift."""
    buyers = rng.binomial(units, BUYS, count)
    logs = [rng.normal(3.0 + np.log1p(lift), SPREAD, (int(one), 1)) for one in buyers]
    each = [Moments.from_rows(one) for one in logs]
    moments = Moments.of(
        [m.units for m in each], [m.mean for m in each], [m.co_moment for m in each]
    )
    amounts: FloatArray = buyers.astype(np.float64)
    found, gap = HurdlePosterior.of(
        amounts, np.full(count, float(units)), estimate(moments, Mean(0))
    )
    assert not gap.any(), "there are buyers enough"
    return found


CHOSEN = "Significant effects, truly {:g} standard errors"
ALIKE = f"A/A tests of {CLUSTERS} clusters"
PROMISES = [
    *(
        Promise(
            7,
            f"{CHOSEN.format(truth)}: corrected interval misses",
            0.045,
            0.055,
            partial(choice_missed, truth),
        )
        for truth in (0.0, 1.0, 3.0)
    ),
    Promise(
        7,
        f"{CHOSEN.format(1.0)}: corrected difference above it",
        0.485,
        0.515,
        partial(choice_above, 1.0),
    ),
    Promise(1, f"{ALIKE} an arm rejected at 5 %", 0.045, 0.055, partial(clusters_rejected, False)),
    Promise(
        1,
        f"{ALIKE} with units of both arms rejected at 5 %",
        0.045,
        0.055,
        partial(clusters_rejected, True),
    ),
    Promise(
        1,
        f"Permutation of {REGIONS} regions by {WINDOWS} windows without effect rejects at 5 %",
        0.045,
        0.055,
        windows_rejected,
        cost=4,
    ),
    *(
        Promise(
            6,
            f"Credible interval of a lift of 10 % of revenue misses, {units:,} units an arm",
            0.04,
            0.06,
            partial(revenue_missed, units),
            cost=4,
        )
        for units in (500, 2000)
    ),
]
