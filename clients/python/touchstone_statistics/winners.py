"""What a programme of experiments gained in total, without the flattery of choosing winners.

Changes that ship because their estimate was large have, on average, a smaller true effect than
that estimate. The sum over shipped changes inherits the flattery of each.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.gaps import BoolArray, FloatArray, Gap
from touchstone_statistics.heterogeneity import FEWEST_SEGMENTS, Effects, spread_nodes

# Extremes over u of phi(u) - phi(u / sqrt 2) / sqrt 2: at 0, and near 2.04.
MOST_FLATTERY_LEFT = 0.116848
MOST_OVERCORRECTION = 0.049868


@dataclass(frozen=True, slots=True)
class Total:
    """An estimated total of true effects with an interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Programme:
    """The summed true effect of what was shipped, in the units of the effects.

    `naive` adds up the estimates and `flattery` is by how much that is expected to be too much;
    `corrected` is their difference, with an interval that holds whatever the true effects are.
    `borrowed` is the posterior of the total when true effects are normally distributed: far
    narrower, and right as far as that is; None with less than three experiments.
    `gap` is NO_UNITS without any experiment.
    """

    experiments: int
    shipped: int
    naive: float
    flattery: float
    corrected: Total
    borrowed: Total | None
    gap: Gap


def programme(effects: Effects, threshold: FloatArray | float, alpha: float = 0.05) -> Programme:
    """Total true effect of the experiments whose estimate passed the threshold for shipping.

    `effects` are those of all experiments on its one axis, shipped or not, in the same metric and
    counted so that positive is good; `threshold` is how many standard errors an estimate had to
    exceed (1.96 for a two-sided test at 5 %). An experiment that ships for another reason breaks
    the assumption. Source: Lee and Shen (2018), "Winner's curse: bias estimation for total effects
    of features in online controlled experiments": the expected flattery is the sum over all
    experiments of s phi((b s - x) / s). Assumes independent, nearly normal estimates x with known
    standard errors s.
    """
    known = effects.precision > 0
    value, std_err = effects.value[known], np.sqrt(effects.variance[known])
    bar = np.broadcast_to(threshold, effects.value.shape)[known]
    shipped = value > bar * std_err
    # How far the threshold lies above each estimate, in standard errors.
    distance = bar - value / std_err
    naive = float(value[shipped].sum())
    flattery = float((std_err * _density(distance)).sum())
    return Programme(
        experiments=len(value),
        shipped=int(shipped.sum()),
        naive=naive,
        flattery=flattery,
        corrected=_corrected(naive - flattery, std_err, distance, alpha),
        borrowed=_borrowed(value, std_err, shipped, alpha),
        gap=Gap.NONE if len(value) else Gap.NO_UNITS,
    )


def _corrected(centre: float, std_err: FloatArray, distance: FloatArray, alpha: float) -> Total:
    """Interval of the corrected total.

    With u the distance of the threshold above the true effect in standard errors and W a
    standard normal error, an experiment contributes the error W [W > u] - phi(u - W). Its mean
    is phi(u) - phi(u / sqrt 2) / sqrt 2, because the correction is evaluated at an estimate; no
    unbiased correction exists, since that would have to undo a convolution with the normal. The
    interval allows for the largest such remainder of either sign in each experiment, and for
    the variance of the error, which has a closed form in u and is evaluated at the estimates.
    """
    reach = -float(special.ndtri(alpha / 2.0)) * float(
        np.sqrt((std_err**2 * error_variance(distance)).sum())
    )
    most = float(std_err.sum())
    low = centre - reach - MOST_FLATTERY_LEFT * most
    return Total(centre, low, centre + reach + MOST_OVERCORRECTION * most)


def error_variance(distance: FloatArray) -> FloatArray:
    """Variance of W [W > u] - phi(u - W) for a standard normal W; u is `distance`.

    From E W^2 [W > u] = u phi(u) + Phi(-u), E phi(u - W)^2 = exp(-u^2 / 3) / (2 pi sqrt 3), and
    phi(u - w) phi(w) = phi(u / sqrt 2) / sqrt 2 times the density of N(u / 2, 1 / 2) at w.
    """
    u = distance
    at_half = _density(u / np.sqrt(2.0)) / np.sqrt(2.0)
    beyond = (u / 2.0) * special.ndtr(-u / np.sqrt(2.0)) + at_half
    square = u * _density(u) + special.ndtr(-u) - 2.0 * at_half * beyond
    square += np.exp(-(u**2) / 3.0) / (2.0 * np.pi * np.sqrt(3.0))
    return np.asarray(np.maximum(square - (_density(u) - at_half) ** 2, 0.0))


def _borrowed(
    value: FloatArray, std_err: FloatArray, shipped: BoolArray, alpha: float
) -> Total | None:
    """Posterior of the total under a normal distribution of true effects.

    Selection changes nothing in a posterior that conditions on all estimates (Dawid 1994,
    "Selection paradoxes of Bayesian inference"). The mean and the spread of true effects are
    integrated over as in `heterogeneity.shrink`; the mixture is summarised by its own mean and
    variance, which is enough for a sum.
    """
    if len(value) < FEWEST_SEGMENTS:
        return None
    spread, mass = spread_nodes(value, std_err**2)
    variance = std_err**2 + spread[:, None] ** 2
    total = (1.0 / variance).sum(axis=1)
    centre = (value / variance).sum(axis=1) / total
    pull = std_err**2 / variance
    each = value + pull * (centre[:, None] - value)
    mean = each[:, shipped].sum(axis=1)
    own = ((1.0 - pull) * std_err**2)[:, shipped].sum(axis=1)
    within = own + pull[:, shipped].sum(axis=1) ** 2 / total
    overall = float(mass @ mean)
    std_dev = float(np.sqrt(mass @ (within + (mean - overall) ** 2)))
    reach = -float(special.ndtri(alpha / 2.0)) * std_dev
    return Total(overall, overall - reach, overall + reach)


def _density(u: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * u**2) / np.sqrt(2.0 * np.pi))
