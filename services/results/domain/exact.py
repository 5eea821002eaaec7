"""Sums over units as whole numbers: what is added never depends on the order of addition.

A column holds its units' numbers in whole steps of a power of two, so that sums, and the sums of
the products of two columns, are exact integers. The first floating-point number is the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.moments import Moments

Integers = NDArray[np.object_]
"""Python's integers of any size."""


@dataclass(frozen=True, slots=True)
class Coarse:
    """Sums of the first three powers of the first column in coarser steps, for its skewness.

    The values are at most about 20 bits, so their cubes add up exactly in any engine.
    """

    first: int = 0
    second: int = 0
    third: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """The units of one arm in one slice that count, and their sums in whole steps.

    `products` holds the sums of the products of each pair of columns, the upper triangle row by
    row: (0, 0), (0, 1), ..., (1, 1), ...
    """

    units: int
    sums: tuple[int, ...]
    products: tuple[int, ...]
    coarse: Coarse = Coarse()


@dataclass(frozen=True, slots=True)
class Sums:
    """Exact sums of one measure: `cells[slice][arm]`; column c is in steps of
    `2**exponents[c]`.
    """

    exponents: tuple[int, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def moments(self) -> Moments:
        """Centred moments; batch axes of slices and arms, one column for each exponent.

        The textbook formula sum(xy) - sum(x) sum(y) / n is exact here, because it is evaluated in
        whole numbers and rounded once at the end: nothing cancels, whatever the size of the mean.
        """
        columns = len(self.exponents)
        batch = (len(self.cells), len(self.cells[0]))
        units = self._counts()
        sums = self._array([cell.sums for cell in self._flat()], columns)
        pairs = columns * (columns + 1) // 2
        products = self._array([cell.products for cell in self._flat()], pairs)
        one, other = np.triu_indices(columns)
        some = np.where(units == 0, 1, units)
        spread = units[..., None] * products - sums[..., one] * sums[..., other]
        steps = np.array(self.exponents, dtype=np.intp)
        co_moment = np.zeros((*batch, columns, columns))
        co_moment[..., one, other] = scaled(spread, some[..., None], steps[one] + steps[other])
        co_moment[..., other, one] = co_moment[..., one, other]
        return Moments.of(units, scaled(sums, some[..., None], steps), co_moment)

    @property
    def totals(self) -> FloatArray:
        """The sum of each column, of shape slices x arms x columns."""
        sums = self._array([cell.sums for cell in self._flat()], len(self.exponents))
        steps = np.array(self.exponents, dtype=np.intp)
        return scaled(sums, np.ones_like(sums), steps)

    @property
    def skewness(self) -> FloatArray:
        """Skewness of the first column, of shape slices x arms; 0 where the values are all equal.

        The third central moment over the 3/2 power of the second (Fisher 1930), of the values in
        about a million steps up to the largest of all.
        """
        n = self._counts()
        powers = [(c.coarse.first, c.coarse.second, c.coarse.third) for c in self._flat()]
        first, second, third = np.moveaxis(self._array(powers, 3), -1, 0)
        # n**3 times the third central moment, and n**2 times the second, as whole numbers.
        cubed = n**2 * third - 3 * n * first * second + 2 * first**3
        squared = (n * second - first**2).astype(np.float64)
        flat = squared <= 0
        return np.where(flat, 0.0, cubed.astype(np.float64) / np.where(flat, 1.0, squared) ** 1.5)

    def _flat(self) -> Sequence[Cell]:
        return [cell for row in self.cells for cell in row]

    def _counts(self) -> Integers:
        return self._array([(cell.units,) for cell in self._flat()], 1)[..., 0]

    def _array(self, rows: Sequence[tuple[int, ...]], width: int) -> Integers:
        shape = (len(self.cells), len(self.cells[0]), width)
        return np.array(rows, dtype=object).reshape(shape)


def scaled(numerator: Integers, denominator: Integers, exponent: NDArray[np.intp]) -> FloatArray:
    """The nearest double to numerator / denominator, times `2**exponent`; infinite beyond."""
    quotients = np.asarray(numerator / denominator, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(quotients, exponent))
