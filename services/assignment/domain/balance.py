"""How alike the variants of an experiment are in what their units did before.

The standardized difference of two groups in a covariate is (m1 - m2) / sqrt((s1^2 + s2^2) / 2):
Austin (2009), "Balance diagnostics for comparing the distribution of baseline covariates",
Statistics in Medicine 28, equation 1. Unlike a t statistic it does not grow with the units.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Arms = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Balanced:
    """The salt under which the variants differ least, of those that were tried."""

    salt: str
    differences: Numbers
    """The largest difference between two variants, for each covariate."""
    median: float
    """The largest difference in any covariate under the median salt: what chance alone gives."""


def differences(covariates: Numbers, arms: Arms, variants: int) -> Numbers:
    """The largest standardized difference between two variants in each covariate.

    `covariates` has a row for each unit; `arms` says which variant each unit gets, -1 for none. A
    covariate that is the same for all units of two variants differs by 0, or by infinity.
    """
    means, variances = _moments(covariates, arms, variants)
    largest = np.zeros(covariates.shape[1])
    for one, other in combinations(range(variants), 2):
        gap = np.abs(means[one] - means[other])
        spread = np.sqrt((variances[one] + variances[other]) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(gap == 0, 0.0, gap / spread)
        # A variant without units is like any other: there is nothing to compare.
        largest = np.fmax(largest, np.nan_to_num(ratio, nan=0.0, posinf=np.inf))
    return largest


def _moments(covariates: Numbers, arms: Arms, variants: int) -> tuple[Numbers, Numbers]:
    inside = arms >= 0
    rows, of_rows = covariates[inside], arms[inside]
    counts = np.bincount(of_rows, minlength=variants).astype(float)
    # About the overall mean, so that squares do not swallow what small differences there are.
    centre = rows.mean(axis=0) if len(rows) else np.zeros(covariates.shape[1])
    centred = rows - centre
    with np.errstate(divide="ignore", invalid="ignore"):
        means = _sums(centred, of_rows, variants) / counts[:, None]
        squares = _sums(centred**2, of_rows, variants) / counts[:, None]
        variances = (squares - means**2) * (counts / (counts - 1))[:, None]
    return means, np.maximum(variances, 0.0)


def _sums(values: Numbers, arms: Arms, variants: int) -> Numbers:
    columns = [
        np.bincount(arms, weights=values[:, column], minlength=variants)
        for column in range(values.shape[1])
    ]
    return np.column_stack(columns)
