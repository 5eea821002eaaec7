"""The four counts behind two proportions, with the intervals and exact tests of small samples."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import scipy  # its statistics load when they are first used: they take most of a second
from numpy.typing import NDArray
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray, Gap, GapArray
from touchstone_statistics.interval import Interval, Side

# Barnard's and Boschloo's tests look at every table with these margins; beyond this many tables
# the score test agrees with them in all digits that matter.
TABLES = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Units that converted and units in all, of a control and a treatment; arrays broadcast."""

    control_converted: FloatArray
    control_units: FloatArray
    converted: FloatArray
    units: FloatArray

    @classmethod
    def of(cls, contrast: Contrast) -> Self:
        """Counts behind the means of two columns of zeros and ones.

        Raises ValueError where a mean is not a whole number of units over the number of units.
        """
        counts = []
        for arm in (contrast.control, contrast.treatment):
            exact = arm.value * arm.units
            whole = np.rint(exact)
            wrong = (np.abs(exact - whole) > 1e-6 * (1.0 + whole)) | (whole < 0)
            if np.any((wrong | (whole > arm.units)) & (arm.gap == 0)):
                raise ValueError(
                    f"means are {arm.value} of {arm.units} units; each must be a proportion"
                )
            counts += [np.where(arm.gap == 0, whole, 0.0), arm.units]
        return cls(*np.broadcast_arrays(*counts))

    def __getitem__(self, index: Any) -> Self:
        """A part of the batch."""
        return type(self)(*(np.asarray(count[index]) for count in self.counts))

    @property
    def counts(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """The four counts in the order of the fields."""
        return self.control_converted, self.control_units, self.converted, self.units

    @property
    def gap(self) -> GapArray:
        empty = (self.control_units < 1) | (self.units < 1)
        return np.where(empty, Gap.NO_UNITS, Gap.NONE).astype(np.uint8)

    @property
    def rates(self) -> tuple[FloatArray, FloatArray]:
        """Share of units that converted, control first; zero without units."""
        return (
            np.asarray(self.control_converted / np.maximum(self.control_units, 1.0)),
            np.asarray(self.converted / np.maximum(self.units, 1.0)),
        )

    @property
    def smallest_expected(self) -> FloatArray:
        """The smallest of the four counts that are expected if both arms have the same rate."""
        total = np.maximum(self.control_units + self.units, 1.0)
        rate = (self.control_converted + self.converted) / total
        rarer = np.minimum(rate, 1.0 - rate)
        return np.asarray(rarer * np.minimum(self.control_units, self.units))


def wilson(converted: FloatArray, units: FloatArray, alpha: float = 0.05) -> Interval:
    """Two-sided score interval of one proportion; with no units it is 0 to 1.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical
    inference": all rates from which the observed one is less than z standard errors away.
    """
    z2 = special.ndtri(alpha / 2) ** 2
    rate = converted / np.maximum(units, 1.0)
    centre = (converted + z2 / 2) / (units + z2)
    reach = np.sqrt(z2) / (units + z2) * np.sqrt(units * rate * (1.0 - rate) + z2 / 4)
    # At a rate of exactly 0 or 1 the end is that rate; rounding must not move it.
    low = np.where(converted == 0, 0.0, np.maximum(centre - reach, 0.0))
    high = np.where(converted == units, 1.0, np.minimum(centre + reach, 1.0))
    return Interval(low, high, np.zeros(low.shape, dtype=np.uint8))


def newcombe(cells: Cells, alpha: float = 0.05) -> Interval:
    """Two-sided interval of the difference of two rates from Wilson's interval of each.

    Source: Newcombe (1998), "Interval estimation for the difference between independent
    proportions: comparison of eleven methods", method 10. It does not agree with any p-value
    in every case; shown beside the score interval, which does.
    """
    control, treatment = cells.rates
    below = wilson(cells.control_converted, cells.control_units, alpha)
    above = wilson(cells.converted, cells.units, alpha)
    difference = treatment - control
    low = difference - np.hypot(treatment - above.low, below.high - control)
    high = difference + np.hypot(above.high - treatment, control - below.low)
    return Interval(low, high, np.zeros(low.shape, dtype=np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class ExactTests:
    """P-values that hold at every sample size, a check beside the score test.

    `fisher` conditions on how many units converted in all and is conservative for it; `barnard`
    and `boschloo` do not. `gap` is NO_UNITS without units in an arm and, for the latter two
    (`unconditional_gap`), NOT_APPLICABLE where the samples are too large to need them.
    """

    fisher: FloatArray
    barnard: FloatArray
    boschloo: FloatArray
    gap: GapArray
    unconditional_gap: GapArray


def exact_tests(cells: Cells, side: Side = Side.TWO_SIDED) -> ExactTests:
    """Exact tests of equal rates, table by table: some ten milliseconds each, so on request.

    Sources: Fisher (1935); Barnard (1945) with the pooled Wald statistic; Boschloo (1970). The
    side is that of the treatment's rate: GREATER counts more conversions as evidence.
    """
    tables = (cells.control_units + 1.0) * (cells.units + 1.0)
    large = np.where(tables > TABLES, Gap.NOT_APPLICABLE, Gap.NONE)
    unconditional = np.where(cells.gap > 0, cells.gap, large).astype(np.uint8)
    p_values = np.ones((3, *cells.units.shape))
    for index in np.ndindex(cells.units.shape):
        if cells.gap[index] == 0:
            table = _table(cells[index])
            p_values[(0, *index)] = _fisher(table, side)
            if unconditional[index] == 0:
                p_values[(1, *index)], p_values[(2, *index)] = _unconditional(table, side)
    return ExactTests(p_values[0], p_values[1], p_values[2], cells.gap, unconditional)


# Treatment first: in scipy a side is that of the first column.
_SIDES: dict[Side, Literal["two-sided", "less", "greater"]] = {
    Side.TWO_SIDED: "two-sided",
    Side.GREATER: "greater",
    Side.LESS: "less",
}


def _table(cells: Cells) -> NDArray[np.int64]:
    converted = np.array([cells.converted, cells.control_converted], dtype=np.int64)
    units = np.array([cells.units, cells.control_units], dtype=np.int64)
    return np.stack([converted, units - converted])


def _fisher(table: NDArray[np.int64], side: Side) -> float:
    return float(scipy.stats.fisher_exact(table, alternative=_SIDES[side]).pvalue)


def _unconditional(table: NDArray[np.int64], side: Side) -> tuple[float, float]:
    if np.any(table.sum(axis=1) == 0):
        return 1.0, 1.0
    barnard = scipy.stats.barnard_exact(table, alternative=_SIDES[side], pooled=True)
    boschloo = scipy.stats.boschloo_exact(table, alternative=_SIDES[side])
    return float(barnard.pvalue), float(boschloo.pvalue)
