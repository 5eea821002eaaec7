"""Whether the arms differed before the experiment began, in one covariate or in all together."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, quotient
from touchstone_statistics.health import ALERT_BELOW
from touchstone_statistics.moments import Moments

# Directions whose correlation is below this are rounding of a collinear covariate.
SINGULAR = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Imbalance:
    """The arms compared by what was known of their units before the exposure.

    `statistic`, `dof`, `p_value` and `gap` are of all covariates together; `by_covariate` has
    the p-value of each, with `covariate_gap`. `standardised` (arms, covariates) is the mean of
    each arm minus the mean of all, in standard deviations of a unit.
    """

    statistic: float
    dof: int
    p_value: float
    gap: Gap
    by_covariate: FloatArray
    covariate_gap: GapArray
    standardised: FloatArray

    @property
    def alert(self) -> bool:
        """True when chance does not explain the imbalance."""
        return self.gap is Gap.NONE and self.p_value < ALERT_BELOW


def imbalance(arms: Moments) -> Imbalance:
    """Test the equality of all covariate means over the arms.

    `arms` has batch shape (arms,) and one column a covariate, of a time before the exposure.
    Sources: the trace criterion of Lawley (1938) and Hotelling (1951), chi-squared with
    rank * (arms - 1) degrees of freedom for many units; with two arms it is Hotelling's T^2.
    Hansen and Bowers (2008), "Covariate balance in simple, stratified and clustered
    comparative studies", on testing all covariates at once. Collinear and constant covariates
    add nothing. Assumes independent units and the same covariance in all arms, as
    randomisation provides.
    """
    present = arms.units > 0
    count, total = int(present.sum()), float(arms.units.sum())
    residual_units = total - count
    scale = max(residual_units, 1.0)
    within = arms.co_moment.sum(axis=0) / scale
    mean = np.einsum("a,ak->k", arms.units, arms.mean) / max(total, 1.0)
    shift = np.where(present[:, None], arms.mean - mean, 0.0)
    spread = np.sqrt(np.maximum(np.diagonal(within), 0.0))
    varies = spread > 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    standardised = quotient(shift, np.where(varies, spread, 0.0), 0.0)
    by_covariate = special.chdtrc(max(count - 1, 1), arms.units @ standardised**2)
    gap = Gap.NOT_APPLICABLE if count < 2 else Gap.ONE_UNIT if residual_units < 1 else Gap.NONE
    gap = Gap.ZERO_VARIANCE if gap is Gap.NONE and not varies.any() else gap
    none = np.where(varies, Gap.NONE, Gap.ZERO_VARIANCE)
    covariate_gap = np.full(varies.shape, gap) if gap is not Gap.NONE else none
    statistic, rank = _trace(arms.units, standardised, within, spread, varies)
    dof = rank * max(count - 1, 0)
    return Imbalance(
        statistic=statistic,
        dof=dof,
        p_value=float(special.chdtrc(max(dof, 1), statistic)),
        gap=gap,
        by_covariate=by_covariate,
        covariate_gap=covariate_gap.astype(np.uint8),
        standardised=standardised,
    )


def _trace(
    units: FloatArray,
    standardised: FloatArray,
    within: FloatArray,
    spread: FloatArray,
    varies: BoolArray,
) -> tuple[float, int]:
    """Sum over arms of n d' R^-1 d in the directions in which units vary, and how many.

    d: standardised shift of an arm; R: pooled correlation matrix.
    """
    d, s = standardised[:, varies], spread[varies]
    R = within[np.ix_(varies, varies)] / (s[:, None] * s)
    values, vectors = np.linalg.eigh(R)
    live = values > SINGULAR * max(len(s), 1)
    projected = d @ vectors[:, live] / np.sqrt(values[live])
    return float((units[:, None] * projected**2).sum()), int(live.sum())
