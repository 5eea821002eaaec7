"""The arms of a metric when whole clusters of units vary together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.adjust import Adjusted, adjust
from touchstone_statistics.cluster import joint_ratios
from touchstone_statistics.contrast import Joint
from touchstone_statistics.estimand import Estimand, Estimate, Mean, Ratio, estimate
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap
from touchstone_statistics.moments import Moments

from services.results.domain.clustering import Clustered
from services.results.domain.exact import Cell, Sums

FEWEST_IN_ARM = 5
"""Clusters that each arm needs where every cluster has one arm."""
FEWEST_OF_ALL = 10
"""Clusters that are needed where clusters have units of several arms."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """One metric over clusters; slices, then arms. `units` is how many units there are, `counts`
    how many clusters, `every` those of all arms together and `mixed` those of several arms.

    Where every cluster has one arm, arms are independent, and a comparison has Welch's degrees of
    freedom: Donner and Klar (2000), section 6.3. Where clusters have several, their arms vary
    together, as Liang and Zeger (1986) allow for, with one degree of freedom less than clusters.
    """

    seen: Clustered
    by_arm: Moments
    joint: Moments
    units: FloatArray
    counts: FloatArray

    @staticmethod
    def of(seen: Clustered) -> "Clusters":
        """From exact sums."""
        counts = np.array(seen.counts, dtype=np.float64)
        return Clusters(seen, _by_arm(seen).moments, seen.joint.moments[:, 0], seen.sizes, counts)

    @property
    def is_mixed(self) -> bool:
        """Whether any cluster has units of several arms."""
        return self.seen.mixed[0] > 0

    @property
    def every(self) -> FloatArray:
        """Clusters by slice."""
        return self.joint.units

    def arms(self, estimand: Estimand) -> Joint:
        """An estimand of the columns of the metric, per unit; axes slices, arms."""
        ratio = self.ratio_of(estimand)
        if self.is_mixed:
            offsets = [arm * self.seen.columns for arm in range(self.seen.arms)]
            ratios = [Ratio(ratio.numerator + o, ratio.denominator + o) for o in offsets]
            found = joint_ratios(self.joint, ratios, self.units == 0)
            freedom = np.broadcast_to(self.every[:, None] - 1.0, self.units.shape)
            return replace(found, arms=self._counted(found.arms, freedom))
        arms = estimate(self.by_arm, ratio)
        diagonal = arms.variance[..., :, None] * np.eye(self.seen.arms)
        return Joint(self._counted(arms, self.counts - 1.0), diagonal)

    def adjusted(self, estimand: Estimand, covariates: Sequence[Estimand]) -> Adjusted | None:
        """With covariates of clusters taken off; None where clusters have several arms."""
        if self.is_mixed or not covariates:
            return None
        found = adjust(self.by_arm, self.ratio_of(estimand), [self.ratio_of(c) for c in covariates])
        if not found.used.any():
            return None
        assert found.joint.arms.freedom is not None, "slopes cost degrees of freedom"
        arms = self._counted(found.joint.arms, found.joint.arms.freedom)
        return replace(
            found,
            joint=replace(found.joint, arms=arms),
            plain=self._counted(found.plain, self.counts - 1.0),
        )

    def ratio_of(self, estimand: Estimand) -> Ratio:
        """A mean over units is the sum of a cluster over its number of units."""
        if isinstance(estimand, Ratio):
            return estimand
        assert isinstance(estimand, Mean), "metrics are means or ratios"
        return Ratio(estimand.column, self.seen.columns - 1)

    def _counted(self, arms: Estimate, freedom: FloatArray) -> Estimate:
        """Units are units; how many clusters there are shows in the degrees of freedom."""
        return replace(
            arms,
            units=self.units,
            freedom=freedom,
            spread_gap=first_gap(arms.spread_gap, self._few()),
        )

    def _few(self) -> GapArray:
        few = self.counts < FEWEST_IN_ARM
        if self.is_mixed:
            few = np.broadcast_to(self.every[:, None] < FEWEST_OF_ALL, few.shape)
        empty = self.units == 0
        found = np.where(few, Gap.TOO_FEW_CLUSTERS, Gap.NONE)
        return np.where(empty, Gap.NO_UNITS, found).astype(np.uint8)


def _by_arm(seen: Clustered) -> Sums:
    """Each arm by itself, over the clusters that have units of it: others add nothing."""
    columns = seen.columns
    cells = [
        tuple(_of_arm(cell, arm, columns, counts[arm]) for arm in range(seen.arms))
        for (cell,), counts in zip(seen.joint.cells, seen.counts, strict=True)
    ]
    return Sums(seen.joint.exponents[:columns], tuple(cells))


def _of_arm(cell: Cell, arm: int, columns: int, clusters: int) -> Cell:
    start, width = arm * columns, len(cell.sums)
    places = range(start, start + columns)
    products = [
        cell.products[_place(i, j, width)] for i in places for j in range(i, start + columns)
    ]
    return Cell(clusters, cell.sums[start : start + columns], tuple(products))


def _place(i: int, j: int, width: int) -> int:
    """Where the product of columns i <= j is in the upper triangle, row by row."""
    return i * width - i * (i - 1) // 2 + (j - i)
