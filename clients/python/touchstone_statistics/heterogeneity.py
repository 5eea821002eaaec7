"""Whether an effect differs between segments, and what each segment's effect is, all considered."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, quotient
from touchstone_statistics.interval import Interval, Shape

NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)
FEWEST_SEGMENTS = 3
NARROWINGS = 3
NEGLIGIBLE = -25.0
STEPS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Independent estimates of effects in the same metric; what is compared is the last axis.

    Segments must not share units. The values may be differences, lifts or any other estimates
    that are nearly normal with the given sampling variances.
    """

    value: FloatArray
    variance: FloatArray
    gap: GapArray

    @classmethod
    def of(cls, contrast: Contrast) -> "Effects":
        """The differences of a contrast that has the segments on its last axis."""
        return cls(contrast.difference, contrast.variance, contrast.spread_gap)

    @classmethod
    def of_lifts(cls, contrast: Contrast) -> "Effects":
        """The lifts, for segments or experiments whose control means differ.

        The variance is that of mT - (1 + lift) mC over the squared control mean, the delta
        method at the observed lift. It asks for control means that are known well, better than
        to a fifth of themselves: a pooled lift has no Fieller interval.
        """
        seen = np.where(contrast.lift_gap == Gap.NONE, contrast.lift, 0.0)
        there = replace(contrast, null_lift=np.maximum(seen, -1.0 + 1e-12))
        variance = quotient(there.variance, np.asarray(contrast.control.value) ** 2, 0.0)
        return cls(contrast.lift, variance, contrast.lift_spread_gap)

    @property
    def precision(self) -> FloatArray:
        """One over the variance; zero where there is a gap."""
        known = (self.gap == Gap.NONE) & (self.variance > 0)
        return quotient(known.astype(np.float64), np.where(known, self.variance, 0.0), 0.0)

    @property
    def known_value(self) -> FloatArray:
        """The values, with zero in place of what is missing."""
        return np.where(self.precision > 0, self.value, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Heterogeneity:
    """Cochran's test of equal effects; arrays have the shape in front of the last axis.

    `i_squared` is the share of the variation between estimates that is not chance, `pooled` the
    effect weighted by precision and `spread` the estimated standard deviation of true effects
    (DerSimonian and Laird 1986). With less than two effects `gap` says so.
    """

    statistic: FloatArray
    dof: FloatArray
    p_value: FloatArray
    i_squared: FloatArray
    pooled: FloatArray
    pooled_variance: FloatArray
    spread: FloatArray
    gap: GapArray


def heterogeneity(effects: Effects) -> Heterogeneity:
    """Test whether all true effects are the same.

    Source: Cochran (1954), "The combination of estimates from different experiments": the
    weighted sum of squares around the pooled effect is chi-squared with one degree of freedom
    less than there are effects. I squared of Higgins and Thompson (2002). Assumes
    independent, nearly normal effects with variances that are known well; with few units a
    segment the test rejects a little too often.
    """
    w, y = effects.precision, effects.known_value
    total = w.sum(axis=-1)
    pooled = quotient((w * y).sum(axis=-1), total, 0.0)
    statistic = (w * (y - pooled[..., None]) ** 2).sum(axis=-1)
    dof = np.maximum((w > 0).sum(axis=-1) - 1.0, 0.0)
    gap = np.where(dof < 1, Gap.NOT_APPLICABLE, Gap.NONE).astype(np.uint8)
    excess = np.maximum(statistic - dof, 0.0)
    slack = (w * (1.0 - quotient(w, total[..., None], 0.0))).sum(axis=-1)
    return Heterogeneity(
        statistic=statistic,
        dof=dof,
        p_value=np.asarray(special.chdtrc(np.maximum(dof, 1.0), statistic)),
        i_squared=quotient(excess, statistic, 0.0),
        pooled=pooled,
        pooled_variance=quotient(np.ones_like(total), total, 0.0),
        spread=np.sqrt(quotient(excess, np.where(dof < 1, 0.0, slack), 0.0)),
        gap=gap,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Shrunken:
    """Effects after each has borrowed from the others, in the shape of the effects.

    `value` and `std_dev` are the posterior mean and standard deviation, `interval` the central
    credible interval. `gap` is NOT_APPLICABLE for fewer than three effects.
    """

    value: FloatArray
    std_dev: FloatArray
    interval: Interval
    gap: GapArray


def shrink(effects: Effects, alpha: float = 0.05) -> Shrunken:
    """The posterior of each effect when all come from one normal distribution of unknown spread.

    Source: Gelman et al. (2013), "Bayesian Data Analysis", section 5.4, equations 5.17 to 5.21:
    a flat prior on the mean and on the standard deviation of the true effects, which needs at
    least three of them. The spread is integrated over instead of being fixed at an estimate,
    so intervals stay honest when the estimate is zero. Intervals of this kind need no
    correction for looking at the largest segment, as far as the normal distribution holds.
    """
    w, y = effects.precision, effects.known_value
    enough = (w > 0).sum(axis=-1, keepdims=True) >= FEWEST_SEGMENTS
    usable = enough & (w > 0)
    gap = np.where(enough, effects.gap, Gap.NOT_APPLICABLE).astype(np.uint8)
    variance = np.where(usable, effects.variance, np.inf)
    spread, mass = spread_nodes(np.where(usable, y, 0.0), variance)
    mean, var = _given_spread(np.where(usable, y, 0.0), variance, spread)
    mass = mass[..., None]
    value = (mass * mean).sum(axis=-2)
    std_dev = np.sqrt((mass * (var + (mean - value[..., None, :]) ** 2)).sum(axis=-2))
    low = _quantile(alpha / 2.0, mean, var, mass)
    high = -_quantile(alpha / 2.0, -mean, var, mass)
    shape = np.full(value.shape, Shape.BETWEEN, dtype=np.uint8)
    return Shrunken(value, std_dev, Interval(low, high, shape), gap)


def _given_spread(
    y: FloatArray, variance: FloatArray, spread: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of each effect at each value of the spread; nodes before the last axis.

    Equations 5.17 and 5.20, with the uncertainty of the common mean added to both.
    """
    tau2 = (spread**2)[..., None]
    v = variance[..., None, :]
    known = np.isfinite(v)
    w = np.where(known, 1.0 / (np.where(known, v, 1.0) + tau2), 0.0)
    total = np.maximum(w.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    centre = (w * y[..., None, :]).sum(axis=-1, keepdims=True) / total
    pull = np.where(known, np.where(known, v, 0.0) * w, 1.0)
    mean = y[..., None, :] + pull * (centre - y[..., None, :])
    own = np.where(known, (1.0 - pull) * np.where(known, v, 0.0), tau2)
    return mean, own + pull**2 / total


def spread_nodes(y: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Quadrature nodes of the spread and their posterior mass (equation 5.21).

    Effects are on the last axis, those with an infinite variance missing, and so are the nodes.

    On u in (0, 1) with spread = scale u / (1 - u); the range is narrowed to where there is
    mass, which many segments or large effects concentrate.
    """
    known = np.isfinite(variance)
    v = np.where(known, variance, 0.0)
    count = np.maximum(known.sum(axis=-1), 1)
    centre = (y * known).sum(axis=-1, keepdims=True) / count[..., None]
    scale = np.sqrt(((v + (y - centre) ** 2) * known).sum(axis=-1) / count)[..., None]
    scale = np.where(scale > 0, scale, 1.0)
    low, high = np.zeros_like(scale), np.ones_like(scale)
    for last in range(NARROWINGS):
        half = (high - low) / 2.0
        u = low + half * (NODES + 1.0)
        spread = scale * u / (1.0 - u)
        log_mass = _log_posterior(y, variance, spread) - 2.0 * np.log1p(-u) + np.log(half * WEIGHTS)
        log_mass -= log_mass.max(axis=-1, keepdims=True)
        if last == NARROWINGS - 1:
            break
        live = log_mass > NEGLIGIBLE
        first, final = np.argmax(live, axis=-1), live.shape[-1] - 1 - np.argmax(live[..., ::-1], -1)
        edges = np.concatenate([low, u, high], axis=-1)
        low = np.take_along_axis(edges, first[..., None], axis=-1)
        high = np.take_along_axis(edges, final[..., None] + 2, axis=-1)
    mass = np.exp(log_mass)
    return spread, mass / mass.sum(axis=-1, keepdims=True)


def _log_posterior(y: FloatArray, variance: FloatArray, spread: FloatArray) -> FloatArray:
    known = np.isfinite(variance)[..., None, :]
    v = np.where(known, np.where(known, variance[..., None, :], 1.0) + (spread**2)[..., None], 1.0)
    w = known / v
    total = np.maximum(w.sum(axis=-1), np.finfo(np.float64).tiny)
    centre = (w * y[..., None, :]).sum(axis=-1) / total
    squares = (w * (y[..., None, :] - centre[..., None]) ** 2).sum(axis=-1)
    return np.asarray(-0.5 * (np.log(total) + np.log(v).sum(axis=-1) + squares))


def _quantile(tail: float, mean: FloatArray, var: FloatArray, mass: FloatArray) -> FloatArray:
    """The lower quantile of a mixture of normals over the axis before the last.

    Newton's method on the logarithm of the distribution function, each step kept between the
    outermost quantiles of the parts and what is known to lie on either side.
    """
    inverse = 1.0 / np.sqrt(np.maximum(var, np.finfo(np.float64).tiny))
    parts = mean + special.ndtri(tail) / inverse
    carries = mass > 1e-12
    low = np.where(carries, parts, np.inf).min(axis=-2)
    high = np.where(carries, parts, -np.inf).max(axis=-2)
    x = (mass * parts).sum(axis=-2)
    weighted = mass * inverse / np.sqrt(2.0 * np.pi)
    for _ in range(STEPS):
        scaled = (x[..., None, :] - mean) * inverse
        below = (mass * special.ndtr(scaled)).sum(axis=-2)
        density = (weighted * np.exp(-0.5 * scaled**2)).sum(axis=-2)
        low, high = np.where(below < tail, x, low), np.where(below < tail, high, x)
        step = x - quotient(np.log(np.maximum(below, 1e-300) / tail) * below, density, 0.0)
        x = np.where((step >= low) & (step <= high), step, (low + high) / 2.0)
    return np.asarray(x)
