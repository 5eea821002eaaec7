"""Experiments whose units come in clusters: shops, teams, cities, or periods of time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from touchstone_statistics.contrast import Joint
from touchstone_statistics.estimand import Estimate, Ratio, estimate
from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, first_gap, quotient
from touchstone_statistics.moments import Moments

Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """A metric summed over groups of units that had the same arm and share a cluster.

    `total` and `size` have shape B + (groups,): the sum of the metric and the number of units (or
    whatever the metric is counted by), for each metric or slice of B. `arm` (groups) numbers the
    arms from 0 and `cluster` (groups) the clusters: groups of different clusters are independent.
    A cluster-randomised experiment has one group a cluster; a switchback one a region and window.
    """

    total: FloatArray
    size: FloatArray
    arm: Codes
    cluster: Codes

    def __post_init__(self) -> None:
        shapes = {self.total.shape[-1:], self.size.shape[-1:], self.arm.shape, self.cluster.shape}
        if len(shapes) != 1:
            raise ValueError(f"total, size, arm and cluster end in {shapes}; all must be the same")
        if self.arm.size and min(self.arm.min(), self.cluster.min()) < 0:
            raise ValueError("arm and cluster hold a negative number; they count from 0")


def by_cluster(sums: Sums, arms: int) -> Estimate:
    """The mean of each arm when whole clusters were assigned to the arms.

    Estimand: the sum of the metric over the number of units, in the population of clusters. The
    clusters are the observations: `units` counts them, and the variance is that of a ratio of
    their sums: Deng, Knoblich and Lu (2018), section 4.1; Donner and Klar (2000), "Design and
    analysis of cluster randomization trials", section 6.3. A comparison has Welch's degrees of
    freedom, at least the smaller number of clusters less one. The same is
    `estimate(moments, Ratio(0, 1))` with moments over clusters of (total, size), which is how a
    query gives it and how covariates of clusters join by `adjust`. With fewer than about ten
    clusters an arm the intervals are a little too narrow.

    Raises ValueError for a cluster with groups in two arms.
    """
    index, group = np.unique(sums.cluster, return_inverse=True)
    arm = np.zeros(index.size, dtype=np.intp)
    arm[group] = sums.arm
    mixed = np.flatnonzero(arm[group] != sums.arm)
    if mixed.size:
        raise ValueError(
            f"cluster {sums.cluster[mixed[0]]} is in two arms; use cluster_robust for those"
        )
    batch = np.broadcast_shapes(sums.total.shape, sums.size.shape)[:-1]
    rows = np.stack([_gathered(v, group, index.size, batch) for v in (sums.total, sums.size)], -1)
    each = [Moments.from_rows(rows[..., arm == number, :]) for number in range(arms)]
    moments = Moments(
        np.stack([m.units for m in each], axis=-1),
        np.stack([m.mean for m in each], axis=-2),
        np.stack([m.co_moment for m in each], axis=-3),
    )
    return estimate(moments, Ratio(0, 1))


def cluster_robust(sums: Sums, arms: int) -> Joint:
    """The mean of each arm with covariances that allow any dependence within a cluster.

    For designs in which a cluster holds several arms, as the regions of a switchback do. Each
    arm's mean is a ratio of its sums; over clusters the sums of all arms vary together, and the
    delta method turns their covariance (with G - 1 for G clusters) into that of the means. This
    is the sandwich of Liang and Zeger (1986), equation 2.6, with the factor G / (G - 1), and t
    with G - 1 degrees of freedom: Cameron and Miller (2015), "A practitioner's guide to
    cluster-robust inference", section VI.A. Below some twenty clusters prefer the permutation
    test of `switchback`.
    """
    index, group = np.unique(sums.cluster, return_inverse=True)
    clusters, cell = index.size, group * arms + sums.arm
    batch = np.broadcast_shapes(sums.total.shape, sums.size.shape)[:-1]
    columns = [
        _gathered(v, cell, clusters * arms, batch).reshape(*batch, clusters, arms)
        for v in (sums.total, sums.size)
    ]
    moments = Moments.from_rows(np.concatenate(columns, axis=-1))
    absent = np.bincount(sums.arm, minlength=arms) == 0
    return joint_ratios(moments, [Ratio(arm, arms + arm) for arm in range(arms)], absent)


def joint_ratios(moments: Moments, ratios: Sequence[Ratio], absent: BoolArray) -> Joint:
    """A ratio for each arm, as `cluster_robust` estimates them, from moments over clusters.

    The columns of the moments are sums over the units of a cluster, of each arm by itself: a
    cluster without units of an arm has zeros there. `absent` (..., arms) names the arms without
    any unit.
    """
    batch, clusters = moments.units.shape, moments.units
    gradients = np.stack([ratio.evaluate(moments.mean)[1] for ratio in ratios], axis=-2)
    covariance = np.einsum("...ai,...ij,...bj->...ab", gradients, moments.covariance, gradients)
    each = [estimate(moments, ratio) for ratio in ratios]
    none = np.where(absent, Gap.NO_UNITS, Gap.NONE).astype(np.uint8)
    result = Estimate(
        value=np.stack([e.value for e in each], axis=-1),
        variance=np.stack([e.variance for e in each], axis=-1),
        units=np.stack([e.units for e in each], axis=-1),
        gap=first_gap(none, np.stack([e.gap for e in each], axis=-1)),
        spread_gap=first_gap(none, np.stack([e.spread_gap for e in each], axis=-1)),
    )
    freedom = np.broadcast_to(clusters - 1.0, batch)
    return Joint(result, covariance / np.maximum(clusters, 1.0)[..., None, None], freedom)


@dataclass(frozen=True, slots=True, eq=False)
class DesignEffect:
    """How many times larger a variance is for the clusters than it would be for single units.

    1 says that the units of a cluster are no more alike than others; a number of units divided by
    it is the number of independent units that would tell as much.
    """

    factor: FloatArray
    gap: GapArray


def design_effect(clustered: Estimate, independent: Estimate) -> DesignEffect:
    """The variance with clusters over the variance without: Kish (1965), section 5.4.

    `independent` is the estimate of the same arms from moments over single units.
    """
    flat = np.where(independent.variance <= 0, Gap.ZERO_VARIANCE, Gap.NONE).astype(np.uint8)
    gap = first_gap(clustered.spread_gap, independent.spread_gap, flat)
    return DesignEffect(quotient(clustered.variance, independent.variance, 0.0), gap)


def _gathered(values: FloatArray, cell: Codes, cells: int, batch: tuple[int, ...]) -> FloatArray:
    """Sums of the last axis by cell, for each element of the batch."""
    flat = np.broadcast_to(values, (*batch, values.shape[-1])).reshape(-1, values.shape[-1])
    sums = np.zeros((len(flat), cells))
    for number, line in enumerate(flat):
        sums[number] = np.bincount(cell, weights=line, minlength=cells)
    return sums.reshape(*batch, cells)
