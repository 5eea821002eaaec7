"""Spread a budget over channels by their calibrated response."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from services.attribution.application.calibrate_report import BelievedKappa
from services.attribution.domain.budget import AllocatedLine, Bound, BudgetLine, Infeasible
from services.attribution.domain.budget_groups import (
    BudgetGroup,
    GroupedAllocation,
    allocate_groups,
)
from services.attribution.domain.budget_steps import in_steps
from services.attribution.domain.lift import Estimate
from services.attribution.domain.response import FittedResponse, Response
from services.attribution.domain.spend_history import SpendHistory


@dataclass(frozen=True, slots=True)
class PlannedLine:
    """A channel with its curve before calibration, the kappa that corrects it, and its bounds.

    `line.response` is the curve as it was given or fitted. Without a `kappa` it stays so. `present`
    is what is spent now, None where that is not known. `history` and `believed` are what curve and
    kappa were measured by.
    """

    line: BudgetLine
    kappa: Estimate | None = None
    fitted: FittedResponse | None = None
    present: float | None = None
    history: SpendHistory | None = None
    believed: BelievedKappa | None = None

    def calibrated(self) -> BudgetLine:
        """The line with the curve of what the channel causes."""
        curve: Response = self.line.response
        return (
            self.line
            if self.kappa is None
            else replace(self.line, response=curve.times(self.kappa.value))
        )

    def response_at(self, spend: float) -> Estimate | None:
        """What the channel causes at a spend, with the error of kappa; None without one."""
        if self.kappa is None:
            return None
        value = self.line.response.value(spend)
        return Estimate(max(self.kappa.value, 0.0) * value, self.kappa.std_err * value)

    def gain(self, spend: float, before: float) -> Estimate:
        """What the channel causes more at a spend than at another one, with the error of kappa."""
        kappa = self.kappa or Estimate(1.0, 0.0)
        more = self.line.response.value(spend) - self.line.response.value(before)
        return Estimate(max(kappa.value, 0.0) * more, kappa.std_err * abs(more))


@dataclass(frozen=True, slots=True)
class AllocateBudget:
    """What to spread, over which channels and groups; in multiples of `step`, unless that is 0."""

    lines: tuple[PlannedLine, ...]
    groups: tuple[BudgetGroup, ...]
    total: float
    least_marginal: float = 0.0
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Binding:
    """A constraint that binds: a channel, a group or, with neither, the total.

    `gain` is what one more unit of money for it would bring in all; None where that is not known.
    """

    channel: str
    group: str
    bound: Bound
    gain: float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """The best spread; `std_err` is that of its response by kappa alone, None without any.

    `gain` is what it brings more than as much money in the proportions of present spend, None where
    that is not known.
    """

    lines: tuple[tuple[PlannedLine, AllocatedLine], ...]
    found: GroupedAllocation
    std_err: float | None
    binding: tuple[Binding, ...]
    gain: Estimate | None = None


def allocate_budget(command: AllocateBudget) -> Spread | Infeasible:
    """Spread the budget by what channels cause; say which constraints bind."""
    lines = {planned.line.channel: planned for planned in command.lines}
    found = allocate_groups(
        [planned.calibrated() for planned in command.lines],
        command.groups,
        command.total,
        command.least_marginal,
    )
    if isinstance(found, Infeasible):
        return found
    binding = tuple(_binding(found, _planned(found, lines), command.groups))
    if command.step:
        calibrated = [planned.calibrated() for planned in command.lines]
        found = in_steps(found, calibrated, command.groups, command.total, command.step)
    rows = _planned(found, lines)
    errors = [each for plan, row in rows if (each := plan.response_at(row.spend)) is not None]
    return Spread(
        lines=rows,
        found=found,
        std_err=math.hypot(*(each.std_err for each in errors)) if errors else None,
        binding=binding,
        gain=_gain(rows),
    )


def _planned(
    found: GroupedAllocation, lines: Mapping[str, PlannedLine]
) -> tuple[tuple[PlannedLine, AllocatedLine], ...]:
    return tuple((lines[row.channel], row) for row in found.whole.lines)


def _gain(rows: Sequence[tuple[PlannedLine, AllocatedLine]]) -> Estimate | None:
    """Errors of kappas are independent between channels."""
    present = [plan.present for plan, _ in rows if plan.present is not None]
    whole, spent = math.fsum(present), math.fsum(row.spend for _, row in rows)
    if len(present) < len(rows) or not whole > 0:
        return None
    gains = [plan.gain(row.spend, (plan.present or 0.0) * spent / whole) for plan, row in rows]
    return Estimate(
        math.fsum(gain.value for gain in gains), math.hypot(*(gain.std_err for gain in gains))
    )


def _binding(
    found: GroupedAllocation,
    rows: Sequence[tuple[PlannedLine, AllocatedLine]],
    groups: Sequence[BudgetGroup],
) -> Iterator[Binding]:
    others = _elsewhere(found)
    if not found.whole.unspent:
        yield Binding("", "", Bound.AT_MOST, others)
    inside = {
        channel: given
        for given in found.groups
        for group in groups
        if group.name == given.name and given.bound is not Bound.FREE
        for channel in group.channels
    }
    for planned, row in rows:
        # To be given nothing is no constraint: it is not worth more.
        if row.bound is Bound.FREE or (row.bound is Bound.AT_LEAST and not planned.line.low):
            continue
        own = inside.get(row.channel)
        level = others if own is None else own.marginal
        yield Binding(row.channel, "", row.bound, _less(row.marginal, level))
    for group in found.groups:
        if group.bound is not Bound.FREE:
            yield Binding("", group.name, group.bound, _less(group.marginal, others))


def _elsewhere(found: GroupedAllocation) -> float | None:
    """What the next unit of money brings where it is free to go; nothing while some is unspent."""
    if found.whole.unspent:
        return 0.0
    if found.whole.marginal is not None:
        return found.whole.marginal
    open_to_more = [row.marginal for row in found.whole.lines if row.bound is Bound.AT_LEAST]
    return max(open_to_more, default=None)


def _less(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    return math.inf if math.isinf(one) else one - other
