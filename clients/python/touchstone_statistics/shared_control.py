"""Several treatments against one control: simultaneous levels that use what they share."""

from dataclasses import dataclass

import numpy as np
import scipy  # its statistics load when they are first used: they take most of a second
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.family import Adjusted
from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, quotient
from touchstone_statistics.interval import Side

# Composite Gauss-Legendre nodes for the common normal factor: 18 panels of 8 nodes on +-9.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_CENTRES = np.arange(-8.5, 9.0, 1.0)
FACTOR = (_CENTRES[:, None] + 0.5 * _NODES).ravel()
FACTOR_MASS = np.tile(0.5 * _WEIGHTS, len(_CENTRES)) * np.exp(-0.5 * FACTOR**2) / np.sqrt(2 * np.pi)
SCALE_NODES, SCALE_WEIGHTS = np.polynomial.legendre.leggauss(40)
STEPS = 4
NEARLY_ALL = 1.0 - 1e-16


def loadings(contrast: Contrast) -> FloatArray:
    """How strongly each difference moves with the mean of the shared control.

    The correlation of two differences is the product of their loadings, sqrt(vC / (vC + vT)):
    the one-factor structure of Dunnett (1955) with unequal variances. Assumes
    independent arms.
    """
    share = quotient(contrast.control_factor**2 * contrast.control.variance, contrast.variance, 0.0)
    return np.asarray(np.sqrt(np.minimum(share, 1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class Rivals:
    """Treatments on the last axis: how each moves with the control, and whether it is there."""

    loading: FloatArray
    present: BoolArray
    side: Side = Side.TWO_SIDED


def exceedance(threshold: FloatArray, rivals: Rivals, dof: float = np.inf) -> FloatArray:
    """Chance that any of several standardised differences passes the threshold under the null.

    Source: Dunnett (1955), "A multiple comparison procedure for comparing several treatments
    with a control"; the integral over the common factor of Curnow and Dunnett (1962), and over
    the common standard deviation when `dof` is finite. `threshold` has the shape of the rivals
    without their last axis, and so has the result. To 1e-9 while no arm has more than four
    times the units of the control, to 1e-4 up to fifty times.
    """
    scales, mass = _scales(dof)
    bound = (np.asarray(threshold)[..., None] * scales)[..., None, None]
    lam = np.minimum(rivals.loading, np.sqrt(1.0 - 1e-12))[..., None, None, :]
    shift, rest = lam * FACTOR[:, None], np.sqrt(1.0 - lam**2)
    outside = special.ndtr((shift - bound) / rest)
    if rivals.side is Side.TWO_SIDED:
        outside = outside + special.ndtr((-bound - shift) / rest)
    outside = np.where(rivals.present[..., None, None, :], np.minimum(outside, NEARLY_ALL), 0.0)
    # The chance that none is outside, by logarithms: tiny tails are not lost in one minus them.
    none = np.log1p(-outside).sum(axis=-1)
    return np.asarray((-np.expm1(none) @ FACTOR_MASS) @ mass)


def _scales(dof: float) -> tuple[FloatArray, FloatArray]:
    """Nodes and mass of the common standard deviation over its expectation, chi / sqrt(dof)."""
    if not np.isfinite(dof):
        return np.ones(1), np.ones(1)
    edges = np.array(
        [
            scipy.stats.chi.ppf(1e-15, dof),
            scipy.stats.chi.ppf(0.5, dof),
            scipy.stats.chi.isf(1e-15, dof),
        ]
    )
    half = np.diff(edges)[:, None] / 2.0
    x = edges[:-1, None] + half * (SCALE_NODES + 1.0)
    mass = half * SCALE_WEIGHTS * scipy.stats.chi.pdf(x, dof)
    return x.ravel() / np.sqrt(dof), mass.ravel() / mass.sum()


def critical_value(rivals: Rivals, alpha: float, dof: float = np.inf) -> FloatArray:
    """The threshold that any difference passes with probability `alpha` under the null.

    Between the quantiles of one comparison and of Bonferroni's, by the secant method on the
    logarithm of the chance, which is nearly a parabola.
    """
    many = np.asarray(np.maximum(rivals.present.sum(axis=-1), 1), dtype=np.float64)
    tail = alpha if rivals.side is not Side.TWO_SIDED else alpha / 2.0
    low, high = _quantile(tail, dof), _quantile(tail / many, dof)
    before, now = np.broadcast_to(low, many.shape), high

    def excess(threshold: FloatArray) -> FloatArray:
        return np.log(np.maximum(exceedance(threshold, rivals, dof), 1e-300) / alpha)

    at_before = excess(before)
    for _ in range(STEPS):
        at_now = excess(now)
        move = quotient(at_now * (now - before), at_now - at_before, 0.0)
        before, at_before, now = now, at_now, np.clip(now - move, low, high)
    return np.asarray(now)


def _quantile(tail: FloatArray | float, dof: float) -> FloatArray:
    """The value that one standardised difference passes with probability `tail`."""
    if np.isfinite(dof):
        return np.asarray(-special.stdtrit(dof, tail))
    return np.asarray(-special.ndtri(tail))


def simultaneous(p_value: FloatArray, gap: GapArray, rivals: Rivals, alpha: float) -> Adjusted:
    """Adjust the p-values of several treatments for all comparisons with the one control.

    Each p-value is turned into its normal quantile, and the adjusted p-value is the chance that
    any difference passes that; the level is the one whose quantile any passes with probability
    `alpha`. So intervals read at that level exclude no difference exactly when the adjusted
    p-value is below alpha, and cover all true differences at once with probability 1 - alpha.
    Never stricter than Bonferroni. Treatments are on the last axis; one with a gap does not
    count. Assumes nearly normal differences; with few degrees of freedom the variance of the
    control ties them together more than this uses, which errs on the safe side. For lifts the
    correlation depends on the lift itself (Dilba, Bretz and Guiard 2006): the level is exact
    at no lift and conservative above it.
    """
    known = np.broadcast_to(gap == Gap.NONE, p_value.shape) & rivals.present
    among = Rivals(rivals.loading, known, rivals.side)
    tails = 2.0 if rivals.side is Side.TWO_SIDED else 1.0
    p = np.where(known, p_value, 1.0)
    quantile = -special.ndtri(np.clip(p / tails, 1e-300, 1.0 - 1e-16))
    adjusted = np.stack(
        [exceedance(quantile[..., at], among) for at in range(p.shape[-1])], axis=-1
    )
    many = known.sum(axis=-1, keepdims=True)
    adjusted = np.where(known, np.clip(adjusted, p, np.minimum(np.maximum(many, 1) * p, 1.0)), 1.0)
    level = tails * special.ndtr(-critical_value(among, alpha))[..., None]
    return Adjusted(
        p_value=adjusted,
        rejected=known & (adjusted < alpha),
        alpha=np.broadcast_to(level, p.shape).copy(),
        gap=np.broadcast_to(gap, p.shape),
    )
