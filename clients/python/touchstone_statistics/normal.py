"""Posterior of a mean whose variance is unknown too: normal-inverse-gamma, so Student's t."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import special

from touchstone_statistics.belief import DROP, PITCH, Cells, axis, edges_of, panels
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, first_gap
from touchstone_statistics.interval import Interval, Shape
from touchstone_statistics.versus import Pairs, credible_lift


@dataclass(frozen=True, slots=True)
class NormalPrior:
    """Normal-inverse-gamma belief before any data.

    `mean` counts as much as `units` observations of it; the precision is Gamma(`shape`, `rate`).
    The default is Jeffreys' prior in the limit (Gelman et al. 2013, section 3.2): it leaves the
    posterior t distribution of each mean as the data alone say it.
    """

    mean: float = 0.0
    units: float = 0.0
    shape: float = -0.5
    rate: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("units", 0.0), ("shape", -0.5), ("rate", 0.0)):
            value = getattr(self, name)
            if not least <= value < np.inf:
                raise ValueError(f"{name} is {value}; it must be finite and at least {least}")
        if not np.isfinite(self.mean):
            raise ValueError(f"mean is {self.mean}; it must be finite")


@dataclass(frozen=True, slots=True, eq=False)
class NormalPosterior(Cells):
    """Belief about the mean of each cell: Student's t about `centre` with `scale` and `dof`.

    Estimand: the mean of a unit. Assumes that units are independent and the mean nearly normal
    given the variance. Source: Gelman et al. (2013), "Bayesian Data Analysis", section 3.3;
    compared by quadrature it answers the Behrens-Fisher problem (Jeffreys 1940).
    """

    centre: FloatArray
    scale: FloatArray
    dof: FloatArray

    @classmethod
    def of(cls, arms: Estimate, prior: NormalPrior = NormalPrior()) -> tuple[Self, GapArray]:
        """Posterior of each arm and why there is none; where there is a gap it means nothing.

        An arm needs more than two degrees of freedom, or its mean has no spread to speak of.
        """
        n = arms.units
        held = prior.units + n
        gap = first_gap(arms.gap, arms.spread_gap)
        known = (gap == 0) & (held > 0)
        held = np.where(known, held, 1.0)
        centre = (prior.units * prior.mean + n * arms.value) / held
        between = prior.units * n * (arms.value - prior.mean) ** 2 / (2.0 * held)
        rate = prior.rate + 0.5 * np.maximum(n - 1.0, 0.0) * n * arms.variance + between
        shape = prior.shape + 0.5 * n
        few = np.where(shape <= 1.0, Gap.TOO_FEW_UNITS, Gap.NONE).astype(np.uint8)
        flat = np.where(rate <= 0, Gap.ZERO_VARIANCE, Gap.NONE).astype(np.uint8)
        gap = first_gap(gap, few, flat)
        usable = gap == 0
        scale = np.sqrt(np.where(usable, rate, 1.0) / (np.where(usable, shape, 2.0) * held))
        return cls(np.where(usable, centre, 0.0), scale, 2.0 * np.where(usable, shape, 2.0)), gap

    @property
    def mean(self) -> FloatArray:
        return self.centre

    @property
    def std_dev(self) -> FloatArray:
        return np.asarray(self.scale * np.sqrt(self.dof / (self.dof - 2.0)))

    @property
    def spread(self) -> FloatArray:
        return self.std_dev

    @property
    def support(self) -> tuple[float, float]:
        return -np.inf, np.inf

    @property
    def has_edge(self) -> BoolArray:
        return np.zeros(self.centre.shape, dtype=np.bool_)

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """The trapezoidal rule after x = scale sqrt(dof) sinh(u): the density is cosh(u)^-dof.

        The substitution turns the heavy tails into exponential ones, so that it converges
        geometrically (Trefethen and Weideman 2014, section 14).
        """
        end = self._reach()
        step = np.minimum(PITCH / np.sqrt(self.dof), 0.12)
        count = int(np.ceil(np.max(2.0 * end / step))) + 1 if end.size else 2
        return self._weighed(end[..., None] * (2.0 * axis(count) - 1.0), 1.0)

    def split_nodes(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gauss-Legendre panels on the same scale that end at the given values."""
        inside = np.arcsinh(self._scaled(places) / np.sqrt(self.dof)[..., None])
        end = self._reach()
        return self._weighed(*panels(edges_of(-end, end, inside)))

    def _reach(self) -> FloatArray:
        """Where cosh(u)^dof has grown by `DROP` powers of e."""
        top = DROP / self.dof
        return np.asarray(top + np.log1p(np.sqrt(-np.expm1(-2.0 * top))))

    def _weighed(
        self, place: FloatArray, widths: FloatArray | float
    ) -> tuple[FloatArray, FloatArray]:
        weight = np.exp(-self.dof[..., None] * _log_cosh(place)) * widths
        stretch = (self.scale * np.sqrt(self.dof))[..., None]
        points = self.centre[..., None] + stretch * np.sinh(place)
        return points, weight / weight.sum(axis=-1, keepdims=True)

    def below(self, value: FloatArray) -> FloatArray:
        return np.asarray(special.stdtr(self.dof[..., None], self._scaled(value)))

    def above(self, value: FloatArray) -> FloatArray:
        return np.asarray(special.stdtr(self.dof[..., None], -self._scaled(value)))

    def density(self, value: FloatArray) -> FloatArray:
        return np.asarray(self._standard(self._scaled(value)) / self.scale[..., None])

    def shortfall_kernel(self, value: FloatArray) -> FloatArray:
        dof, scaled = self.dof[..., None], self._scaled(value)
        spread = self.scale[..., None] * (dof + scaled**2) / (dof - 1.0)
        return np.asarray(self._standard(scaled) * spread)

    def _scaled(self, value: FloatArray) -> FloatArray:
        return np.asarray((value - self.centre[..., None]) / self.scale[..., None])

    def _standard(self, scaled: FloatArray) -> FloatArray:
        """Density of Student's t; the ratio of gammas by its own series, which does not cancel."""
        dof = self.dof[..., None]
        peak = special.poch(0.5 * self.dof, 0.5)[..., None] / np.sqrt(np.pi * dof)
        return np.asarray(peak * np.exp(-0.5 * (dof + 1.0) * np.log1p(scaled**2 / dof)))


def _log_cosh(place: FloatArray) -> FloatArray:
    size = np.abs(place)
    # log(cosh u) = log1p(2 sinh^2(u / 2)) keeps the digits of small u, the other those of large.
    near = np.log1p(2.0 * np.sinh(0.5 * np.minimum(size, 1.0)) ** 2)
    return np.where(size < 1.0, near, size + np.log1p(np.exp(-2.0 * size)) - np.log(2.0))


def lift_of_means(pairs: Pairs[NormalPosterior], alpha: float = 0.05) -> Interval:
    """Credible set of the lift of a mean: all r where neither tail of T - (1 + r) C is too small.

    For metrics whose mean is above zero. Where the control mean is not clearly so nothing can be
    excluded, as in Fieller's set; where the treatment mean is not, the set ends at -1. Otherwise it
    excludes zero exactly when the set of the difference does.
    """
    origin = np.zeros((*pairs.control.mean.shape, 1))
    clear = pairs.control.below(origin)[:, 0] < alpha / 2
    low, high = np.full(clear.shape, -np.inf), np.full(clear.shape, np.inf)
    treatment = pairs.treatment[clear]
    found = credible_lift(Pairs.of(pairs.control[clear], treatment), alpha)
    origin = origin[clear]
    low[clear] = np.where(treatment.below(origin)[:, 0] < alpha / 2, found.low, -1.0)
    high[clear] = np.where(treatment.above(origin)[:, 0] > alpha / 2, found.high, -1.0)
    shape = np.where(clear, Shape.BETWEEN, Shape.EVERYTHING).astype(np.uint8)
    return Interval(low.reshape(pairs.shape), high.reshape(pairs.shape), shape.reshape(pairs.shape))
