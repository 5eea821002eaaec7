"""Gamma posteriors of rates of events, and the lift of one rate over another in closed form."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from touchstone_statistics.belief import (
    DROP,
    SMOOTH_SHAPE,
    Cells,
    axis,
    edges_of,
    enough_nodes,
    panels,
    reach,
    stirling_rest,
)
from touchstone_statistics.cumulants import of_gamma, of_log, of_log_moments
from touchstone_statistics.gaps import BoolArray, FloatArray
from touchstone_statistics.interval import Interval
from touchstone_statistics.versus import check_level


@dataclass(frozen=True, slots=True, eq=False)
class GammaPosterior(Cells):
    """Belief about events a unit of exposure: Gamma(events, exposure), both above zero.

    Estimand: the expected number of events of a unit (or of an hour, where exposure is time).
    Assumes that events are Poisson: their variance over units equals their mean. Where units
    differ more than that the belief is too narrow, and `NormalPosterior` is the honest one.
    Source: Gelman et al. (2013), "Bayesian Data Analysis", section 2.6.
    """

    events: FloatArray
    exposure: FloatArray

    @classmethod
    def of(
        cls, events: ArrayLike, exposure: ArrayLike, prior: tuple[float, float] = (1.0, 0.01)
    ) -> Self:
        """`prior` (events and the exposure they were seen in) and what was counted since.

        The prior of one event in a hundredth of a unit is nearly flat on the scale of the data.
        """
        if not (0 < prior[0] < np.inf and 0 < prior[1] < np.inf):
            raise ValueError(f"the prior is {prior}; both parts must be finite and above zero")
        counts, over = np.broadcast_arrays(np.asarray(events, float), np.asarray(exposure, float))
        for name, values in (("events", counts), ("exposure", over)):
            wrong = ~((values >= 0) & np.isfinite(values))
            if wrong.any():
                raise ValueError(f"{name} is {values[wrong].flat[0]:g}; it must be finite and >= 0")
        return cls(prior[0] + counts, prior[1] + over)

    @property
    def mean(self) -> FloatArray:
        return np.asarray(self.events / self.exposure)

    @property
    def std_dev(self) -> FloatArray:
        return np.asarray(np.sqrt(self.events) / self.exposure)

    @property
    def spread(self) -> FloatArray:
        return np.asarray(1.0 / np.sqrt(self.events))

    @property
    def support(self) -> tuple[float, float]:
        return 0.0, np.inf

    @property
    def has_edge(self) -> BoolArray:
        return np.asarray(self.events < SMOOTH_SHAPE)

    @property
    def least(self) -> FloatArray:
        """The events."""
        return self.events

    @property
    def log_moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the logarithm of the rate, of counts from 100 on."""
        mean, variance = of_log_moments(self.events, None)
        return mean + np.log(self.mean), variance

    def terms(self, std_dev: FloatArray, highest: int) -> FloatArray:
        return of_gamma(self.events, self.exposure, std_dev, highest)

    def log_terms(self, std_dev: FloatArray, highest: int) -> FloatArray:
        return of_log(self.events, None, std_dev, highest)

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """The trapezoidal rule over the logarithm of the rate, as for `BetaPosterior`."""
        low, high = self._reach()
        places = axis(enough_nodes(high - low, self.spread))
        return self._weighed(low[..., None] + (high - low)[..., None] * places, 1.0)

    def split_nodes(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gauss-Legendre panels over the logarithm that end at the given rates."""
        low, high = self._reach()
        inside = np.log(np.clip(places, 1e-300, 1e300)) - np.log(self.mean)[..., None]
        return self._weighed(*panels(edges_of(low, high, inside)))

    def _reach(self) -> tuple[FloatArray, FloatArray]:
        """How far below and above its mode the logarithm has any mass."""
        start = np.sqrt(2.0 * DROP) * self.spread
        return (
            reach(lambda distance: _fall(self.events, distance), -start),
            reach(lambda distance: _fall(self.events, distance), np.minimum(start, 3.0)),
        )

    def _weighed(
        self, distance: FloatArray, widths: FloatArray | float
    ) -> tuple[FloatArray, FloatArray]:
        """Rates at distances from the mode of the logarithm, with their share of the mass."""
        weight = np.exp(-_fall(self.events[..., None], distance)[0]) * widths
        points = self.mean[..., None] * np.exp(distance)
        return points, weight / weight.sum(axis=-1, keepdims=True)

    def below(self, value: FloatArray) -> FloatArray:
        return np.asarray(special.gammainc(self.events[..., None], self._scaled(value)))

    def above(self, value: FloatArray) -> FloatArray:
        return np.asarray(special.gammaincc(self.events[..., None], self._scaled(value)))

    def density(self, value: FloatArray) -> FloatArray:
        inside = value > 0
        return np.where(inside, self._mass(value) / np.where(inside, value, 1.0), 0.0)

    def shortfall_kernel(self, value: FloatArray) -> FloatArray:
        return np.asarray(self._mass(value) / self.exposure[..., None])

    def _scaled(self, value: FloatArray) -> FloatArray:
        return np.asarray(np.maximum(value, 0.0) * self.exposure[..., None])

    def _mass(self, value: FloatArray) -> FloatArray:
        """Density of the log rate: (b x)^a e^(-b x) / Gamma(a), written about its mode."""
        inside = value > 0
        events = self.events[..., None]
        rate = np.where(inside, value, 1.0)
        fallen, _ = _fall(events, np.log(rate / self.mean[..., None]))
        peak = 0.5 * np.log(events / (2.0 * np.pi)) - stirling_rest(events)
        return np.where(inside, np.exp(peak - fallen), 0.0)


def _fall(events: FloatArray, distance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fall of the log density of the log rate at a distance from its mode, and its slope."""
    grown = np.expm1(distance)
    # The series takes over where exp(d) - 1 - d would cancel.
    curved = distance**2 * (0.5 + distance * (1 / 6 + distance * (1 / 24 + distance / 120)))
    fallen = np.where(np.abs(distance) < 1e-3, curved, grown - distance)
    return events * fallen, events * grown


def lift_of_rates(
    control: GammaPosterior, treatment: GammaPosterior, alpha: float = 0.05
) -> Interval:
    """Equal-tailed credible set of the lift of one Poisson rate over another, in closed form.

    The ratio of two gamma variables, each in units of its scale, is a beta prime variable
    (Johnson, Kotz and Balakrishnan 1995, "Continuous univariate distributions" 2, section 27.2).
    """
    check_level(alpha)
    a, b = treatment.events, control.events
    scale = control.exposure / treatment.exposure
    low = special.betaincinv(a, b, alpha / 2)
    high = special.betaincinv(b, a, alpha / 2)
    ends = low / (1.0 - low) * scale - 1.0, (1.0 - high) / high * scale - 1.0
    return Interval(*ends, np.zeros(ends[0].shape, dtype=np.uint8))


def rate_beats(control: GammaPosterior, treatment: GammaPosterior) -> FloatArray:
    """P(treatment rate > control rate) in closed form, from the same beta variable."""
    share = treatment.exposure / (treatment.exposure + control.exposure)
    return np.asarray(special.betaincc(treatment.events, control.events, share))
