"""Intervals that say when they are not bounded, and Fieller's interval of a ratio."""

import enum
from dataclasses import dataclass

import numpy as np

from touchstone_statistics.gaps import BoolArray, FloatArray, GapArray, quotient


class Side(enum.Enum):
    """Which deviations from the null hypothesis count as evidence."""

    TWO_SIDED = "two-sided"
    GREATER = "greater"
    LESS = "less"


class Shape(enum.IntEnum):
    """Which set of values an interval stands for."""

    BETWEEN = 0
    """From low to high; an end is infinite where a one-sided test leaves it open."""
    EVERYTHING = 1
    """No value can be excluded: the denominator is not distinguishable from zero."""
    OUTSIDE = 2
    """Up to low and again from high: only the values strictly between are excluded."""


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """Sets of plausible values, one an element; `low <= high`, both infinite for EVERYTHING."""

    low: FloatArray
    high: FloatArray
    shape: GapArray

    def excludes(self, value: float) -> BoolArray:
        """Whether the value is not in the set."""
        beyond = (value < self.low) | (value > self.high)
        inside = (value > self.low) & (value < self.high)
        return np.where(self.shape == Shape.OUTSIDE, inside, beyond)


def around(centre: FloatArray, reach: FloatArray, side: Side) -> Interval:
    """Centre minus reach to centre plus reach, with the end open that the side does not test."""
    low = centre - reach if side is not Side.LESS else np.full_like(centre, -np.inf)
    high = centre + reach if side is not Side.GREATER else np.full_like(centre, np.inf)
    return Interval(low, high, np.zeros(centre.shape, dtype=np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class Fraction:
    """Two roughly normal estimates whose ratio is wanted; the denominator is not negative.

    `offset` is a known number that is added to the ratio.
    """

    numerator: FloatArray
    denominator: FloatArray
    numerator_variance: FloatArray
    denominator_variance: FloatArray
    covariance: FloatArray
    offset: FloatArray | float = 0.0


def fieller(fraction: Fraction, critical: FloatArray, side: Side) -> Interval:
    """All ratios r for which numerator - r * denominator is within `critical` standard errors.

    The set is then moved by the offset of the fraction.

    Source: Fieller (1954), "Some problems in interval estimation", section 3. Expanded in r the
    two-sided condition is A r^2 - 2 B r + C <= 0. C > 0 says that the test of a zero numerator
    rejects, and both roots then have the sign of B: so the set excludes zero exactly when the
    test rejects, in floating point too. A < 0 (the denominator is not distinguishable from zero
    at the same level) leaves the set unbounded.
    """
    a, b, c2 = fraction.numerator, fraction.denominator, critical**2
    va, vb = fraction.numerator_variance, fraction.denominator_variance
    cab = fraction.covariance
    A, B, C = b**2 - c2 * vb, a * b - c2 * cab, a**2 - c2 * va
    # Equal to B^2 - A C, written without that cancellation.
    discriminant = c2 * (a**2 * vb + b**2 * va - 2 * a * b * cab - c2 * (va * vb - cab**2))
    root = np.sqrt(np.maximum(discriminant, 0.0))
    q = B + np.where(B < 0, -root, root)
    first, second = quotient(q, A, np.copysign(np.inf, q)), quotient(C, q, 0.0)
    low, high = np.minimum(first, second), np.maximum(first, second)
    # Between the roots of a concave quadratic, where is the numerator: above or below?
    middle = a - quotient(B, A, 0.0) * b
    everything = (A < 0) & ((discriminant <= 0) | _untested(middle, side)) | (A == 0) & (q == 0)
    shape = np.where(A < 0, Shape.OUTSIDE, Shape.BETWEEN)
    shape = np.where(everything, Shape.EVERYTHING, shape).astype(np.uint8)
    return _open_ends(Interval(low + fraction.offset, high + fraction.offset, shape), side)


def _untested(deviation: FloatArray, side: Side) -> BoolArray:
    """Deviations that a one-sided test does not count as evidence."""
    if side is Side.GREATER:
        return deviation <= 0
    return deviation >= 0 if side is Side.LESS else np.zeros(deviation.shape, dtype=np.bool_)


def _open_ends(interval: Interval, side: Side) -> Interval:
    """Infinite ends where nothing is excluded and where a one-sided test does not look."""
    everything, bounded = interval.shape == Shape.EVERYTHING, interval.shape == Shape.BETWEEN
    open_low = everything | (bounded & (side is Side.LESS))
    open_high = everything | (bounded & (side is Side.GREATER))
    return Interval(
        np.where(open_low, -np.inf, interval.low),
        np.where(open_high, np.inf, interval.high),
        interval.shape,
    )
