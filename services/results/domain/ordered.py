"""Values at a few ranks: what a quantile and its interval need of millions of values."""

from dataclasses import dataclass

import numpy as np
from touchstone_statistics.quantile import QuantileCounts

from services.results.domain.exact import Cell, Sums


@dataclass(frozen=True, slots=True)
class Ordered:
    """One arm of one slice: how many values there are, and those at the three ranks that
    `touchstone_statistics.quantile.ranks` names. All are 0 without any value.
    """

    count: int = 0
    low: float = 0.0
    centre: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A quantile of one measure: `cells[slice][arm]`.

    `clusters` is given for quantiles of events: sums over units of how many of their events are at
    most the quantile, and of how many there are.
    """

    cells: tuple[tuple[Ordered, ...], ...]
    clusters: tuple[tuple[Cell, ...], ...] | None = None

    @property
    def counts(self) -> QuantileCounts:
        """For the statistics; batch axes of slices and arms."""
        numbers = [[(c.count, c.low, c.centre, c.high) for c in row] for row in self.cells]
        count, low, centre, high = np.moveaxis(np.array(numbers, dtype=np.float64), -1, 0)
        clusters = None if self.clusters is None else Sums((0, 0), self.clusters).moments
        return QuantileCounts(count, low, centre, high, clusters)
