"""From the figures of replicates to standard errors and percentile intervals.

Source: Efron and Tibshirani (1993), "An introduction to the bootstrap", chapter 13 (percentile
intervals) and equation 6.6 (standard error).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from services.attribution.domain.arrays import Floats
from services.attribution.domain.bootstrap.tallies import Tally
from services.attribution.domain.bootstrap.weights import Resampling

S = TypeVar("S")

MIN_DEFINED_PART = 0.9


@dataclass(frozen=True, slots=True)
class Intervals:
    """What replicates say of figures of shape (C,), each of that shape.

    `defined` counts the replicates in which the figures were defined, of `replicates`.
    """

    std_err: Floats
    ci_low: Floats
    ci_high: Floats
    defined: int
    replicates: int


def figures(
    tally: Tally[S], sums: Floats, figure: Callable[[S], Floats | None]
) -> list[Floats | None]:
    """Return the figures of each replicate; None where they are undefined in it."""
    return [figure(tally.read(totals)) for totals in sums]


def intervals(replicated: list[Floats | None], resampling: Resampling) -> Intervals | None:
    """Return the intervals, or None where under 90% of the replicates have figures.

    Intervals from the replicates that happen to be defined would be of another population.
    """
    known = [figure for figure in replicated if figure is not None and np.isfinite(figure).all()]
    if len(known) < max(2.0, MIN_DEFINED_PART * len(replicated)):
        return None
    table = np.stack(known)
    tail = (1 - resampling.level) / 2
    low, high = np.quantile(table, [tail, 1 - tail], axis=0)
    return Intervals(
        std_err=table.std(axis=0, ddof=1),
        ci_low=low,
        ci_high=high,
        defined=len(known),
        replicates=len(replicated),
    )
