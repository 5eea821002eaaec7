"""A distribution on the line by its characteristic function: sums of independent quantities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from touchstone_statistics.bayes import unit_loss
from touchstone_statistics.belief import Cells
from touchstone_statistics.gaps import FloatArray

ComplexArray = NDArray[np.complex128]
SMALL = 20_000
"""So many terms are summed in one product; more by Horner's rule, which needs no room for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Wave(Cells):
    """A normal distribution of the same mean and variance, and the Fourier series of the rest.

    The rest has no mass, no mean and no variance, so that it and its integral die out on both
    sides, and a series over a period that holds all of the mass is exact but for what is outside
    (Abate and Whitt 1992, "The Fourier-series method for inverting transforms of probability
    distributions"). `rest[..., m - 1]` is its transform at the frequency 2 pi m / period, about
    the mean, and `integral` that of its integral.
    """

    mean: FloatArray
    std_dev: FloatArray
    period: FloatArray
    rest: ComplexArray
    integral: ComplexArray

    @staticmethod
    def frequencies(period: FloatArray, count: int) -> FloatArray:
        """At which frequencies the transform is needed: batch + count."""
        return np.asarray(2.0 * np.pi * np.arange(1, count + 1) / period[..., None])

    @classmethod
    def of(
        cls, mean: FloatArray, std_dev: FloatArray, period: FloatArray, transform: ComplexArray
    ) -> "Wave":
        """From E[exp(-i w (X - mean))] at `frequencies(period, transform.shape[-1])`."""
        frequency = cls.frequencies(period, transform.shape[-1])
        normal = np.exp(-0.5 * (frequency * std_dev[..., None]) ** 2)
        rest = transform - normal
        return cls(mean, std_dev, period, rest, rest * (-1j / frequency))

    def below(self, value: FloatArray) -> FloatArray:
        """Distribution function at values with one more axis than the batch."""
        scaled = (value - self.mean[..., None]) / self.std_dev[..., None]
        return np.clip(special.ndtr(scaled) + self._sum(self.integral, value), 0.0, 1.0)

    def above(self, value: FloatArray) -> FloatArray:
        """Its complement, from the other tail."""
        scaled = (value - self.mean[..., None]) / self.std_dev[..., None]
        return np.clip(special.ndtr(-scaled) - self._sum(self.integral, value), 0.0, 1.0)

    def density(self, value: FloatArray) -> FloatArray:
        scaled = (value - self.mean[..., None]) / self.std_dev[..., None]
        normal = np.exp(-0.5 * scaled**2) / (np.sqrt(2.0 * np.pi) * self.std_dev[..., None])
        return np.asarray(np.maximum(normal + self._sum(self.rest, value), 0.0))

    def shortfall(self, value: FloatArray) -> FloatArray:
        """E[(value - X)+]."""
        return self._partial(value, 1.0)

    def excess(self, value: FloatArray) -> FloatArray:
        """E[(X - value)+]."""
        return self._partial(value, -1.0)

    def _partial(self, value: FloatArray, sign: float) -> FloatArray:
        # Without mass and mean of its own the rest adds the same to both.
        scaled = sign * (value - self.mean[..., None]) / self.std_dev[..., None]
        frequency = self.frequencies(self.period, self.rest.shape[-1])
        rest = self._sum(self.integral / (1j * frequency), value)
        return np.asarray(np.maximum(self.std_dev[..., None] * unit_loss(-scaled) + rest, 0.0))

    def _sum(self, coefficients: ComplexArray, value: FloatArray) -> FloatArray:
        """The real series 2 / L sum_m Re(c_m exp(i w_m u)); zero outside of the period."""
        apart = value - self.mean[..., None]
        inside = np.abs(apart) <= 0.5 * self.period[..., None]
        angle = 2.0 * np.pi * np.where(inside, apart, 0.0) / self.period[..., None]
        count = coefficients.shape[-1]
        if angle.size * count <= SMALL:
            turns = np.exp(1j * angle[..., None] * np.arange(1, count + 1))
            total = (turns @ coefficients[..., None])[..., 0]
        else:
            turn, total = np.exp(1j * angle), np.zeros(angle.shape, dtype=np.complex128)
            for index in range(count - 1, -1, -1):
                total = (total + coefficients[..., index, None]) * turn
        return np.where(inside, 2.0 * total.real / self.period[..., None], 0.0)
