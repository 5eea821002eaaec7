"""Spreads in whole steps of money: not a cent is lost or made, and no limit is broken."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.budget import BudgetLine, Infeasible
from services.attribution.domain.budget_groups import (
    BudgetGroup,
    GroupedAllocation,
    allocate_groups,
)
from services.attribution.domain.budget_steps import in_steps
from services.attribution.domain.response import LogResponse, PowerResponse, Response
from shared.errors import DomainError

STEPS = (0.01, 0.05, 1.0, 1000.0)
CURVES = st.one_of(
    st.builds(LogResponse, st.floats(0.1, 1e3), st.floats(1, 1e5)),
    st.builds(PowerResponse, st.floats(0.1, 1e3), st.floats(0.1, 0.9)),
)


def exactly(amount: float) -> Decimal:
    return Decimal(repr(amount))


def spread(
    lines: list[BudgetLine], groups: list[BudgetGroup], total: float, step: float
) -> tuple[GroupedAllocation, GroupedAllocation]:
    """The best spread, and the same in steps."""
    best = allocate_groups(lines, groups, total)
    assert not isinstance(best, Infeasible)
    return best, in_steps(best, lines, groups, total, step)


def test_three_equal_channels_share_a_hundred() -> None:
    """A third of 100 is 33.33 three times, and a cent is left that somebody must have."""
    lines = [BudgetLine(name, LogResponse(1, 10)) for name in "abc"]

    _, found = spread(lines, [], 100, 0.01)

    assert [row.spend for row in found.whole.lines] == [33.34, 33.33, 33.33]
    assert (found.whole.spent, found.whole.unspent) == (100.0, 0.0)


def test_what_is_less_than_a_step_is_left_and_locked_spends_stay() -> None:
    lines = [
        BudgetLine("a", LogResponse(1, 10)),
        BudgetLine("b", LogResponse(3, 10), at_most=250),
        BudgetLine("c", LogResponse(1, 10), locked=33.333),
    ]

    _, found = spread(lines, [], 1000.5, 100)

    assert [row.spend for row in found.whole.lines] == [700.0, 200.0, 33.333]
    assert found.whole.unspent == pytest.approx(67.167, abs=1e-12)


@given(
    st.lists(st.tuples(CURVES, st.integers(0, 40), st.integers(0, 400)), min_size=2, max_size=6),
    st.integers(0, 3000),
    st.integers(0, 300),
    st.sampled_from(STEPS),
    st.randoms(use_true_random=False),
)
def test_money_is_conserved_within_all_limits(
    curves: list[tuple[Response, int, int]], over: int, most: int, step: float, random: object
) -> None:
    unit = exactly(step)
    lines = [
        BudgetLine(
            f"c{n}",
            curve,
            at_least=float(low * unit),
            at_most=float((low + more) * unit) if n % 2 else float("inf"),
        )
        for n, (curve, low, more) in enumerate(curves)
    ]
    members = tuple(line.channel for line in lines[:2])
    least = sum(low for _, low, _ in curves[:2])
    group = BudgetGroup("g", members, float(least * unit), float((least + most) * unit))
    total = float((sum(low for _, low, _ in curves) + over) * unit)

    best, found = spread(lines, [group], total, step)

    spends = {row.channel: exactly(row.spend) for row in found.whole.lines}
    assert all(spend % unit == 0 for spend in spends.values())
    assert sum(spends.values()) == exactly(found.whole.spent)
    assert sum(spends.values()) + exactly(found.whole.unspent) == exactly(total)
    if not best.whole.unspent:
        assert found.whole.unspent == 0
    for line in lines:
        assert exactly(line.low) <= spends[line.channel] <= exactly(line.high)
    together = sum(spends[name] for name in members)
    assert exactly(group.at_least) <= together <= exactly(group.at_most)
    assert found.groups[0].spend == float(together)
    for before in best.whole.lines:
        assert abs(float(spends[before.channel]) - before.spend) <= step * (1 + 1e-6)
    # The order of lines is of no consequence.
    shuffled = random.sample(lines, len(lines))  # type: ignore[attr-defined]
    assert spread(shuffled, [group], total, step)[1] == found


@pytest.mark.parametrize(
    ("line", "groups", "total", "step", "said"),
    [
        (BudgetLine("a", LogResponse(1, 1), 33.335, 33.335), [], 100.0, 0.01, "channel a"),
        (BudgetLine("a", LogResponse(1, 1)), [], 1e15, 0.01, "from 10 on for this total"),
        (BudgetLine("a", LogResponse(1, 1)), [], 1.0, float("nan"), "above 0"),
        (BudgetLine("a", LogResponse(1, 1)), [BudgetGroup("g", ("a",), 5, 6)], 9.0, 4, "group g"),
    ],
)
def test_limits_that_hold_no_step_are_named(
    line: BudgetLine, groups: list[BudgetGroup], total: float, step: float, said: str
) -> None:
    with pytest.raises(DomainError, match=said):
        spread([line], groups, total, step)
