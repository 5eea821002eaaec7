"""How high the boundary of a look would be at any other level of the whole test."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

from touchstone_statistics.boundaries import SMALLEST_CHANCE, Ledger, Look, Plan
from touchstone_statistics.crossing import Survivors, bound_above, start, step
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.interval import Side

WIDEST_LEVEL = 0.99
SHARPEST_QUANTILE = 7.0
"""P-values are told apart down to the tail beyond 7 standard errors, 1.3e-12, and not below."""
DEGREE = 31
RESOLUTION = 1024
KEPT = 256
"""Looks whose tables are kept: about 10 MB, and 40 when all ledgers have a hundred looks."""


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


@lru_cache(maxsize=KEPT)
def boundary_curve(plan: Plan, ledger: Ledger) -> BoundaryCurve:
    """How the boundary at the last look depends on the level, with all looks as they were.

    Interpolated in Chebyshev points (Trefethen 2013, "Approximation theory and approximation
    practice", chapter 2) of the nominal quantile, in which the critical value is almost linear.
    Made once for a look, from what was kept of the look before: 32 boundaries, whatever the
    number of contrasts.
    """
    last = ledger.looks[-1] if ledger.looks else None
    if last is None or last.critical is None:
        return BoundaryCurve(plan.tails, np.zeros(1), np.full(1, np.inf), plan.alpha, np.inf)
    highest = _sharpest(plan, ledger)
    front = _front(plan, ledger.looks, highest)
    places = np.linspace(-1.0, 1.0, RESOLUTION)
    points = chebyshev.chebpts1(DEGREE + 1)
    fitted = chebyshev.chebval(places, chebyshev.chebfit(points, front.critical, DEGREE))
    return BoundaryCurve(
        tails=plan.tails,
        nominal=_quantiles(plan, highest, places),
        critical=np.maximum.accumulate(fitted),
        level=plan.alpha,
        critical_of_level=last.critical,
    )


def _quantiles(plan: Plan, highest: float, places: FloatArray) -> FloatArray:
    """Nominal quantiles at places from -1 (the widest level) to 1 (the highest quantile)."""
    lowest = -float(special.ndtri(WIDEST_LEVEL / plan.tails))
    return np.asarray((lowest + highest) / 2.0 + (highest - lowest) / 2.0 * places)


def _sharpest(plan: Plan, ledger: Ledger) -> float:
    """The largest quantile whose level would leave anything to be spent at the last look."""
    quantiles = np.arange(SHARPEST_QUANTILE, 0.0, -0.125)
    for quantile in quantiles:
        if _due(plan, ledger, float(special.ndtr(-quantile))) > 2.0 * SMALLEST_CHANCE:
            return float(quantile)
    return float(quantiles[-1])


def _due(plan: Plan, ledger: Ledger, tail: float) -> float:
    """What the last look would spend of one tail at another level."""
    spent = [plan.spending.spent(tail, look.fraction) for look in ledger.looks]
    return max(spent) - max(spent[:-1], default=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Front:
    """One look as it would be at each of the tabulated levels.

    `spent` is what one tail has used, `critical` the critical value, infinite where nothing is
    to be spent, `paths` those that come to the look.
    """

    spent: FloatArray
    critical: FloatArray
    paths: tuple[Survivors, ...]


@lru_cache(maxsize=KEPT)
def _front(plan: Plan, looks: tuple[Look, ...], highest: float) -> _Front:
    """The last of these looks at each level, by one step from the look before."""
    tails = special.ndtr(-_quantiles(plan, highest, chebyshev.chebpts1(DEGREE + 1)))
    time = looks[-1].information / plan.planned_information
    before, paths = np.zeros(tails.shape), (start(),) * tails.size
    if len(looks) > 1:
        previous = _front(plan, looks[:-1], highest)
        before, paths = previous.spent, _going_on(plan, looks[-2], previous, time)
    due = [plan.spending.spent(float(tail), looks[-1].fraction) for tail in tails]
    spent = np.maximum(due, before)
    bounds = [
        bound_above(front, time, float(chance)) if chance > SMALLEST_CHANCE else math.inf
        for front, chance in zip(paths, spent - before, strict=True)
    ]
    return _Front(spent, np.array(bounds) / math.sqrt(time), paths)


def _going_on(plan: Plan, look: Look, front: _Front, time: float) -> tuple[Survivors, ...]:
    """The paths that go on after a look and come to the next one, at `time`."""
    now = look.information / plan.planned_information
    bounds = front.critical * math.sqrt(now)
    return tuple(
        step(
            paths,
            now,
            -bound if plan.side is Side.TWO_SIDED else -math.inf,
            bound,
            math.sqrt(time - now),
        )
        for paths, bound in zip(front.paths, bounds.tolist(), strict=True)
    )
