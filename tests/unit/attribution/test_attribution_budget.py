"""Response curves, and budgets that no shift of money could improve."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from services.attribution.domain.budget import (
    Allocation,
    Bound,
    BudgetLine,
    Infeasible,
    allocate,
)
from services.attribution.domain.economics import Undefined
from services.attribution.domain.response import (
    FitConcern,
    LogResponse,
    PowerResponse,
    Response,
    fit_response,
)
from shared.errors import DomainError

CURVES: st.SearchStrategy[Response] = st.one_of(
    st.builds(LogResponse, st.floats(0.1, 1e3), st.floats(1.0, 1e4)),
    st.builds(PowerResponse, st.floats(0.1, 1e3), st.floats(0.1, 0.9)),
)


def best(lines: list[BudgetLine], total: float, least_marginal: float = 0.0) -> Allocation:
    allocation = allocate(lines, total, least_marginal)
    assert isinstance(allocation, Allocation)
    return allocation


def test_two_power_curves_by_hand() -> None:
    # a^2 / 4x = b^2 / 4y: spends in proportion to the squares of 3 and 1.
    lines = [BudgetLine("a", PowerResponse(3, 0.5)), BudgetLine("b", PowerResponse(1, 0.5))]

    found = best(lines, 1000.0)

    assert [line.spend for line in found.lines] == pytest.approx([900, 100], rel=1e-12)
    assert found.response == pytest.approx(3 * 30 + 10)
    assert found.marginal == pytest.approx(3 / 60)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(CURVES, st.floats(0, 50), st.one_of(st.just(math.inf), st.floats(50, 500))),
        min_size=1,
        max_size=6,
    ),
    st.floats(300, 5000),
)
def test_marginal_returns_are_equal_where_nothing_binds(
    rows: list[tuple[Response, float, float]], total: float
) -> None:
    lines = [BudgetLine(f"c{i}", curve, low, high) for i, (curve, low, high) in enumerate(rows)]

    found = best(lines, total)

    assert found.residual < 1e-9
    assert found.spent + found.unspent == pytest.approx(total, rel=1e-12)
    for line, given_ in zip(found.lines, lines, strict=True):
        assert given_.low <= line.spend <= given_.high
        if line.bound is Bound.FREE and not found.unspent:
            assert line.marginal == pytest.approx(found.marginal, rel=1e-9)


def test_no_general_solver_finds_better() -> None:
    curves: list[Response] = [LogResponse(50, 200), LogResponse(80, 900), PowerResponse(4, 0.6)]
    lows, highs = [100.0, 0.0, 0.0], [300.0, 400.0, 2000.0]
    lines = [
        BudgetLine(f"c{i}", curve, low, high)
        for i, (curve, low, high) in enumerate(zip(curves, lows, highs, strict=True))
    ]

    found = best(lines, 1000.0)

    def loss(spends: np.ndarray) -> float:
        return -math.fsum(curve.value(s) for curve, s in zip(curves, spends.tolist(), strict=True))

    solved = optimize.minimize(
        loss,
        [100.0, 100.0, 800.0],
        method="SLSQP",
        bounds=list(zip(lows, highs, strict=True)),
        constraints=optimize.LinearConstraint(np.ones(3), 1000.0, 1000.0),
        options={"ftol": 1e-14, "maxiter": 500},
    )

    assert found.response >= -solved.fun - 1e-9
    assert [line.spend for line in found.lines] == pytest.approx(solved.x.tolist(), abs=0.5)


def test_locked_least_and_most_spends_are_kept() -> None:
    curve = LogResponse(100, 100)
    lines = [
        BudgetLine("free", curve),
        BudgetLine("locked", LogResponse(1, 100), locked=500.0),
        BudgetLine("most", LogResponse(1000, 100), at_most=50.0),
        BudgetLine("weak", LogResponse(0, 100), at_least=20.0),
    ]

    found = best(lines, 1000.0)

    assert [(row.spend, row.bound) for row in found.lines] == [
        (430, Bound.FREE),
        (500, Bound.LOCKED),
        (50, Bound.AT_MOST),
        (20, Bound.AT_LEAST),
    ]


def test_what_may_not_be_spent_is_left() -> None:
    full = best([BudgetLine("a", LogResponse(100, 100), at_most=30.0)], 100.0)
    # The marginal value is 1 at a spend of 400: every further yuan would lose money.
    careful = best([BudgetLine("a", LogResponse(500, 100))], 1000.0, least_marginal=1.0)

    assert (full.spent, full.unspent) == (30, 70)
    assert careful.spent == pytest.approx(400)
    assert careful.unspent == pytest.approx(600)
    assert careful.residual < 1e-12


def test_a_budget_that_cannot_be_kept_is_explained() -> None:
    lines = [
        BudgetLine("ads", LogResponse(1, 1), at_least=700.0),
        BudgetLine("mail", LogResponse(1, 1), locked=400.0),
    ]

    found = allocate(lines, 1000.0)

    assert isinstance(found, Infeasible)
    assert (found.required, found.total) == (1100, 1000)
    assert "ads 700, mail 400" in found.message
    assert "100 above" in found.message


def test_kappa_moves_money_away_from_a_channel_that_was_over_credited() -> None:
    same = LogResponse(100, 100)
    plain = best([BudgetLine("a", same), BudgetLine("b", same)], 1000.0)
    corrected = best([BudgetLine("a", same.times(0.2)), BudgetLine("b", same)], 1000.0)
    harmful = best([BudgetLine("a", same.times(-0.1)), BudgetLine("b", same)], 1000.0)

    assert [row.spend for row in plain.lines] == pytest.approx([500, 500])
    assert [row.spend for row in corrected.lines] == pytest.approx([100, 900])
    assert [row.spend for row in harmful.lines] == [0, 1000]


def test_the_order_of_lines_changes_nothing_and_extrapolation_is_said() -> None:
    lines = [
        BudgetLine("a", LogResponse(30, 70), seen=(0.0, 100.0)),
        BudgetLine("b", PowerResponse(2, 0.4), seen=(0.0, 900.0)),
        BudgetLine("c", LogResponse(10, 90)),
    ]

    found = {best(list(order), 500.0) for order in permutations(lines)}

    assert len(found) == 1
    assert [row.extrapolated for row in found.pop().lines] == [True, False, False]


def test_a_curve_is_found_again_from_spends_that_vary() -> None:
    random = np.random.default_rng(7)
    spends = random.uniform(0, 2000, 60)
    truth = LogResponse(80, 300)
    responses = np.array([truth.value(s) for s in spends])
    exact = fit_response(spends, responses)
    noisy = fit_response(spends, responses + random.normal(0, 4, 60))

    assert not isinstance(exact, Undefined)
    assert not isinstance(noisy, Undefined)
    assert (exact.curve.scale, exact.curve.half) == pytest.approx((80, 300), rel=1e-5)
    assert exact.r_squared == pytest.approx(1)
    assert noisy.std_errs is not None
    assert abs(noisy.curve.scale - 80) < 3 * noisy.std_errs[0]
    assert abs(noisy.curve.half - 300) < 3 * noisy.std_errs[1]
    assert noisy.concerns == ()


def test_what_a_history_cannot_tell_is_said() -> None:
    spends = np.arange(1.0, 11.0)
    straight = fit_response(spends, 3 * spends)
    flat = fit_response(spends, np.full(10, 5.0))

    assert fit_response(spends[:4], spends[:4]) is Undefined.NOT_IDENTIFIED
    assert fit_response(np.full(10, 5.0), spends) is Undefined.NOT_IDENTIFIED
    assert not isinstance(straight, Undefined)
    assert not isinstance(flat, Undefined)
    assert FitConcern.NO_SATURATION in straight.concerns
    assert straight.std_errs is None
    assert FitConcern.AT_ONCE_SATURATED in flat.concerns


@given(st.floats(1, 1e4), CURVES)
def test_marginals_and_their_inverse_agree(spend: float, curve: Response) -> None:
    assert curve.spend_at(curve.marginal(spend)) == pytest.approx(spend, rel=1e-6)
    step = 1e-4 * spend
    slope = (curve.value(spend + step) - curve.value(spend - step)) / (2 * step)
    assert curve.marginal(spend) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogResponse(-1, 1),
        lambda: LogResponse(1, 0),
        lambda: PowerResponse(1, 1),
        lambda: BudgetLine("a", LogResponse(1, 1), at_least=2, at_most=1),
        lambda: BudgetLine("a", LogResponse(1, 1), locked=math.nan),
        lambda: BudgetLine("a", LogResponse(1, 1), at_most=1, locked=2),
        lambda: BudgetLine("a", LogResponse(1, 1), at_least=3, locked=2),
        lambda: allocate([], 1.0),
        lambda: allocate([BudgetLine("a", LogResponse(1, 1))] * 2, 1.0),
        lambda: allocate([BudgetLine("a", LogResponse(1, 1))], -1.0),
    ],
)
def test_what_cannot_be_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(DomainError):
        make()
