"""A nearly normal distribution by its cumulants: what two large counts of events differ by."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from touchstone_statistics.bayes import unit_loss
from touchstone_statistics.gaps import BoolArray, FloatArray
from touchstone_statistics.versus import Margin, equal_tails

PERIOD = 18.0
"""The standard deviations that a period holds: beyond nine of them lies less than 1e-13."""
WAVES = 24
"""Up to 8.4 over the standard deviation, where less than 1e-13 is left of the transform."""
FREQUENCIES = 2.0 * np.pi / PERIOD * np.arange(1, WAVES + 1)
NORMAL = np.exp(-0.5 * FREQUENCIES**2)
TAYLOR = 13
"""Derivatives with which the rest is known about a quantile of the normal distribution."""
NEAR = 0.25
"""So far from there, in standard deviations, the polynomial of the rest is good to 1e-13."""
STEPS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A normal distribution of the same mean and variance, and the Fourier series of the rest.

    In units of the standard deviation the frequencies are the same for all cells, so that a
    logarithm of a characteristic function is a product of matrices: its power series, whose
    coefficients are the cumulants, times the powers of the frequencies. The rest has no mass, no
    mean and no variance, so that it and its integral die out on both sides, and a series over a
    period that holds all of the mass is exact but for what is outside (Abate and Whitt 1992, "The
    Fourier-series method for inverting transforms of probability distributions").

    `real` and `imaginary` are the transform of the rest, E[exp(-i w u)], waves + cells.
    """

    mean: FloatArray
    std_dev: FloatArray
    real: FloatArray
    imaginary: FloatArray

    @classmethod
    def of(cls, mean: FloatArray, std_dev: FloatArray, terms: FloatArray) -> "Series":
        """From the coefficients of z^3, z^4, ... of log E[exp(z (X - mean) / std_dev)], orders +
        cells.
        """
        odd, even = _powers(terms.shape[0])
        grown = np.exp(even @ terms[1::2]) * NORMAL[:, None]
        # Cosine and sine from the tangent of half the angle, which costs a tenth of them.
        half = np.tan(0.5 * (odd @ terms[::2]))
        grown /= 1.0 + half**2
        return cls(mean, std_dev, grown * (1.0 - half**2) - NORMAL[:, None], grown * (2.0 * half))

    def chances(self, value: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """P(X > value), P(X < value), E[(X - value)+] and E[(value - X)+]."""
        place = (value - self.mean) / self.std_dev
        waves, turned = self._turned(place)
        rest = (2.0 / PERIOD) * ((1.0 / FREQUENCIES) @ turned)
        partial = (-2.0 / PERIOD) * ((1.0 / FREQUENCIES**2) @ waves)
        inside = np.abs(place) <= 0.5 * PERIOD
        rest, partial = np.where(inside, rest, 0.0), np.where(inside, partial, 0.0)
        above = np.clip(special.ndtr(-place) - rest, 0.0, 1.0)
        below = np.clip(special.ndtr(place) + rest, 0.0, 1.0)
        excess = np.maximum(unit_loss(place) + partial, 0.0)
        shortfall = np.maximum(unit_loss(-place) + partial, 0.0)
        return above, below, self.std_dev * excess, self.std_dev * shortfall

    def within(self, low: float, high: float) -> FloatArray:
        """P(low < X < high)."""
        inside = self.chances(high)[1] - self.chances(low)[1]
        return np.asarray(np.maximum(inside, 0.0))

    def ends(self, alpha: float) -> list[FloatArray]:
        """The quantiles beyond each of which half of `alpha` lies."""
        ends, missed = self._near(alpha / 2)
        if missed.any():
            ends[:, missed] = np.stack(self._cells(missed).searched(alpha))
        return list(ends)

    def _cells(self, chosen: BoolArray) -> "Series":
        parts = (self.real[:, chosen], self.imaginary[:, chosen])
        return Series(self.mean[chosen], self.std_dev[chosen], *parts)

    def _turned(self, place: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Real and imaginary part of each wave of the rest at a place of each cell."""
        angle = 2.0 * np.pi / PERIOD * place
        turns = np.empty((WAVES, place.size), dtype=np.complex128)
        turns[0] = np.cos(angle) + 1j * np.sin(angle)
        for filled in (1, 2, 3, 6, 12):
            turns[filled : 2 * filled] = turns[:filled] * turns[filled - 1]
        waves = self.real * turns.real - self.imaginary * turns.imag
        return waves, self.imaginary * turns.real + self.real * turns.imag

    def _near(self, mass: float) -> tuple[FloatArray, BoolArray]:
        """Where both tails hold `mass`, ends + cells, and in which cells one of them is not near
        that of a normal distribution.

        Newton's method on the tails. The rest is a polynomial about the normal quantile, whose
        coefficients are sums over the waves.
        """
        reach = float(-special.ndtri(mass))
        sign, shape = np.array([[-1.0], [1.0]]), (TAYLOR, 2, self.mean.size)
        real, imaginary = _derivatives(reach)
        rest = (real @ self.real - imaginary @ self.imaginary).reshape(shape)
        # The first step, from the normal quantile itself.
        normal = np.exp(-0.5 * reach**2) / np.sqrt(2.0 * np.pi)
        moved = np.clip(-rest[0] / np.maximum(normal + rest[1], 0.1 * mass), -NEAR, NEAR)
        for _ in range(STEPS):
            value, slope = rest[-1], np.zeros_like(moved)
            for coefficient in rest[-2::-1]:
                slope *= moved
                slope += value
                value = value * moved
                value += coefficient
            place = sign * reach + moved
            tail = special.ndtr(-sign * place) - sign * value
            density = np.exp(-0.5 * place**2) / np.sqrt(2.0 * np.pi) + slope
            step = sign * (tail - mass) / np.maximum(density, 0.1 * mass)
            moved = np.clip(moved + step, -NEAR, NEAR)
            far = np.abs(moved) >= NEAR
            # Newton's steps square their size: the next one would be nothing.
            settled = np.abs(step) <= 1e-7
            if np.all(settled | far):
                break
        return self.mean + (sign * reach + moved) * self.std_dev, (far | ~settled).any(axis=0)

    def searched(self, alpha: float) -> list[FloatArray]:
        """The same ends by sums over the waves at each step, wherever they are."""

        def tail(at: FloatArray, upper: bool) -> tuple[FloatArray, FloatArray]:
            place = (at - self.mean) / self.std_dev
            waves, turned = self._turned(place)
            rest = (2.0 / PERIOD) * ((1.0 / FREQUENCIES) @ turned)
            normal = np.exp(-0.5 * place**2) / np.sqrt(2.0 * np.pi)
            density = np.maximum(normal + (2.0 / PERIOD) * waves.sum(axis=0), 0.0)
            sign = 1.0 if upper else -1.0
            mass = np.clip(special.ndtr(-sign * place) - sign * rest, 0.0, 1.0)
            return mass, density / self.std_dev

        return equal_tails(Margin(tail, self.mean, self.std_dev), alpha)


@lru_cache(maxsize=16)
def _powers(count: int) -> tuple[FloatArray, FloatArray]:
    """The odd and the even powers of the frequencies, from 3 on, times the powers of -i: waves +
    orders. Of an odd power that is an imaginary number.
    """
    orders = np.arange(3, 3 + count)
    # (-i)^k is 1, -i, -1, i for k = 0, 1, 2, 3 and so on.
    powers = np.array([1.0, -1.0, -1.0, 1.0])[orders % 4] * FREQUENCIES[:, None] ** orders
    return powers[:, ::2].copy(), powers[:, 1::2].copy()


@lru_cache(maxsize=64)
def _derivatives(reach: float) -> tuple[FloatArray, FloatArray]:
    """What gives Taylor's coefficients of the integral of a rest about -reach and reach, of its
    real and of its imaginary part: orders by ends, + waves.
    """
    orders = np.arange(TAYLOR)[:, None, None]
    place = np.array([-reach, reach])[:, None]
    # The derivative of order j of the integral has the factor (i w)^(j - 1).
    turn = np.exp(1j * FREQUENCIES * place) * (1j * FREQUENCIES) ** (orders - 1.0)
    turn *= (2.0 / PERIOD) / special.factorial(orders)
    flat = turn.reshape(2 * TAYLOR, WAVES)
    return flat.real.copy(), flat.imag.copy()
