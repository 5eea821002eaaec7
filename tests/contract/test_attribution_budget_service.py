"""Budgets over their contract: a real server and generated clients."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from touchstone.attribution.v1 import budget_pb2 as pb
from touchstone.attribution.v1 import economics_service_pb2 as service_pb
from touchstone.attribution.v1 import economics_service_pb2_grpc as rpc
from touchstone.attribution.v1 import money_pb2

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.security.caller import Role
from shared.server.run import start_server
from shared.testing.ports import free_port
from tests.contract.attribution_world import key_of


@pytest.fixture
async def allocate(tmp_path: Path) -> AsyncIterator[Any]:
    settings = Settings(data=tmp_path, attribution_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    key = key_of(application, "demo", Role.VIEWER)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        stub = rpc.EconomicsServiceStub(channel)

        async def ask(
            *lines: pb.BudgetLine, total: float = 1400, **fields: Any
        ) -> service_pb.AllocateBudgetResponse:
            request = service_pb.AllocateBudgetRequest(lines=lines, total=total, **fields)
            found: service_pb.AllocateBudgetResponse = await stub.AllocateBudget(
                request, metadata=(("authorization", f"Bearer {key}"),)
            )
            return found

        yield ask
    await running.drain()


def root(channel: str, scale: float, **fields: Any) -> pb.BudgetLine:
    """A square root: spends are as the squares of scales."""
    return pb.BudgetLine(
        channel=channel, power=pb.PowerResponse(scale=scale, exponent=0.5), **fields
    )


async def test_money_goes_where_the_next_unit_brings_most(allocate: Any) -> None:
    found = (await allocate(root("a", 3), root("b", 1), root("c", 2))).allocation

    assert [row.spend for row in found.channels] == pytest.approx([900, 100, 400])
    assert {row.bound for row in found.channels} == {pb.BUDGET_BOUND_FREE}
    assert found.marginal.value == pytest.approx(3 / (2 * 30))
    assert found.residual < 1e-9
    (total,) = found.binding
    assert (total.total, total.gain.value) == (True, found.marginal.value)
    # It is what one unit of money more brings.
    more = (await allocate(root("a", 3), root("b", 1), root("c", 2), total=1401)).allocation
    gained = more.response.value - found.response.value
    assert gained == pytest.approx(found.marginal.value, rel=1e-3)


async def test_spends_in_steps_add_up_to_the_total(allocate: Any) -> None:
    lines = (root("a", 1), root("b", 1), root("c", 1))

    cents = (await allocate(*lines, total=100, step=0.01)).allocation
    tens = (await allocate(*lines, total=105, step=10)).allocation
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await allocate(*lines, total=1e15, step=0.01)

    assert [row.spend for row in cents.channels] == [33.34, 33.33, 33.33]
    assert (cents.spent, cents.unspent) == (100, 0)
    assert [row.spend for row in tens.channels] == [40, 30, 30]
    assert (tens.spent, tens.unspent) == (100, 5)
    # What binds is told of the best spread, of which steps are a rounding.
    assert [one.total for one in tens.binding] == [True]
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "step is 0.01; allowed: above 0, and from 10 on" in str(refused.value.details())


async def test_kappa_corrects_and_its_error_is_carried(allocate: Any) -> None:
    kappa = pb.BudgetKappa(value=0.5, std_err=0.1)
    found = (await allocate(root("a", 2, kappa=kappa), root("b", 1), total=200)).allocation

    a, b = found.channels
    assert (a.spend, b.spend) == (pytest.approx(100), pytest.approx(100))
    assert (a.calibrated, b.calibrated) == (True, False)
    assert a.response.value == pytest.approx(10)
    assert a.response.std_err == pytest.approx(0.1 * 2 * 10)
    assert not b.response.HasField("std_err")
    assert found.response.std_err == pytest.approx(2.0)
    nothing = pb.BudgetKappa(value=-0.2, std_err=0.1)
    rest = (await allocate(root("a", 2, kappa=nothing), root("b", 1), total=200)).allocation
    assert [row.spend for row in rest.channels] == pytest.approx([0, 200])


async def test_binding_constraints_say_what_they_cost(allocate: Any) -> None:
    lines = (
        root("a", 3, group="search"),
        root("b", 1, group="search"),
        root("c", 2),
        root("d", 1, locked=16.0),
        root("e", 1, at_least=25.0),
        root("f", 5, at_most=4.0),
    )
    search = pb.BudgetGroup(group="search", at_most=500)
    found = (await allocate(*lines, total=1445, groups=[search])).allocation

    assert [row.spend for row in found.channels][:2] == pytest.approx([450, 50])
    assert sum(row.spend for row in found.channels) == pytest.approx(1445)
    level = found.marginal.value
    gains = {
        (one.WhichOneof("on"), one.channel or one.group, one.bound): one.gain.value
        for one in found.binding
    }
    inside = 3 / (2 * math.sqrt(450))
    assert gains == pytest.approx(
        {
            ("total", "", pb.BUDGET_BOUND_AT_MOST): level,
            ("channel", "d", pb.BUDGET_BOUND_LOCKED): 1 / 8 - level,
            ("channel", "f", pb.BUDGET_BOUND_AT_MOST): 5 / 4 - level,
            ("group", "search", pb.BUDGET_BOUND_AT_MOST): inside - level,
        }
    )
    assert found.groups[0].marginal.value == pytest.approx(inside)


async def test_a_budget_that_cannot_be_kept_names_what_contradicts(allocate: Any) -> None:
    found = await allocate(root("a", 1, at_least=900), root("b", 1, locked=600))
    assert found.WhichOneof("outcome") == "infeasible"
    assert (found.infeasible.available, found.infeasible.required) == (1400, 1500)
    assert "a 900, b 600" in found.infeasible.message
    group = pb.BudgetGroup(group="g", at_most=5)
    found = await allocate(root("a", 1, locked=6, group="g"), groups=[group])
    assert "group g" in found.infeasible.message


async def test_money_that_brings_too_little_is_not_spent(allocate: Any) -> None:
    found = (await allocate(root("a", 3), total=1e6, least_marginal=0.05)).allocation
    assert found.spent == pytest.approx(900)
    assert found.unspent == pytest.approx(1e6 - 900)
    assert not [one for one in found.binding if one.total]
    idle = (await allocate(root("a", 3), root("z", 0), total=0)).allocation
    assert idle.channels[0].marginal.undefined == money_pb2.MONEY_UNDEFINED_UNBOUNDED


async def test_a_history_is_fitted_and_extrapolation_is_said(allocate: Any) -> None:
    spends = (50, 100, 150, 200, 300, 400, 80, 120)
    periods = [
        pb.ResponsePeriod(spend=spend, response=40 * math.log1p(spend / 60)) for spend in spends
    ]
    history = pb.BudgetLine(channel="tv", history=pb.ResponseHistory(periods=periods))

    inside = (await allocate(history, total=250)).allocation.channels[0]
    outside = (await allocate(history, total=900)).allocation.channels[0]

    assert inside.fitted.curve.scale == pytest.approx(40, rel=1e-3)
    assert inside.fitted.curve.half == pytest.approx(60, rel=1e-3)
    assert inside.fitted.r_squared == pytest.approx(1)
    assert (inside.extrapolated, outside.extrapolated) == (False, True)
    assert (inside.fitted.lowest, inside.fitted.highest) == (50, 400)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (pb.BudgetLine(channel="a"), "response"),
        (root("a", 1e-9), "lines[0].power.scale"),
        (root("a", 1, kappa=pb.BudgetKappa(value=1e-9)), "kappa"),
        (root("a", 1, group="nobody"), "lines[0].group"),
        (root("a", 1, at_least=5, at_most=4), "budget.a"),
        (
            pb.BudgetLine(
                channel="a", history=pb.ResponseHistory(periods=[pb.ResponsePeriod(spend=1)])
            ),
            "lines[0].history.periods",
        ),
    ],
)
async def test_what_is_no_line_is_refused(allocate: Any, line: pb.BudgetLine, said: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await allocate(line)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in str(refused.value.details())
