"""A budget whose channels are in groups with limits of their own, such as all of paid search."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.attribution.domain.budget import (
    TOLERANCE,
    AllocatedLine,
    Allocation,
    Bound,
    BudgetLine,
    Infeasible,
    allocate,
    level_of,
    line_at,
    residual_of,
    settled,
    smallest_marginal,
    spend_at,
)
from shared.errors import invalid


@dataclass(frozen=True, slots=True)
class BudgetGroup:
    """Channels that together are given no less and no more. A channel is in one group at most."""

    name: str
    channels: tuple[str, ...]
    at_least: float = 0.0
    at_most: float = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.at_least) and 0 <= self.at_least <= self.at_most):
            raise invalid(
                f"groups.{self.name}",
                f"at least {self.at_least}, at most {self.at_most}",
                "a finite least spend of at least 0 and not above the most",
            )


@dataclass(frozen=True, slots=True)
class AllocatedGroup:
    """What a group is given; `marginal` is the return of the next unit of money within it.

    It is None where none of its channels is free to take it.
    """

    name: str
    spend: float
    response: float
    marginal: float | None
    bound: Bound


@dataclass(frozen=True, slots=True)
class GroupedAllocation:
    """The best spread with limits on groups.

    `whole` is that of all channels, whose `marginal` is the return outside of groups that are at a
    limit, and whose `residual` holds the conditions within these groups too.
    """

    whole: Allocation
    groups: tuple[AllocatedGroup, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """Lines that share limits: those of a group, or one line alone."""

    lines: tuple[BudgetLine, ...]
    low: float
    high: float
    group: BudgetGroup | None = None

    def wanted(self, marginal: float) -> float:
        """What the lines would take without limits on the group."""
        return math.fsum(spend_at(line, marginal) for line in self.lines)

    def spent(self, marginal: float) -> float:
        """What they take within them."""
        return min(max(self.wanted(marginal), self.low), self.high)

    def bound(self, marginal: float) -> Bound:
        """Which limit of the group they are at."""
        wanted, spent = self.wanted(marginal), self.spent(marginal)
        if abs(wanted - spent) <= TOLERANCE * max(abs(spent), 1.0):
            return Bound.FREE
        return Bound.AT_MOST if spent < wanted else Bound.AT_LEAST


def allocate_groups(
    lines: Sequence[BudgetLine],
    groups: Sequence[BudgetGroup],
    total: float,
    least_marginal: float = 0.0,
) -> GroupedAllocation | Infeasible:
    """Return the spends that bring most for `total`, within the bounds of lines and groups.

    At a marginal return a group takes what its lines would take, within its own limits; a group
    at a limit spreads that over its lines at a marginal return of its own. Limits of disjoint
    groups keep the problem concave and separable, so this is the global optimum, as in `allocate`.
    """
    plain = allocate(lines, total, least_marginal)
    parts = _parts(lines, groups)
    if isinstance(plain, Infeasible):
        return plain
    contradiction = next((found for part in parts if (found := _impossible(part))), None)
    if contradiction is not None:
        return contradiction
    required = math.fsum(part.low for part in parts)
    if required > total * (1 + TOLERANCE):
        return _too_much(parts, total, required)
    floor = max(least_marginal, smallest_marginal(lines, total))
    level = level_of(lambda m: math.fsum(part.spent(m) for part in parts), total, floor)
    return _spread(parts, level, (total, floor), least_marginal)


def _parts(lines: Sequence[BudgetLine], groups: Sequence[BudgetGroup]) -> tuple[_Part, ...]:
    """Groups by name, then the lines of no group by name."""
    known = {line.channel: line for line in lines}
    free = dict(known)
    found = []
    for group in sorted(groups, key=lambda group: group.name):
        for channel in group.channels:
            if free.pop(channel, None) is None:
                allowed = "channels of the budget, each in one group at most"
                raise invalid(f"groups.{group.name}", channel, allowed)
        own = tuple(known[channel] for channel in sorted(group.channels))
        low = max(group.at_least, math.fsum(line.low for line in own))
        high = min(group.at_most, math.fsum(line.high for line in own))
        found.append(_Part(own, low, high, group))
    if len({part.group.name for part in found if part.group}) < len(found):
        raise invalid("groups", [group.name for group in groups], "each name once")
    rest = (_Part((free[name],), free[name].low, free[name].high) for name in sorted(free))
    return (*found, *rest)


def _impossible(part: _Part) -> Infeasible | None:
    """Why the limits of a group contradict those of its channels."""
    group = part.group
    if group is None or part.low <= part.high * (1 + TOLERANCE):
        return None
    least = math.fsum(line.low for line in part.lines)
    most = math.fsum(line.high for line in part.lines)
    if least > group.at_most:
        message = (
            f"locked and least spends of group {group.name} sum to {least:.6g}, above the "
            f"{group.at_most:.6g} that it may have at most. Lower these or raise that."
        )
        return Infeasible(group.at_most, least, message)
    message = (
        f"group {group.name} is to have at least {group.at_least:.6g} and its channels may take "
        f"no more than {most:.6g}. Lower that or let them take more."
    )
    return Infeasible(most, group.at_least, message)


def _too_much(parts: Sequence[_Part], total: float, required: float) -> Infeasible:
    largest = sorted((part for part in parts if part.group), key=lambda part: -part.low)[:3]
    names = ", ".join(f"{part.group.name} {part.low:.6g}" for part in largest if part.group)
    message = (
        f"least spends of groups and channels sum to {required:.6g}, {required - total:.6g} above "
        f"the total of {total:.6g}; the largest groups are {names}. Lower these or raise the total."
    )
    return Infeasible(total, required, message)


def _spread(
    parts: Sequence[_Part], level: float, limits: tuple[float, float], least_marginal: float
) -> GroupedAllocation:
    """The spends at a marginal return. `limits` are the total and the least level searched."""
    total, floor = limits
    bounds = [part.bound(level) for part in parts]
    inner = [
        _inside(part, part.spent(level)) if bound is not Bound.FREE else None
        for part, bound in zip(parts, bounds, strict=True)
    ]
    fixed = math.fsum(found.spent for found in inner if found is not None)
    free = [
        line for part, found in zip(parts, inner, strict=True) if not found for line in part.lines
    ]
    spends = [spend_at(line, level) for line in free]
    spends = settled(spends, free, total - fixed, level > floor) if free else spends
    rows = [line_at(line, spend) for line, spend in zip(free, spends, strict=True)]
    outer = [row.marginal for row in rows if row.bound is Bound.FREE]
    marginal = math.fsum(outer) / len(outer) if outer else None
    every = sorted(
        [*rows, *(row for found in inner if found for row in found.lines)],
        key=lambda row: row.channel,
    )
    spent = math.fsum(row.spend for row in every)
    left = total - spent > max(1e-9 * total, TOLERANCE)
    reference = least_marginal if left else marginal
    residuals = [residual_of(rows, reference), *(found.residual for found in inner if found)]
    whole = Allocation(
        lines=tuple(every),
        marginal=marginal,
        spent=spent,
        unspent=total - spent if left else 0.0,
        response=math.fsum(row.response for row in every),
        residual=max(residuals),
    )
    by_channel = {row.channel: row for row in every}
    return GroupedAllocation(
        whole,
        tuple(
            _group(part.group, [by_channel[line.channel] for line in part.lines], bound)
            for part, bound in zip(parts, bounds, strict=True)
            if part.group is not None
        ),
    )


def _inside(part: _Part, total: float) -> Allocation:
    found = allocate(part.lines, total)
    if isinstance(found, Infeasible):  # its lines fit: the limits of the part hold their sums
        raise invalid("groups", found.message, "limits that hold the least spends")
    return found


def _group(group: BudgetGroup, rows: Sequence[AllocatedLine], bound: Bound) -> AllocatedGroup:
    free = [row.marginal for row in rows if row.bound is Bound.FREE]
    return AllocatedGroup(
        name=group.name,
        spend=math.fsum(row.spend for row in rows),
        response=math.fsum(row.response for row in rows),
        marginal=math.fsum(free) / len(free) if free else None,
        bound=bound,
    )
