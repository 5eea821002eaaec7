"""Inference for proportions that holds in small samples too."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from touchstone_statistics.cells import Cells
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import BoolArray, FloatArray
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interval import Interval, Side
from touchstone_statistics.score import deviation, difference_interval, ratio_interval

Number = TypeVar("Number", np.float64, np.uint8)


@dataclass(frozen=True, slots=True)
class Proportions:
    """Inference for proportions: the score test where cells are small, Welch's elsewhere.

    Estimand: the difference and the ratio of two rates. Assumes independent units, each with an
    outcome of 0 or 1. A comparison is small when a cell of its table is expected to hold fewer
    than `below` units: Cochran (1954) asks for five; with ten both tails of the interval are near
    their level too. Infinity takes the score test everywhere.

    The p-value of record is that of the score test, and exact ones are a check beside it: it alone
    has intervals of the difference and of the lift that exclude their null exactly when
    `p_value < alpha`. Where no unit converted the p-value is 1 and the intervals say how large
    the rates may still be; the lift may then reach to infinity. `dof` is infinite. `alpha` may
    be an array that broadcasts to the contrast.
    """

    alpha: float | FloatArray = 0.05
    side: Side = Side.TWO_SIDED
    below: float = 10.0

    def __post_init__(self) -> None:
        if not np.all((np.asarray(self.alpha) > 0.0) & (np.asarray(self.alpha) <= 0.5)):
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and at most 0.5")
        if not self.below >= 0.0:
            raise ValueError(f"below is {self.below}; it must be at least 0")

    def read(self, contrast: Contrast) -> Reading:
        """Each element by the test that fits its cells.

        Source of the score test: Miettinen and Nurminen (1985), "Comparative analysis of two
        rates", equations 8 to 10. With a null lift of -M the hypothesis is pT = (1 - M) pC and
        the interval of the difference is that of pT - (1 - M) pC. Raises ValueError for means
        that are no proportions.
        """
        usual = Fixed(self.alpha, self.side).read(contrast)
        cells = Cells.of(contrast)
        small = np.asarray(cells.smallest_expected < self.below)
        if not small.any():
            return usual
        factor = np.broadcast_to(1.0 + np.asarray(contrast.null_lift), small.shape)
        level = np.broadcast_to(np.asarray(self.alpha), small.shape)
        return _spliced(usual, small, self._score(cells[small], factor[small], level[small]))

    def _score(self, cells: Cells, factor: FloatArray, level: FloatArray) -> Reading:
        critical = np.asarray(-special.ndtri(level / 2 if self.side is Side.TWO_SIDED else level))
        statistic = deviation(cells, factor, np.zeros(factor.shape))
        ratio = ratio_interval(cells, critical)
        lift = Interval(ratio.low - 1.0, ratio.high - 1.0, ratio.shape)
        return Reading(
            statistic=statistic,
            dof=np.full(factor.shape, np.inf),
            p_value=self._p_value(statistic),
            difference=self._one_side(difference_interval(cells, factor, critical)),
            lift=self._one_side(lift),
            gap=cells.gap,
            lift_gap=cells.gap,
            critical=critical,
        )

    def _p_value(self, statistic: FloatArray) -> FloatArray:
        if self.side is Side.TWO_SIDED:
            return np.asarray(2.0 * special.ndtr(-np.abs(statistic)))
        return np.asarray(special.ndtr(statistic if self.side is Side.LESS else -statistic))

    def _one_side(self, interval: Interval) -> Interval:
        """The end that a one-sided test does not look at is open."""
        low = np.full_like(interval.low, -np.inf) if self.side is Side.LESS else interval.low
        high = np.full_like(interval.high, np.inf) if self.side is Side.GREATER else interval.high
        return Interval(low, high, interval.shape)


def _spliced(whole: Reading, chosen: BoolArray, part: Reading) -> Reading:
    """The whole reading with the chosen elements taken from the part, which is flat."""
    assert whole.critical is not None
    assert part.critical is not None
    return Reading(
        statistic=_put(whole.statistic, chosen, part.statistic),
        dof=_put(whole.dof, chosen, part.dof),
        p_value=_put(whole.p_value, chosen, part.p_value),
        difference=_put_interval(whole.difference, chosen, part.difference),
        lift=_put_interval(whole.lift, chosen, part.lift),
        gap=_put(whole.gap, chosen, part.gap),
        lift_gap=_put(whole.lift_gap, chosen, part.lift_gap),
        critical=_put(whole.critical, chosen, part.critical),
    )


def _put(old: NDArray[Number], chosen: BoolArray, new: NDArray[Number]) -> NDArray[Number]:
    result = np.array(np.broadcast_to(old, chosen.shape))
    result[chosen] = new
    return result


def _put_interval(old: Interval, chosen: BoolArray, new: Interval) -> Interval:
    return Interval(
        _put(old.low, chosen, new.low),
        _put(old.high, chosen, new.high),
        _put(old.shape, chosen, new.shape),
    )
