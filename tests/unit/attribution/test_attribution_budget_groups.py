"""Budgets with limits on groups of channels."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from services.attribution.domain.arrays import Floats
from services.attribution.domain.budget import Allocation, Bound, BudgetLine, Infeasible, allocate
from services.attribution.domain.budget_groups import (
    BudgetGroup,
    GroupedAllocation,
    allocate_groups,
)
from services.attribution.domain.response import LogResponse, PowerResponse, Response
from shared.errors import DomainError

A, B, C = (
    BudgetLine(name, PowerResponse(scale, 0.5))
    for name, scale in zip("abc", (3, 1, 2), strict=True)
)
CURVES: st.SearchStrategy[Response] = st.one_of(
    st.builds(LogResponse, st.floats(0.1, 1e3), st.floats(1.0, 1e4)),
    st.builds(PowerResponse, st.floats(0.1, 1e3), st.floats(0.1, 0.9)),
)


def spread(lines: list[BudgetLine], groups: list[BudgetGroup], total: float) -> GroupedAllocation:
    found = allocate_groups(lines, groups, total)
    assert isinstance(found, GroupedAllocation)
    return found


def test_a_limit_on_a_group_by_hand() -> None:
    # Without limits spends are as 9 : 1 : 4. With at most 500 for a and b, these take it 9 : 1.
    found = spread([A, B, C], [BudgetGroup("search", ("a", "b"), at_most=500)], 1400)

    assert [line.spend for line in found.whole.lines] == pytest.approx([450, 50, 900])
    (group,) = found.groups
    assert group.spend == pytest.approx(500)
    assert group.bound is Bound.AT_MOST
    assert group.marginal == pytest.approx(3 / (2 * math.sqrt(450)))
    assert found.whole.marginal == pytest.approx(2 / (2 * math.sqrt(900)))
    assert found.whole.residual < 1e-9

    least = spread([A, B, C], [BudgetGroup("search", ("b", "c"), at_least=1000)], 1400)
    assert [line.spend for line in least.whole.lines] == pytest.approx([400, 200, 800])
    assert least.groups[0].bound is Bound.AT_LEAST


@settings(max_examples=60, deadline=None)
@given(st.lists(CURVES, min_size=1, max_size=5), st.floats(1, 5000))
def test_groups_without_limits_change_nothing(curves: list[Response], total: float) -> None:
    lines = [BudgetLine(f"c{n}", curve) for n, curve in enumerate(curves)]
    plain = allocate(lines, total)
    assert isinstance(plain, Allocation)

    found = spread(lines, [BudgetGroup("all", tuple(line.channel for line in lines))], total)

    assert [line.spend for line in found.whole.lines] == pytest.approx(
        [line.spend for line in plain.lines], rel=1e-6, abs=1e-6
    )
    assert found.groups[0].bound is Bound.FREE
    assert found.whole.spent == pytest.approx(total)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(CURVES, min_size=4, max_size=6),
    st.floats(0, 400),
    st.floats(400, 900),
    st.floats(0, 300),
)
def test_limits_hold_and_conditions_of_the_optimum_too(
    curves: list[Response], least: float, most: float, of_other: float
) -> None:
    lines = [BudgetLine(f"c{n}", curve) for n, curve in enumerate(curves)]
    groups = [
        BudgetGroup("one", ("c0", "c1"), least, most),
        BudgetGroup("other", ("c2", "c3"), at_most=of_other),
    ]

    found = spread(lines, groups, 1000.0)

    one, other = found.groups
    assert least - 1e-6 <= one.spend <= most + 1e-6
    assert other.spend <= of_other + 1e-6
    assert found.whole.residual < 1e-5
    level = found.whole.marginal
    for group in found.groups:
        if level is not None and group.marginal is not None and group.bound is not Bound.FREE:
            higher = group.marginal >= level * (1 - 1e-6)
            assert higher if group.bound is Bound.AT_MOST else group.marginal <= level * (1 + 1e-6)


def test_no_general_solver_finds_better() -> None:
    draw = np.random.default_rng(5)
    lines = [
        BudgetLine(f"c{n}", LogResponse(float(draw.uniform(50, 200)), float(draw.uniform(20, 300))))
        for n in range(5)
    ]
    groups = [BudgetGroup("one", ("c0", "c1"), at_most=150), BudgetGroup("two", ("c2",), 400)]
    found = spread(lines, groups, 1000.0)

    def loss(spends: Floats) -> float:
        return -sum(
            line.response.value(max(float(spend), 0.0))
            for line, spend in zip(lines, spends, strict=True)
        )

    limits: list[Any] = [
        {"type": "eq", "fun": lambda x: x.sum() - 1000},
        {"type": "ineq", "fun": lambda x: 150 - x[0] - x[1]},
        {"type": "ineq", "fun": lambda x: x[2] - 400},
    ]
    other = optimize.minimize(
        loss,
        np.array([75, 75, 400, 225, 225.0]),
        method="SLSQP",
        bounds=[(0, 1000)] * 5,
        constraints=limits,
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.whole.response >= -float(other.fun) - 1e-6
    assert [line.spend for line in found.whole.lines] == pytest.approx(other.x.tolist(), abs=0.5)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(CURVES, min_size=2, max_size=5),
    st.floats(1, 5000),
    st.floats(0, 5000),
    st.floats(0, 500),
    st.floats(0, 500),
    st.randoms(use_true_random=False),
)
def test_more_money_takes_nothing_away_and_brings_no_less(
    curves: list[Response], total: float, more: float, least: float, most: float, order: Any
) -> None:
    """Every spend grows with the total, and so does what it all brings: ever more slowly."""
    lines = [BudgetLine(f"c{n}", curve) for n, curve in enumerate(curves)]
    groups = [BudgetGroup("g", ("c0", "c1"), min(least, total), min(least, total) + most)]

    before = spread(lines, groups, total).whole
    after = spread(order.sample(lines, len(lines)), groups, total + more).whole
    later = spread(lines, groups, total + 2 * more).whole

    slack = 1e-6 * (total + 2 * more)
    for one, other in zip(before.lines, after.lines, strict=True):
        assert one.channel == other.channel
        assert one.spend <= other.spend + slack
    spends = [line.spend for line in after.lines]
    assert math.fsum([*spends, after.unspent]) == pytest.approx(total + more, rel=1e-9)
    small = 1e-6 * max(later.response, 1.0)
    assert before.response <= after.response + small
    assert later.response - after.response <= after.response - before.response + small


def test_nothing_to_spend_is_spent_nowhere() -> None:
    found = spread([A, B, C], [BudgetGroup("search", ("a", "b"), at_most=0)], 0.0)
    assert [line.spend for line in found.whole.lines] == [0, 0, 0]
    some = spread([A, B, C], [BudgetGroup("search", ("a", "b"), at_most=0)], 10.0)
    assert [line.spend for line in some.whole.lines] == pytest.approx([0, 0, 10])


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([BudgetGroup("g", ("a", "b"), at_least=900)], "largest groups are g 900"),
        ([BudgetGroup("g", ("a", "d"), at_most=50)], "group g sum to 100, above the 50"),
        ([BudgetGroup("g", ("e",), at_least=100)], "no more than 10"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_explained(groups: list[BudgetGroup], said: str) -> None:
    lines = [
        A,
        B,
        BudgetLine("d", LogResponse(1, 1), locked=100.0),
        BudgetLine("e", LogResponse(1, 1), at_most=10.0),
    ]
    found = allocate_groups(lines, groups, 950.0)
    assert isinstance(found, Infeasible)
    assert said in found.message


@pytest.mark.parametrize(
    "groups",
    [
        [BudgetGroup("g", ("a",)), BudgetGroup("h", ("a",))],
        [BudgetGroup("g", ("nobody",))],
        [BudgetGroup("g", ("a",)), BudgetGroup("g", ("b",))],
    ],
)
def test_what_is_no_group_is_refused(groups: list[BudgetGroup]) -> None:
    with pytest.raises(DomainError):
        allocate_groups([A, B], groups, 10.0)
    with pytest.raises(DomainError):
        BudgetGroup("g", ("a",), 5.0, 4.0)
