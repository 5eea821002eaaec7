"""Rates of very many cells at once: the answers of `versus`, by convolution."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from touchstone_statistics.bayes import Region
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.interval import Interval
from touchstone_statistics.versus import (
    Comparison,
    Margin,
    Pairs,
    check_level,
    credible_difference,
    credible_lift,
    equal_tails,
    within_difference,
    within_lift,
)
from touchstone_statistics.wave import ComplexArray, Wave

SMOOTH = 100.0
"""From this many conversions (and units without) on a density is nothing at 0 and at 1."""
PERIOD = 18.0
"""The standard deviations of a difference that a period holds."""
RESOLVED = ((48, 0.164), (96, 0.041))
"""So many nodes to a period resolve two beliefs whose shares of the variance of the difference have
at least this product: the first aliased wave is then below 1e-10 of what it adds to."""
WAVES = 23
"""Up to nearly ten over the standard deviation, where nothing is left of the transform."""
CHUNK = 2048
"""Cells at once: enough to hide the cost of a call, few enough for the cache."""


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
    control: BetaPosterior,
    treatment: BetaPosterior,
    alpha: float = 0.05,
    increase_is_better: bool = True,
    region: Region | None = None,
) -> RateReading:
    """Every pair of independent beta posteriors; the batch shapes broadcast.

    Where both have plenty of conversions the difference, and that of the logarithms, are
    distributions by Fourier series (`Wave`), which a fast Fourier transform of the two densities
    gives; elsewhere the quadrature of `versus` is asked. Both have errors below 1e-9. `difference`
    and `lift` agree about zero but for that error.
    """
    check_level(alpha)
    if region is not None and region.relative and region.low <= -1:
        raise ValueError(f"low is {region.low}; a region of lifts begins above -1")
    shape = np.broadcast_shapes(control.mean.shape, treatment.mean.shape)
    held, tried = control.flat(shape), treatment.flat(shape)
    found = np.empty((8 if region is None else 9, held.mean.size))
    nodes = nodes_needed(held, tried)
    for count, _ in RESOLVED:
        alike = np.flatnonzero(nodes == count)
        for start in range(0, alike.size, CHUNK):
            cells = alike[start : start + CHUNK]
            found[:, cells] = _by_waves(held[cells], tried[cells], count, alpha, region)
    others = np.flatnonzero(nodes == 0)
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


def nodes_needed(held: BetaPosterior, tried: BetaPosterior) -> NDArray[np.intp]:
    """How many nodes resolve each pair; 0 where series are not for it."""
    least = np.minimum(
        np.minimum(held.successes, held.failures), np.minimum(tried.successes, tried.failures)
    )
    needed = np.zeros(least.shape, dtype=np.intp)
    ours, theirs = held.std_dev**2, tried.std_dev**2
    scaled = ours / held.mean**2, theirs / tried.mean**2
    product = np.minimum(
        ours * theirs / (ours + theirs) ** 2, scaled[0] * scaled[1] / (scaled[0] + scaled[1]) ** 2
    )
    for count, share in reversed(RESOLVED):
        needed = np.where((least >= SMOOTH) & (product >= share), count, needed)
    return needed


def _by_quadrature(
    held: BetaPosterior, tried: BetaPosterior, alpha: float, region: Region | None
) -> FloatArray:
    pairs = Pairs.of(held, tried)
    rise, fall = pairs.compare(), pairs.compare(increase_is_better=False)
    shift, lift = credible_difference(pairs, alpha), credible_lift(pairs, alpha)
    rows = [rise.probability_to_beat, fall.probability_to_beat]
    rows += [rise.loss_of_control, rise.expected_loss, shift.low, shift.high, lift.low, lift.high]
    if region is not None:
        within = within_lift if region.relative else within_difference
        rows.append(within(pairs, region.low, region.high))
    return np.stack(rows)


def _by_waves(
    held: BetaPosterior, tried: BetaPosterior, count: int, alpha: float, region: Region | None
) -> FloatArray:
    shift, lift = _difference(held, tried, count), _log_ratio(held, tried, count)
    zero = np.zeros((held.mean.size, 1))
    chances = shift.above(zero), shift.below(zero), shift.excess(zero), shift.shortfall(zero)
    rows = [part[:, 0] for part in chances] + _ends(shift, alpha)
    rows += [np.expm1(end) for end in _ends(lift, alpha)]
    if region is not None:
        wave, bounds = shift, np.array([region.low, region.high])
        if region.relative:
            wave, bounds = lift, np.log1p(bounds)
        upto = wave.below(np.broadcast_to(bounds, (held.mean.size, 2)))
        rows.append(np.maximum(upto[:, 1] - upto[:, 0], 0.0))
    return np.stack(rows)


def _ends(wave: Wave, alpha: float) -> list[FloatArray]:
    def tail(at: FloatArray, upper: bool) -> tuple[FloatArray, FloatArray]:
        value = at[:, None]
        mass = wave.above(value) if upper else wave.below(value)
        return mass[:, 0], wave.density(value)[:, 0]

    return equal_tails(Margin(tail, wave.mean, wave.std_dev), alpha)


def _difference(held: BetaPosterior, tried: BetaPosterior, count: int) -> Wave:
    """The rate of the treatment minus that of the control."""
    std_dev = np.hypot(held.std_dev, tried.std_dev)
    offsets = _offsets(PERIOD * std_dev, count)
    parts = []
    for belief in (held, tried):
        a, b, mean = (part[:, None] for part in (belief.successes, belief.failures, belief.mean))
        inside = (mean + offsets > 0) & (mean + offsets < 1)
        apart = np.where(inside, offsets, 0.0)
        fallen = (a - 1.0) * np.log1p(apart / mean) + (b - 1.0) * np.log1p(-apart / (1.0 - mean))
        parts.append(_transform(np.exp(np.where(inside, fallen, -np.inf))))
    return Wave.of(tried.mean - held.mean, std_dev, PERIOD * std_dev, parts[1] * np.conj(parts[0]))


def _log_ratio(held: BetaPosterior, tried: BetaPosterior, count: int) -> Wave:
    """The logarithm of the rate of the treatment minus that of the control."""
    period = PERIOD * np.hypot(held.std_dev / held.mean, tried.std_dev / tried.mean)
    offsets = _offsets(period, count)
    parts, centres, variances = [], [], []
    frequency = Wave.frequencies(period, WAVES)
    for belief in (held, tried):
        a, b, mean = (part[:, None] for part in (belief.successes, belief.failures, belief.mean))
        grown = mean / (1.0 - mean) * np.expm1(offsets)
        inside = grown < 1
        fallen = a * offsets + (b - 1.0) * np.log1p(-np.where(inside, grown, 0.0))
        mass = np.exp(np.where(inside, fallen, -np.inf))
        mass = mass / mass.sum(axis=1, keepdims=True)
        centre = np.sum(mass * offsets, axis=1)
        variances.append(np.sum(mass * (offsets - centre[:, None]) ** 2, axis=1))
        parts.append(_transform(mass) * np.exp(1j * frequency * centre[:, None]))
        centres.append(np.log(belief.mean) + centre)
    std_dev = np.sqrt(variances[0] + variances[1])
    return Wave.of(centres[1] - centres[0], std_dev, period, parts[1] * np.conj(parts[0]))


def _offsets(period: FloatArray, count: int) -> FloatArray:
    """Even distances from a centre over one period, cells + nodes."""
    return np.asarray(period[:, None] * (np.arange(count) / count - 0.5))


def _transform(mass: FloatArray) -> ComplexArray:
    """E[exp(-i w u)] over the offsets at the frequencies of a `Wave`, without that of zero."""
    waves = fft.rfft(mass, axis=1)
    # The offsets begin half a period before the centre, which turns every other wave.
    turned = waves[:, 1 : WAVES + 1] / waves[:, :1].real
    turned[:, ::2] *= -1.0
    return np.asarray(turned)
