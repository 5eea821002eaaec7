"""Spread a budget over channels so that no shift of money between them would bring more."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from scipy import optimize

from services.attribution.domain.response import LARGEST_LOG, Response
from shared.errors import invalid

TOLERANCE = 1e-12


class Bound(Enum):
    """What keeps a channel from following the marginal return of the others."""

    FREE = "free"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One channel: its calibrated response curve, and what may be spent on it.

    `response` is in the unit that is maximised (incremental conversions, or value). `locked` fixes
    the spend. `seen` is the range of spends that the curve was fitted to.
    """

    channel: str
    response: Response
    at_least: float = 0.0
    at_most: float = math.inf
    locked: float | None = None
    seen: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.at_least) and 0 <= self.at_least <= self.at_most):
            raise invalid(
                f"budget.{self.channel}",
                f"at least {self.at_least}, at most {self.at_most}",
                "a finite least spend of at least 0 and not above the most",
            )
        if self.locked is not None and not (math.isfinite(self.locked) and self.locked >= 0):
            raise invalid(f"budget.{self.channel}.locked", self.locked, "a spend of at least 0")
        if self.locked is not None and not self.at_least <= self.locked <= self.at_most:
            allowed = f"a spend within its own limits, {self.at_least:.6g} to {self.at_most:.6g}"
            raise invalid(f"budget.{self.channel}.locked", self.locked, allowed)

    @property
    def low(self) -> float:
        return self.at_least if self.locked is None else self.locked

    @property
    def high(self) -> float:
        return self.at_most if self.locked is None else self.locked


@dataclass(frozen=True, slots=True)
class AllocatedLine:
    """The spend of one channel, what it brings and what the next unit of money would bring.

    `extrapolated` says that the spend is outside of those the curve was fitted to.
    """

    channel: str
    spend: float
    response: float
    marginal: float
    bound: Bound
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Allocation:
    """The best spread of a total, in the order of channel names.

    `marginal` is the return of the next unit of money, the same for every free channel, None where
    none is free. `unspent` is what no channel may take, or what would return less than asked for.
    `residual` is the largest relative violation of the conditions of Karush, Kuhn and Tucker; for
    concave curves they are sufficient, so at rounding error the spread is the best there is.
    """

    lines: tuple[AllocatedLine, ...]
    marginal: float | None
    spent: float
    unspent: float
    response: float
    residual: float


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Why no spread satisfies the constraints, with the figures that contradict each other."""

    total: float
    required: float
    message: str


def allocate(
    lines: Sequence[BudgetLine], total: float, least_marginal: float = 0.0
) -> Allocation | Infeasible:
    """Return the spends that bring most for `total`, each line within its bounds.

    Water-filling (Boyd and Vandenberghe 2004, example 5.2): at a marginal return m each channel
    takes the spend at which its own curve has fallen to m, within its bounds; m is where the
    spends sum to the total. No money is spent where it returns less than `least_marginal` (1 / the
    margin rate for curves of value keeps every yuan profitable). Curves are concave, so this is
    the global optimum.
    """
    if not (math.isfinite(total) and total >= 0):
        raise invalid("budget.total", total, "a finite amount of at least 0")
    if not (math.isfinite(least_marginal) and least_marginal >= 0):
        raise invalid("budget.least_marginal", least_marginal, "a finite number of at least 0")
    ordered = sorted(lines, key=lambda line: line.channel)
    if not ordered or len({line.channel for line in ordered}) < len(ordered):
        raise invalid("budget.lines", [line.channel for line in ordered], "each channel once")
    required = math.fsum(line.low for line in ordered)
    if required > total * (1 + TOLERANCE):
        return Infeasible(total, required, _contradiction(ordered, total, required))
    floor = max(least_marginal, smallest_marginal(ordered, total))
    level = level_of(lambda m: math.fsum(spend_at(line, m) for line in ordered), total, floor)
    spends = settled([spend_at(line, level) for line in ordered], ordered, total, level > floor)
    return _allocation(ordered, spends, total, least_marginal)


def _contradiction(lines: Sequence[BudgetLine], total: float, required: float) -> str:
    largest = sorted(lines, key=lambda line: (-line.low, line.channel))[:3]
    names = ", ".join(f"{line.channel} {line.low:.6g}" for line in largest if line.low)
    return (
        f"locked and least spends sum to {required:.6g}, {required - total:.6g} above the total of "
        f"{total:.6g}; the largest are {names}. Lower these or raise the total."
    )


def smallest_marginal(lines: Sequence[BudgetLine], total: float) -> float:
    """A marginal return at which at least the whole total would be spent, if bounds allow it."""
    at_total = [line.response.marginal(min(max(total, line.low), line.high)) for line in lines]
    positive = [marginal for marginal in at_total if 0 < marginal < math.inf]
    return min(positive, default=1.0) * 0.5


def spend_at(line: BudgetLine, marginal: float) -> float:
    """The spend at which the line's return has fallen to `marginal`, within its bounds."""
    return min(max(line.response.spend_at(marginal), line.low), line.high)


def level_of(spent: Callable[[float], float], total: float, floor: float) -> float:
    """The marginal return at which what is spent is the total; the floor if it never is that much.

    `spent` does not rise with the marginal return that is asked for.
    """

    def excess(log_marginal: float) -> float:
        return spent(math.exp(log_marginal)) - total

    low = math.log(floor)
    if excess(low) <= 0:
        return floor
    high = low + 1.0
    while excess(high) > 0:
        if high >= LARGEST_LOG:
            # A curve without bound at 0 wants its part of any money, however little there is.
            return math.exp(LARGEST_LOG)
        high = min(high + (high - low), LARGEST_LOG)
    found = optimize.brentq(excess, low, high, xtol=1e-15, rtol=8.9e-16)
    return math.exp(found)


def settled(
    spends: list[float], lines: Sequence[BudgetLine], total: float, binding: bool
) -> list[float]:
    """Give the rounding of the search to the channel that moves most freely, so sums are exact."""
    if not binding:
        return spends
    room = [min(s - line.low, line.high - s) for s, line in zip(spends, lines, strict=True)]
    freest = max(range(len(spends)), key=room.__getitem__)
    apart = total - math.fsum(spends)
    if abs(apart) <= room[freest]:
        spends[freest] += apart
    return spends


def _allocation(
    lines: Sequence[BudgetLine], spends: Sequence[float], total: float, least_marginal: float
) -> Allocation:
    rows = tuple(line_at(line, spend) for line, spend in zip(lines, spends, strict=True))
    free = [row.marginal for row in rows if row.bound is Bound.FREE]
    spent = math.fsum(spends)
    unspent = max(total - spent, 0.0)
    left = unspent > max(1e-9 * total, TOLERANCE)
    level = math.fsum(free) / len(free) if free else None
    return Allocation(
        lines=rows,
        marginal=level,
        spent=spent,
        unspent=unspent if left else 0.0,
        response=math.fsum(row.response for row in rows),
        residual=residual_of(rows, least_marginal if left else level),
    )


def line_at(line: BudgetLine, spend: float) -> AllocatedLine:
    """The line at a spend, and which of its bounds that is."""
    edge = 1e-12 * max(abs(spend), 1.0)
    if line.locked is not None:
        bound = Bound.LOCKED
    elif spend >= line.high - edge:
        bound = Bound.AT_MOST
    elif spend <= line.low + edge:
        bound = Bound.AT_LEAST
    else:
        bound = Bound.FREE
    outside = line.seen is not None and not line.seen[0] <= spend <= line.seen[1]
    return AllocatedLine(
        line.channel,
        spend,
        line.response.value(spend),
        line.response.marginal(spend),
        bound,
        outside,
    )


def residual_of(rows: Sequence[AllocatedLine], level: float | None) -> float:
    """Largest relative violation: free channels at the level, the others on their side of it."""
    if level is None:
        below = [row.marginal for row in rows if row.bound is Bound.AT_LEAST]
        above = [row.marginal for row in rows if row.bound is Bound.AT_MOST]
        low, high = max(below, default=0.0), min(above, default=math.inf)
        return max(low - high, 0.0) / low if low > 0 else 0.0
    worst = 0.0
    for row in rows:
        apart = row.marginal - level
        if row.bound is Bound.AT_LEAST:
            apart = max(apart, 0.0)
        elif row.bound is Bound.AT_MOST:
            apart = max(-apart, 0.0)
        if row.bound is not Bound.LOCKED and apart:
            worst = max(worst, abs(apart) / max(level, row.marginal))
    return worst
