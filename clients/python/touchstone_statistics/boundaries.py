"""Group-sequential boundaries: a plan, and a ledger of looks that is only ever added to.

The ledger belongs to one experiment and may serve all its metrics, because boundaries depend on
how much information there was at each look and not on what it said.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from touchstone_statistics.crossing import Survivors, bound_above, bound_below, start, step
from touchstone_statistics.interval import Side
from touchstone_statistics.spending import OBrienFleming, Spending

MINIMUM_STEP = 0.01
"""A look needs this share of the planned information more than the one before."""
LAST_STEP = 0.0001
"""The look at the planned end needs only this much more, so that it is never left out."""
SMALLEST_CHANCE = 1e-90
"""Below this no level is left to be spent: no z statistic under 20 could reach it."""


@dataclass(frozen=True, slots=True)
class Futility:
    """Beta spending: when to stop because the effect that was planned for is not to be found.

    `error` is the type II error at the planned effect, `drift` the z statistic expected at the
    planned end under that effect. The boundary is not binding: going on past it does not raise
    the type I error. For a two-sided test the absolute z is meant, which errs towards going on.
    Source: Pampallona, Tsiatis and Kim (2001), "Interim monitoring of group sequential trials
    using spending functions for the type I and type II error probabilities".
    """

    drift: float
    error: float = 0.2
    spending: Spending = field(default_factory=OBrienFleming)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.drift) and self.drift > 0.0):
            raise ValueError(f"drift is {self.drift}; it must be finite and above 0")
        if not 0.0 < self.error < 1.0:
            raise ValueError(f"error is {self.error}; it must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class Plan:
    """How often we are willing to be wrong, over all looks until the planned end.

    `planned_information` is the number of units at the planned end (any other measure that is
    proportional to one over the variance of the difference will do), the same measure in which
    looks are counted.
    """

    planned_information: float
    alpha: float = 0.05
    side: Side = Side.TWO_SIDED
    spending: Spending = field(default_factory=OBrienFleming)
    futility: Futility | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.planned_information) and self.planned_information > 0.0):
            raise ValueError(
                f"planned_information is {self.planned_information}; it must be finite and above 0"
            )
        if not 0.0 < self.alpha <= 0.5:
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and at most 0.5")

    @property
    def tails(self) -> int:
        return 2 if self.side is Side.TWO_SIDED else 1


@dataclass(frozen=True, slots=True)
class Look:
    """One look: the information there was, its share of the plan, and what followed from it.

    `spent` is the error rate used up to here. The test rejects when z, in the tested direction,
    exceeds `critical`; None says that no level was left to be spent. Below `futility` the
    planned effect is not to be found; None says that nothing is too little yet.
    """

    information: float
    fraction: float
    spent: float
    critical: float | None
    futility: float | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The looks taken so far, oldest first. Nothing in it is ever computed anew."""

    looks: tuple[Look, ...] = ()

    @property
    def complete(self) -> bool:
        """True when the planned end was reached: the whole error rate is spent."""
        return bool(self.looks) and self.looks[-1].fraction >= 1.0

    def to_json(self) -> list[dict[str, float | None]]:
        """Plain lists, mappings and numbers; a float of JSON keeps every digit of a float64."""
        return [asdict(look) for look in self.looks]

    @classmethod
    def from_json(cls, looks: list[dict[str, Any]]) -> Self:
        return cls(tuple(Look(**look) for look in looks))


def advance(plan: Plan, ledger: Ledger, information: float) -> Ledger:
    """The ledger with one more look, or the same one when this is no new look.

    Source: Lan and DeMets (1983); the increments of the spending function are turned into
    critical values by Armitage, McPherson and Rowe (1969), as in Jennison and Turnbull (2000),
    section 7.2. Looks may be unequal and need not be planned, but their times must not depend
    on the results. The first look at or past the planned end spends the rest of the level;
    after it the boundary is frozen. What was spent stays spent: if the planned end was moved
    out so far that the new plan would have spent less, this look spends nothing.

    A bound holds for the data of its own look. Reading newer data at it is a look that nobody
    paid for: 1,000 looks of which 100 are in the ledger reject 5.4 % (O'Brien-Fleming) or 6.1 %
    (Pocock) of A/A tests instead of 5, and two weeks of daily looks past the end of a month
    almost 9 %. Between looks, and after the end, show the reading of the last look.
    Raises ValueError when `information` is negative or not finite.
    """
    if not (math.isfinite(information) and information >= 0.0):
        raise ValueError(f"information is {information}; it must be finite and not negative")
    fraction = min(information / plan.planned_information, 1.0)
    before = ledger.looks[-1].information if ledger.looks else 0.0
    smallest = LAST_STEP if fraction == 1.0 else MINIMUM_STEP
    if ledger.complete or information - before < smallest * plan.planned_information:
        return ledger
    already = ledger.looks[-1].spent if ledger.looks else 0.0
    spent = max(plan.tails * plan.spending.spent(plan.alpha / plan.tails, fraction), already)
    time = information / plan.planned_information
    chance = (spent - already) / plan.tails
    critical = None
    if chance > SMALLEST_CHANCE:
        critical = bound_above(arrivals(plan, ledger, time)[-1], time, chance) / math.sqrt(time)
    futility = _futility(plan, ledger, fraction, time, critical)
    look = Look(information, fraction, spent, critical, futility)
    return Ledger((*ledger.looks, look))


def arrivals(
    plan: Plan, ledger: Ledger, time: float | None = None, futility: bool = False
) -> tuple[Survivors, ...]:
    """The paths that come to each look of the ledger, having crossed nothing at those before it.

    With `time` one more: those that come to a further look then. Times are in units of the
    planned information. With `futility` the paths have not crossed that boundary either, which
    says how often each effect is stopped; the level is kept without it.
    """
    times = [look.information / plan.planned_information for look in ledger.looks]
    times += [] if time is None else [time]
    paths = [start()]
    for look, now, after in zip(ledger.looks, times, times[1:], strict=False):
        low, high = edges(plan, look, futility)
        paths.append(step(paths[-1], now, low, high, math.sqrt(after - now)))
    return tuple(paths)


def edges(plan: Plan, look: Look, futility: bool = False) -> tuple[float, float]:
    """Between which positions of the motion the test goes on after a look."""
    scale = math.sqrt(look.information / plan.planned_information)
    high = math.inf if look.critical is None else look.critical * scale
    if futility and look.futility is not None:
        return look.futility * scale, high
    return -high if plan.side is Side.TWO_SIDED else -math.inf, high


def _futility(
    plan: Plan, ledger: Ledger, fraction: float, time: float, critical: float | None
) -> float | None:
    """Below which z the planned effect is ruled out, at the error rate due by now."""
    if plan.futility is None:
        return None
    if fraction == 1.0:
        return critical
    rule = plan.futility
    before = ledger.looks[-1].fraction if ledger.looks else 0.0
    chance = rule.spending.spent(rule.error, fraction) - rule.spending.spent(rule.error, before)
    if chance <= SMALLEST_CHANCE:
        return None
    paths = arrivals(plan, ledger, time, futility=True)[-1]
    if paths.drifting(rule.drift).sum() <= chance:
        # Whatever goes on with the planned effect may stop: futility meets the boundary early.
        return critical
    bound = bound_below(paths, time, chance, rule.drift) / math.sqrt(time)
    if plan.side is Side.TWO_SIDED and bound <= 0.0:
        return None
    return bound if critical is None else min(bound, critical)
