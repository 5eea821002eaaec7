"""Switchback experiments: whole regions change arm from one window of time to the next.

The caller leaves out the washout after each change, that is the units whose outcome an earlier
arm may still have touched, and sums the rest by region and window: see `cluster.Sums`. The
comparison itself is `cluster.cluster_robust` with regions as clusters, or with stretches of
windows of a region where there are too few regions and effects do not last longer than those.
"""

from dataclasses import dataclass

import numpy as np

from touchstone_statistics.cluster import Codes, Sums, cluster_robust
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, NotEstimable, quotient
from touchstone_statistics.interval import Side

# Assignments that are worked on at once, so that memory does not grow with their number.
CHUNK = 500


@dataclass(frozen=True, slots=True)
class PermutationTest:
    """The share of other assignments of the design that differ as much as the real one.

    `p_value` counts the real assignment too, so it is never zero; its own error from drawing only
    `repetitions` of them is at most sqrt(p (1 - p) / repetitions).
    """

    statistic: float | NotEstimable
    p_value: float | NotEstimable
    repetitions: int


def permutation_test(
    sums: Sums,
    assigned: Codes,
    rng: np.random.Generator,
    repetitions: int = 2000,
    side: Side = Side.TWO_SIDED,
) -> PermutationTest:
    """Test that the treatment (arm 1) changes nothing for anyone, against the control (arm 0).

    `assigned` (groups) numbers what was given an arm as a whole: each group by itself, or each
    window where all regions change together. Arms are exchanged between those of the same
    `sums.cluster`, or between all where none has both arms. The sums have no batch axes.

    The statistic is the difference of the ratios over its standard error between assigned units,
    which keeps the level for unequal variances in large samples: Chung and Romano (2013), "Exact
    and asymptotically robust permutation tests"; in any sample the test is exact for the sharp
    null hypothesis: Bojinov, Simchi-Levi and Zhao (2023), "Design and analysis of switchback
    experiments", section 4. p = (1 + b) / (1 + repetitions): Phipson and Smyth (2010).
    """
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}; it must be at least 1")
    columns, arm, block = _assigned_units(sums, assigned)
    if not (0 < arm.sum() < arm.size):
        return PermutationTest(NotEstimable(Gap.NO_UNITS), NotEstimable(Gap.NO_UNITS), 0)
    seen = float(_studentised(columns, arm[None])[0])
    if not np.isfinite(seen):
        missing = NotEstimable(Gap.ZERO_VARIANCE)
        return PermutationTest(missing, missing, 0)
    beyond = 0
    for start in range(0, repetitions, CHUNK):
        count = min(CHUNK, repetitions - start)
        drawn = _studentised(columns, _shuffled(arm, block, count, rng))
        beyond += int(_as_far(drawn, seen, side).sum())
    return PermutationTest(seen, (1 + beyond) / (1 + repetitions), repetitions)


def _assigned_units(sums: Sums, assigned: Codes) -> tuple[FloatArray, BoolArray, Codes]:
    """Columns (u, 5) of y, n, y^2, y n, n^2 of each assigned unit, its arm and its block."""
    if sums.total.ndim != 1:
        raise ValueError(f"total has shape {sums.total.shape}; it must have one axis")
    if np.any(sums.arm > 1):
        raise ValueError(f"arm goes up to {sums.arm.max()}; allowed are 0 and 1")
    index, unit = np.unique(assigned, return_inverse=True)
    y = np.bincount(unit, weights=sums.total, minlength=index.size)
    n = np.bincount(unit, weights=sums.size, minlength=index.size)
    arm, block = np.zeros(index.size, dtype=np.intp), np.zeros(index.size, dtype=np.intp)
    arm[unit], block[unit] = sums.arm, sums.cluster
    if np.any(arm[unit] != sums.arm):
        raise ValueError("assigned joins groups of both arms; each must have one arm")
    treated = arm == 1
    sizes = [
        np.bincount(block[chosen], minlength=block.max() + 1) for chosen in (treated, ~treated)
    ]
    exchangeable = bool(np.any(np.minimum(sizes[0], sizes[1]) > 0))
    spread_out = bool(np.any(block[unit] != sums.cluster))
    one_block = np.zeros_like(block)
    columns = np.stack([y, n, y * y, y * n, n * n], axis=-1)
    return columns, treated, block if exchangeable and not spread_out else one_block


def _shuffled(arm: BoolArray, block: Codes, count: int, rng: np.random.Generator) -> BoolArray:
    """`count` assignments (count, u) that keep the number of treated units of each block."""
    drawn = np.broadcast_to(arm, (count, arm.size)).copy()
    for one in np.unique(block):
        members = np.flatnonzero(block == one)
        drawn[:, members] = rng.permuted(drawn[:, members], axis=1)
    return drawn


def _studentised(columns: FloatArray, treated: BoolArray) -> FloatArray:
    """Difference of the ratios over its standard error for each assignment (r, u)."""
    means, variances = [], []
    for chosen in (~treated, treated):
        y, n, yy, yn, nn = (chosen.astype(np.float64) @ columns).T
        count = chosen.sum(axis=1)
        ratio = quotient(y, n, np.nan)
        squares = np.maximum(yy - 2.0 * ratio * yn + ratio**2 * nn, 0.0)
        means.append(ratio)
        variances.append(quotient(squares * count, n**2 * np.maximum(count - 1.0, 1.0), np.nan))
    std_err = np.sqrt(variances[0] + variances[1])
    return quotient(means[1] - means[0], std_err, np.nan)


def _as_far(drawn: FloatArray, seen: float, side: Side) -> BoolArray:
    """Whether a drawn statistic is at least as far out as the seen one; unknown counts as so."""
    slack = 1e-9 * abs(seen)
    match side:
        case Side.TWO_SIDED:
            nearer = np.abs(drawn) < abs(seen) - slack
        case Side.GREATER:
            nearer = drawn < seen - slack
        case Side.LESS:
            nearer = drawn > seen + slack
    return np.asarray(~nearer)


def carry_over(sums: Sums, previous: Codes) -> Contrast:
    """Whether the arm of the window before still shows: after treatment against after control.

    `previous` (groups) is the arm that the region had in the window before, negative where there
    was none or another; arms are 0 and 1. The contrast compares groups after arm 1 with those
    after arm 0, half of each kind having arm 1 now, so that the effect of the present arm cancels.
    A difference from zero warns that the washout is too short and the effect of the experiment
    itself is off by about as much. Clusters as in `cluster_robust`.

    Source: Cochran, Autrey and Cannon (1941) and Jones and Kenward (2014), "Design and analysis
    of cross-over trials", section 5.2: first-order carry-over as an effect of its own.
    """
    if previous.shape != sums.arm.shape:
        raise ValueError(f"previous has shape {previous.shape}; it must be {sums.arm.shape}")
    known = (previous >= 0) & (previous <= 1) & (sums.arm <= 1)
    part = Sums(
        sums.total[..., known],
        sums.size[..., known],
        2 * previous[known] + sums.arm[known],
        sums.cluster[known],
    )
    halves = np.array([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
    return cluster_robust(part, 4).combine(halves).contrast(0)
