"""The chance that a planned test finds an effect, for each rule by which it may be read."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy import special

from touchstone_statistics.anytime import Anytime
from touchstone_statistics.boundaries import Look, Plan, arrivals, edges
from touchstone_statistics.crossing import Survivors
from touchstone_statistics.interval import Side
from touchstone_statistics.operating import planned
from touchstone_statistics.spending import OBrienFleming, Spending

NEARLY_NORMAL_DOF = 1e5
"""Beyond this the noncentral t fails numerically, while a normal approximation is right to 1e-8."""
FAR = 5.0
"""Expected z from which the chance to reject on the wrong side, under 3e-7, counts as zero."""
HUGE = 1e4
"""Expected z beyond which the noncentral t fails numerically with few degrees of freedom."""


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """A test at its planned end: level, side, degrees of freedom and units of all arms."""

    alpha: float
    side: Side
    dof: float
    units: float

    @property
    def tail(self) -> float:
        """Error rate of each tail."""
        return self.alpha / 2.0 if self.side is Side.TWO_SIDED else self.alpha


class Rule(Protocol):
    """When a test rejects."""

    def power(self, expected_z: float, test: PlannedTest) -> float:
        """Chance to reject when the effect is `expected_z` standard errors at the planned end.

        For a one-sided test the sign has been turned so that positive is the tested side.
        """
        ...


@dataclass(frozen=True, slots=True)
class AtHorizon:
    """One look at the planned end, by Welch's t test.

    Source: the noncentral t distribution (Johnson, Kotz and Balakrishnan 1995, chapter 31);
    its tails from `scipy.special.nctdtr`, never as one minus the other.
    """

    def power(self, expected_z: float, test: PlannedTest) -> float:
        critical = -float(special.stdtrit(test.dof, test.tail))
        power = _beyond(critical, expected_z, test.dof)
        if test.side is Side.TWO_SIDED:
            power += _beyond(critical, -expected_z, test.dof)
        return power


@dataclass(frozen=True, slots=True)
class Beyond:
    """A boundary that is valid at every look, at its value at the planned end.

    `critical` gives how many standard errors the difference must exceed, for instance that of
    an anytime-valid confidence sequence. The power is the chance to stand beyond it at the end;
    the chance to have crossed it at some look is higher.
    """

    critical: Callable[[PlannedTest], float]

    def power(self, expected_z: float, test: PlannedTest) -> float:
        critical = self.critical(test)
        power = float(special.ndtr(expected_z - critical))
        if test.side is Side.TWO_SIDED:
            power += float(special.ndtr(-expected_z - critical))
        return power


def anytime(tuned_for: float | None = None) -> Beyond:
    """The boundary of `Anytime`, tightest at `tuned_for` units, or else at the planned end."""

    def critical(test: PlannedTest) -> float:
        sequence = Anytime(tuned_for or test.units, test.alpha, test.side)
        return float(sequence.critical(np.asarray(test.units)))

    return Beyond(critical)


@dataclass(frozen=True, slots=True)
class AtLooks:
    """Equally spaced looks with alpha spending: the chance to reject at any of them.

    Exact for a difference that is normal at each look (Jennison and Turnbull 2000, section
    19.2). One look is a fixed horizon read with the normal distribution.
    """

    looks: int
    spending: Spending = field(default_factory=OBrienFleming)

    def __post_init__(self) -> None:
        if not 1 <= self.looks <= 100:
            raise ValueError(f"looks is {self.looks}; it must be from 1 to 100")

    def power(self, expected_z: float, test: PlannedTest) -> float:
        plan = Plan(1.0, test.alpha, test.side, self.spending)
        power = 0.0
        for look, paths in _stages(plan, self.looks):
            low, high = edges(plan, look)
            power += float(paths.above(look.fraction, high, expected_z))
            power += float(paths.below(look.fraction, low, expected_z))
        # Who stands beyond the last bound has crossed some bound. A drift that carries nearly all
        # paths out of what was integrated without one is far beyond it.
        beyond = float(special.ndtr(expected_z - high)) + float(special.ndtr(low - expected_z))
        return max(power, beyond)


@lru_cache(maxsize=64)
def _stages(plan: Plan, looks: int) -> tuple[tuple[Look, Survivors], ...]:
    """Each look with the paths that come to it, integrated once for every effect."""
    ledger = planned(plan, np.arange(1, looks + 1) / looks)
    return tuple(zip(ledger.looks, arrivals(plan, ledger), strict=True))


def _beyond(critical: float, expected: float, dof: float) -> float:
    """P(T > critical) of a noncentral t: the lower tail of the mirrored distribution.

    For many degrees of freedom the normal approximation of Abramowitz and Stegun (1964),
    equation 26.7.10.
    """
    if dof > NEARLY_NORMAL_DOF:
        spread = math.sqrt(1.0 + critical**2 / (2.0 * dof))
        return float(special.ndtr((expected - critical * (1.0 - 0.25 / dof)) / spread))
    if expected < -FAR:
        return 0.0
    if expected > HUGE:
        # The noise of the difference no longer counts, only that of the standard error does.
        return float(special.chdtr(dof, dof * min(expected / critical, 1e100) ** 2))
    chance = float(special.nctdtr(dof, -expected, -critical))
    return chance if np.isfinite(chance) else 0.0
