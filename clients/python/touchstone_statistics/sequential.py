"""Inference at the looks of a group-sequential plan: intervals and p-values valid at each."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

from touchstone_statistics.boundaries import SMALLEST_CHANCE, Ledger, Plan
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.crossing import bound_above, start, step
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.inference import Reading
from touchstone_statistics.interval import Side
from touchstone_statistics.looks import Studentised, Threshold, normal_score, read_at

WIDEST_LEVEL = 0.99
SHARPEST_QUANTILE = 7.0
"""P-values are told apart down to the tail beyond 7 standard errors, 1.3e-12, and not below."""
DEGREE = 31
RESOLUTION = 4096


@dataclass(frozen=True, slots=True)
class GroupSequential:
    """A look of a plan with a boundary for each look; the last one in the ledger is read.

    `ledger` is that of all contrasts, or a tuple with one for each entry of their first axis
    (metrics whose information grows at different rates). `alpha` may be a level other than that
    of the plan, one for each comparison, as a correction for many comparisons leaves it; None
    is the level of the plan.

    Estimand: the difference of means. Assumes independent increments, thus units that enter
    once and for all, and a difference that is nearly normal at each look. Times of looks must
    not depend on results. The contrast must be the one at that look: data that came after it
    have to wait for the next look.
    """

    plan: Plan
    ledger: Ledger | tuple[Ledger, ...]
    alpha: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None and not np.all((self.alpha > 0.0) & (self.alpha <= 0.5)):
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and at most 0.5")

    def read(self, contrast: Contrast) -> Reading:
        """Repeated confidence intervals and p-values.

        Source: Jennison and Turnbull (1989), "Interim analyses: the repeated confidence
        interval approach", sections 2 and 3: the interval reaches as many standard errors as
        the critical value of the look, and the p-value is the smallest level whose own
        boundary the look would have crossed. Small samples follow the significance-level
        approach of Jennison and Turnbull (2000), section 11.5: the normal critical value is
        replaced by the t quantile of the same tail probability.
        """
        tested = Studentised.of(contrast)
        statistic = tested.statistic
        scores = _toward(self.plan.side, normal_score(statistic, tested.dof))
        level = self.plan.alpha if self.alpha is None else self.alpha
        levels = np.broadcast_to(level, statistic.shape)
        critical, p_value = np.empty(statistic.shape), np.empty(statistic.shape)
        for part, ledger in _parts(self.ledger, statistic.shape):
            curve = boundary_curve(self.plan, ledger)
            critical[part] = curve.critical_at(levels[part])
            p_value[part] = curve.p_value(scores[part])
        reach = -special.stdtrit(tested.dof, special.ndtr(-critical))
        return read_at(contrast, tested, Threshold(reach, p_value, levels, self.plan.side))


def _toward(side: Side, statistic: FloatArray) -> FloatArray:
    """The statistic in the direction that counts as evidence."""
    if side is Side.TWO_SIDED:
        return np.abs(statistic)
    return statistic if side is Side.GREATER else -statistic


def _parts(
    ledgers: Ledger | tuple[Ledger, ...], shape: tuple[int, ...]
) -> list[tuple[Any, Ledger]]:
    """Which part of the contrasts each different ledger serves."""
    if isinstance(ledgers, Ledger):
        return [(..., ledgers)]
    if not shape or len(ledgers) != shape[0]:
        raise ValueError(
            f"there are {len(ledgers)} ledgers for contrasts of shape {shape}; give one ledger "
            "or one for each entry of the first axis"
        )
    places: dict[Ledger, list[int]] = {}
    for place, ledger in enumerate(ledgers):
        places.setdefault(ledger, []).append(place)
    return [(np.array(part), ledger) for ledger, part in places.items()]


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryCurve:
    """Critical value of one look as a function of the level of the whole test, tabulated.

    P-values have three digits, and more at levels below 0.1.

    `nominal` is the normal quantile that leaves the level above it (half of it if two-sided),
    the critical value of a test with that single look; both arrays rise.
    """

    tails: int
    nominal: FloatArray
    critical: FloatArray
    level: float
    critical_of_level: float

    def critical_at(self, level: FloatArray) -> FloatArray:
        """Critical value of the test at `level`; infinite where nothing could be rejected."""
        nominal = -special.ndtri(level / self.tails)
        found = np.interp(nominal, self.nominal, self.critical, right=np.inf)
        return np.where(level == self.level, self.critical_of_level, found)

    def p_value(self, score: FloatArray) -> FloatArray:
        """The smallest level at which a z statistic rejects here; 1 where none below 0.99 does."""
        nominal = np.interp(score, self.critical, self.nominal)
        found = self.tails * special.ndtr(-nominal)
        return np.where(score <= self.critical[0], 1.0, found)


@lru_cache(maxsize=256)
def boundary_curve(plan: Plan, ledger: Ledger) -> BoundaryCurve:
    """How the boundary at the last look depends on the level, with all looks as they were.

    Interpolated in Chebyshev points (Trefethen 2013, "Approximation theory and approximation
    practice", chapter 2) of the nominal quantile, in which the critical value is almost linear.
    Made once for a look: 32 boundaries, whatever the number of contrasts.
    """
    last = ledger.looks[-1] if ledger.looks else None
    if last is None or last.critical is None:
        return BoundaryCurve(plan.tails, np.zeros(1), np.full(1, np.inf), plan.alpha, np.inf)
    lowest = -float(special.ndtri(WIDEST_LEVEL / plan.tails))
    highest = _sharpest(plan, ledger)
    middle, half = (lowest + highest) / 2.0, (highest - lowest) / 2.0

    points = chebyshev.chebpts1(DEGREE + 1)
    tails = special.ndtr(-(middle + half * points))
    criticals = [_last_critical(plan, ledger, float(tail)) for tail in tails]
    places = np.linspace(-1.0, 1.0, RESOLUTION)
    fitted = chebyshev.chebval(places, chebyshev.chebfit(points, criticals, DEGREE))
    return BoundaryCurve(
        tails=plan.tails,
        nominal=middle + half * places,
        critical=np.maximum.accumulate(fitted),
        level=plan.alpha,
        critical_of_level=last.critical,
    )


def _sharpest(plan: Plan, ledger: Ledger) -> float:
    """The largest quantile whose level would leave anything to be spent at the last look."""
    quantiles = np.arange(SHARPEST_QUANTILE, 0.0, -0.125)
    for quantile in quantiles:
        if _spent(plan, ledger, float(special.ndtr(-quantile)))[-1] > 2.0 * SMALLEST_CHANCE:
            return float(quantile)
    return float(quantiles[-1])


def _spent(plan: Plan, ledger: Ledger, tail: float) -> list[float]:
    """What each look of the ledger would have spent of one tail at another level."""
    total, increments = 0.0, []
    for look in ledger.looks:
        spent = max(plan.spending.spent(tail, look.fraction), total)
        increments.append(spent - total)
        total = spent
    return increments


def _last_critical(plan: Plan, ledger: Ledger, tail: float) -> float:
    """Critical value of the last look of the ledger when one tail has level `tail`."""
    times = [look.information / plan.planned_information for look in ledger.looks]
    chances = _spent(plan, ledger, tail)
    paths = start()
    for time, following, chance in zip(times, times[1:], chances, strict=False):
        bound = bound_above(paths, time, chance) if chance > SMALLEST_CHANCE else math.inf
        low = -bound if plan.side is Side.TWO_SIDED else -math.inf
        paths = step(paths, time, low, bound, math.sqrt(following - time))
    return bound_above(paths, times[-1], chances[-1]) / math.sqrt(times[-1])
