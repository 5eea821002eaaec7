"""A spread in whole steps of money, such as cents or thousands, that still adds up exactly.

Rounding each spend by itself loses or makes money. Here every spend is cut to whole steps, and the
steps that are left go to the largest remainders (Hamilton's method), within all limits.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from services.attribution.domain.amounts import written_sum
from services.attribution.domain.budget import AllocatedLine, BudgetLine
from services.attribution.domain.budget_groups import BudgetGroup, GroupedAllocation
from shared.errors import invalid

MOST_STEPS = 10**14
"""So many steps of a total are exact in a double with room for their sums."""

_ROUNDING = Decimal("1e-9")


@dataclass(slots=True)
class _Line:
    """The steps that a line is given, and how many it may have (None: no most)."""

    name: str
    exact: Decimal
    low: int
    high: int | None
    group: str
    steps: int = 0

    @property
    def remainder(self) -> Decimal:
        return self.exact - self.steps


@dataclass(slots=True)
class _Group:
    """The steps that the free lines of a group have, and may have."""

    low: int
    high: int | None
    steps: int = 0


def in_steps(
    found: GroupedAllocation,
    lines: Sequence[BudgetLine],
    groups: Sequence[BudgetGroup],
    total: float,
    step: float,
) -> GroupedAllocation:
    """Return the spread with every spend but locked ones a multiple of `step`.

    The spends sum to what was spent, or to the most whole steps below it. Bounds, marginal returns
    of the whole and the residual stay those of the spread before. INVALID_ARGUMENT where limits
    hold no multiple of the step.
    """
    if not (math.isfinite(step) and step > 0 and total / step <= MOST_STEPS):
        raise invalid("step", step, f"above 0, and from {total / MOST_STEPS:.3g} on for this total")
    unit = Decimal(repr(step))
    spends = {row.channel: row.spend for row in found.whole.lines}
    own = {channel: group.name for group in groups for channel in group.channels}
    free = [_line(line, spends, own, unit) for line in lines if line.locked is None]
    free.sort(key=lambda line: line.name)
    locked = [line for line in lines if line.locked is not None]
    limits = {group.name: _limits(group, locked, unit) for group in groups}
    spent = written_sum(
        [total] if not found.whole.unspent else [row.spend for row in found.whole.lines]
    )
    rest = spent - written_sum(line.low for line in locked)
    _give(free, limits, _steps(rest / unit, ROUND_FLOOR))
    given = {line.name: float(line.steps * unit) for line in free}
    curves = {line.channel: line for line in lines}
    rows = [_moved(row, curves[row.channel], given) for row in found.whole.lines]
    return _rebuilt(found, rows, groups, total)


def _line(line: BudgetLine, spends: dict[str, float], own: dict[str, str], unit: Decimal) -> _Line:
    most = None if math.isinf(line.high) else _steps(written_sum([line.high]) / unit, ROUND_FLOOR)
    least = _steps(written_sum([line.low]) / unit, ROUND_CEILING)
    if most is not None and least > most:
        raise _no_multiple(unit, f"channel {line.channel}")
    exact = written_sum([spends[line.channel]]) / unit
    made = _Line(line.channel, exact, least, most, own.get(line.channel, ""))
    made.steps = max(_steps(exact, ROUND_FLOOR), least)
    if most is not None:
        made.steps = min(made.steps, most)
    return made


def _limits(group: BudgetGroup, locked: Iterable[BudgetLine], unit: Decimal) -> _Group:
    fixed = written_sum(line.low for line in locked if line.channel in group.channels)
    low = _steps((written_sum([group.at_least]) - fixed) / unit, ROUND_CEILING)
    if math.isinf(group.at_most):
        return _Group(low, None)
    high = _steps((written_sum([group.at_most]) - fixed) / unit, ROUND_FLOOR)
    if low > high:
        raise _no_multiple(unit, f"group {group.name}")
    return _Group(low, high)


def _give(lines: Sequence[_Line], groups: dict[str, _Group], target: int) -> None:
    """Add or take single steps until the lines have as many as there are."""
    for line in lines:
        if line.group:
            groups[line.group].steps += line.steps
    for name, group in groups.items():
        members = [line for line in lines if line.group == name]
        while group.high is not None and group.steps > group.high:
            _move(members, {}, -1, name)
            group.steps -= 1
        while group.steps < group.low:
            _move(members, {}, 1, name)
            group.steps += 1
    left = target - sum(line.steps for line in lines)
    while left:
        way = 1 if left > 0 else -1
        if not _move(lines, groups, way, ""):
            break
        left -= way
    if left < 0:
        raise invalid("step", "limits are no multiples of it", "one whose multiples limits are")


def _move(lines: Sequence[_Line], groups: dict[str, _Group], way: int, name: str) -> bool:
    """Give a step to the largest remainder that may have it, or take it from the smallest."""
    able = [line for line in lines if _may(line, groups.get(line.group), way)]
    if not able:
        if name:
            raise invalid("step", f"group {name}", "one whose multiples the limits of groups are")
        return False
    chosen = max(able, key=lambda line: way * line.remainder)
    chosen.steps += way
    if chosen.group in groups:
        groups[chosen.group].steps += way
    return True


def _may(line: _Line, group: _Group | None, way: int) -> bool:
    if way > 0:
        own = line.high is None or line.steps < line.high
        return own and (group is None or group.high is None or group.steps < group.high)
    return line.steps > line.low and (group is None or group.steps > group.low)


def _moved(row: AllocatedLine, line: BudgetLine, given: dict[str, float]) -> AllocatedLine:
    spend = given.get(row.channel, row.spend)
    return replace(
        row,
        spend=spend,
        response=line.response.value(spend),
        marginal=line.response.marginal(spend),
        extrapolated=line.seen is not None and not line.seen[0] <= spend <= line.seen[1],
    )


def _rebuilt(
    found: GroupedAllocation, rows: list[AllocatedLine], groups: Sequence[BudgetGroup], total: float
) -> GroupedAllocation:
    by_channel = {row.channel: row for row in rows}
    members = {group.name: [by_channel[channel] for channel in group.channels] for group in groups}
    spent = written_sum(row.spend for row in rows)
    return GroupedAllocation(
        whole=replace(
            found.whole,
            lines=tuple(rows),
            spent=float(spent),
            unspent=max(float(written_sum([total]) - spent), 0.0),
            response=math.fsum(row.response for row in rows),
        ),
        groups=tuple(
            replace(
                group,
                spend=float(written_sum(row.spend for row in members[group.name])),
                response=math.fsum(row.response for row in members[group.name]),
            )
            for group in found.groups
        ),
    )


def _no_multiple(unit: Decimal, whose: str) -> Exception:
    return invalid("step", str(unit), f"one of which the limits of {whose} hold a multiple")


def _steps(amount: Decimal, way: str) -> int:
    """Whole steps; what is whole but for the rounding of the search counts as whole."""
    whole = int(amount.to_integral_value())
    if abs(amount - whole) <= _ROUNDING * max(abs(whole), 1):
        return whole
    return int(amount.to_integral_value(rounding=way))
