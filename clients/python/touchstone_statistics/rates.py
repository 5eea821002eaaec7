"""Rates of very many cells at once: the answers of `versus`, by series."""

from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from touchstone_statistics.bayes import Region
from touchstone_statistics.belief import Belief
from touchstone_statistics.cumulants import mirrored
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.interval import Interval
from touchstone_statistics.series import Series
from touchstone_statistics.versus import (
    Comparison,
    Pairs,
    check_level,
    credible_difference,
    credible_lift,
    within_difference,
    within_lift,
)

ORDERS = ((100.0, 30), (1_000.0, 14))
"""From so many conversions (and units without) on so many cumulants give a transform to 1e-13: of a
count n the term of order k adds at most n / k (k / (e n))^(k / 2)."""
CHUNK = 1024
"""Cells at once: enough to hide the cost of a call, few enough for the cache."""


class Counted(Belief, Protocol):
    """Belief about a rate that follows from counts."""

    @property
    def least(self) -> FloatArray:
        """The count, cell by cell, that says how nearly normal the belief is."""
        ...

    @property
    def log_moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the logarithm of the rate."""
        ...

    def terms(self, std_dev: FloatArray, highest: int) -> FloatArray:
        """The power series of log E[exp(z rate)] from z^3 on, in units of `std_dev`."""
        ...

    def log_terms(self, std_dev: FloatArray, highest: int) -> FloatArray:
        """The same of the logarithm of the rate."""
        ...

    def flat(self, shape: tuple[int, ...]) -> Self: ...


C = TypeVar("C", bound=Counted)


@dataclass(frozen=True, slots=True, eq=False)
class RateReading:
    """Two rates compared: chances and losses, with credible sets of difference and lift.

    `within_region` is the mass of the region of practical equivalence, if one was given.
    """

    comparison: Comparison
    difference: Interval
    lift: Interval
    within_region: FloatArray | None = None


def read_rates(
    control: C,
    treatment: C,
    alpha: float = 0.05,
    increase_is_better: bool = True,
    region: Region | None = None,
) -> RateReading:
    """Every pair of independent beta, or gamma, posteriors; the batch shapes broadcast.

    Where both have plenty of conversions the difference, and that of the logarithms, are given by
    their cumulants (`Series`), with errors below 1e-12 of their standard deviation; elsewhere the
    quadrature of `versus` is asked, with errors below 1e-9. `difference` and `lift` agree about
    zero but for that error.
    """
    check_level(alpha)
    if region is not None and region.relative and region.low <= -1:
        raise ValueError(f"low is {region.low}; a region of lifts begins above -1")
    shape = np.broadcast_shapes(control.mean.shape, treatment.mean.shape)
    held, tried = control.flat(shape), treatment.flat(shape)
    found = np.empty((8 if region is None else 9, held.mean.size))
    orders = orders_needed(held, tried)
    if np.count_nonzero(orders) <= CHUNK:
        # A second call costs more than the orders that most do not need.
        orders = np.where(orders > 0, orders.max(initial=0), 0)
    for _, highest in ORDERS:
        alike = np.flatnonzero(orders == highest)
        for start in range(0, alike.size, CHUNK):
            cells = alike[start : start + CHUNK]
            found[:, cells] = _by_series(held[cells], tried[cells], highest, alpha, region)
    others = np.flatnonzero(orders == 0)
    if others.size:
        found[:, others] = _by_quadrature(held[others], tried[others], alpha, region)
    higher, lower, gain, loss, *ends = (part.reshape(shape) for part in found)
    comparison = Comparison(higher, loss, gain)
    if not increase_is_better:
        comparison = Comparison(lower, gain, loss)
    none = np.zeros(shape, dtype=np.uint8)
    return RateReading(
        comparison,
        Interval(ends[0], ends[1], none),
        Interval(ends[2], ends[3], none),
        None if region is None else ends[4],
    )


def orders_needed(held: Counted, tried: Counted) -> NDArray[np.intp]:
    """The highest cumulant that each pair needs; 0 where series are not for it."""
    least = np.minimum(held.least, tried.least)
    enough = np.array([0, *(order for _, order in ORDERS)])
    return np.asarray(enough[np.searchsorted([count for count, _ in ORDERS], least, "right")])


def _by_quadrature(held: C, tried: C, alpha: float, region: Region | None) -> FloatArray:
    pairs = Pairs.of(held, tried)
    rise, fall = pairs.compare(), pairs.compare(increase_is_better=False)
    shift, lift = credible_difference(pairs, alpha), credible_lift(pairs, alpha)
    rows = [rise.probability_to_beat, fall.probability_to_beat]
    rows += [rise.loss_of_control, rise.expected_loss, shift.low, shift.high, lift.low, lift.high]
    if region is not None:
        within = within_lift if region.relative else within_difference
        rows.append(within(pairs, region.low, region.high))
    return np.stack(rows)


def _by_series(
    held: Counted, tried: Counted, highest: int, alpha: float, region: Region | None
) -> FloatArray:
    shift, lift = _difference(held, tried, highest), _log_ratio(held, tried, highest)
    rows = [*shift.chances(0.0), *shift.ends(alpha)]
    rows += [np.expm1(end) for end in lift.ends(alpha)]
    if region is not None:
        low, high = region.low, region.high
        rows.append(
            lift.within(float(np.log1p(low)), float(np.log1p(high)))
            if region.relative
            else shift.within(low, high)
        )
    return np.stack(rows)


def _difference(held: Counted, tried: Counted, highest: int) -> Series:
    """The rate of the treatment minus that of the control."""
    std_dev = np.hypot(held.std_dev, tried.std_dev)
    terms = tried.terms(std_dev, highest) + mirrored(held.terms(std_dev, highest))
    return Series.of(tried.mean - held.mean, std_dev, terms)


def _log_ratio(held: Counted, tried: Counted, highest: int) -> Series:
    """The logarithm of the rate of the treatment minus that of the control."""
    (held_mean, held_variance), (mean, variance) = held.log_moments, tried.log_moments
    std_dev = np.sqrt(held_variance + variance)
    terms = tried.log_terms(std_dev, highest) + mirrored(held.log_terms(std_dev, highest))
    return Series.of(mean - held_mean, std_dev, terms)
