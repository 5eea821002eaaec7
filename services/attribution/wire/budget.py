"""Budgets between messages and the domain."""

import math

import numpy as np
from touchstone.attribution.v1 import budget_pb2 as pb
from touchstone.attribution.v1 import economics_service_pb2 as service_pb

from services.attribution.application.budget import AllocateBudget, Binding, PlannedLine, Spread
from services.attribution.domain.budget import AllocatedLine, Bound, BudgetLine, Infeasible
from services.attribution.domain.budget_groups import AllocatedGroup, BudgetGroup
from services.attribution.domain.economics import Undefined
from services.attribution.domain.lift import Estimate
from services.attribution.domain.response import (
    FitConcern,
    FittedResponse,
    LogResponse,
    PowerResponse,
    Response,
    fit_response,
)
from services.attribution.wire.money import encode_figure
from shared.errors import invalid

LEAST = 1e-6
"""A scale or a kappa below it is as good as none, and hard to compute with."""

_BOUNDS = {
    Bound.FREE: pb.BUDGET_BOUND_FREE,
    Bound.AT_LEAST: pb.BUDGET_BOUND_AT_LEAST,
    Bound.AT_MOST: pb.BUDGET_BOUND_AT_MOST,
    Bound.LOCKED: pb.BUDGET_BOUND_LOCKED,
}
_CONCERNS = {
    FitConcern.NO_SATURATION: pb.CURVE_CONCERN_NO_SATURATION,
    FitConcern.AT_ONCE_SATURATED: pb.CURVE_CONCERN_AT_ONCE_SATURATED,
    FitConcern.POOR_FIT: pb.CURVE_CONCERN_POOR_FIT,
}


def decode_budget(request: service_pb.AllocateBudgetRequest) -> AllocateBudget:
    """What to spread; INVALID_ARGUMENT for histories that tell nothing and unknown groups."""
    lines = tuple(_line(number, line) for number, line in enumerate(request.lines))
    members: dict[str, list[str]] = {group.group: [] for group in request.groups}
    for number, line in enumerate(request.lines):
        if not line.group:
            continue
        if line.group not in members:
            # A group without limits changes nothing, and a misspelt one would be none.
            raise invalid(f"lines[{number}].group", line.group, "the name of one of the groups")
        members[line.group].append(line.channel)
    if len(members) < len(request.groups):
        names = [group.group for group in request.groups]
        raise invalid("groups", names, "each name once")
    groups = tuple(
        BudgetGroup(
            group.group,
            tuple(members[group.group]),
            group.at_least,
            group.at_most if group.HasField("at_most") else math.inf,
        )
        for group in request.groups
    )
    return AllocateBudget(lines, groups, request.total, request.least_marginal)


def encode_budget(found: Spread | Infeasible) -> service_pb.AllocateBudgetResponse:
    """The spread, or why there is none."""
    if isinstance(found, Infeasible):
        return service_pb.AllocateBudgetResponse(
            infeasible=pb.InfeasibleBudget(
                available=found.total, required=found.required, message=found.message
            )
        )
    whole = found.found.whole
    return service_pb.AllocateBudgetResponse(
        allocation=pb.BudgetAllocation(
            channels=[_channel(planned, row) for planned, row in found.lines],
            groups=[_group(group) for group in found.found.groups],
            marginal=encode_figure(_known(whole.marginal)),
            spent=whole.spent,
            unspent=whole.unspent,
            response=encode_figure(whole.response, found.std_err),
            residual=whole.residual,
            binding=[_binding(one) for one in found.binding],
        )
    )


def _line(number: int, message: pb.BudgetLine) -> PlannedLine:
    field = f"lines[{number}]"
    curve, fitted = _curve(field, message)
    kappa = None
    if message.HasField("kappa"):
        kappa = Estimate(message.kappa.value, message.kappa.std_err)
        if 0 < kappa.value < LEAST:
            raise invalid(f"{field}.kappa.value", kappa.value, f"0 or less, or from {LEAST} on")
    line = BudgetLine(
        channel=message.channel,
        response=curve,
        at_least=message.at_least,
        at_most=message.at_most if message.HasField("at_most") else math.inf,
        locked=message.locked if message.HasField("locked") else None,
        seen=None if fitted is None else (fitted.lowest, fitted.highest),
    )
    return PlannedLine(line, kappa, fitted)


def _curve(field: str, message: pb.BudgetLine) -> tuple[Response, FittedResponse | None]:
    kind = message.WhichOneof("response")
    if kind == "history":
        fitted = _fitted(f"{field}.history", message.history)
        return fitted.curve, fitted
    scale = message.power.scale if kind == "power" else message.log.scale
    if 0 < scale < LEAST:
        raise invalid(f"{field}.{kind}.scale", scale, f"0, or from {LEAST} on")
    if kind == "power":
        return PowerResponse(scale, message.power.exponent), None
    return LogResponse(scale, message.log.half), None


def _fitted(field: str, history: pb.ResponseHistory) -> FittedResponse:
    spends = np.array([period.spend for period in history.periods], dtype=np.float64)
    responses = np.array([period.response for period in history.periods], dtype=np.float64)
    fitted = fit_response(spends, responses)
    if isinstance(fitted, Undefined) or not fitted.curve.scale >= LEAST:
        raise invalid(
            f"{field}.periods",
            f"{len(spends)} periods",
            "five or more, with two sizes of spend above 0 and a response that grows with it; "
            "otherwise give a curve",
        )
    return fitted


def _channel(planned: PlannedLine, row: AllocatedLine) -> pb.AllocatedChannel:
    caused = planned.response_at(row.spend)
    return pb.AllocatedChannel(
        channel=row.channel,
        spend=row.spend,
        response=encode_figure(row.response, None if caused is None else caused.std_err),
        marginal=encode_figure(row.marginal),
        bound=_BOUNDS[row.bound],
        extrapolated=row.extrapolated,
        calibrated=planned.kappa is not None,
        fitted=None if planned.fitted is None else _fit(planned.fitted),
    )


def _fit(fitted: FittedResponse) -> pb.FittedCurve:
    return pb.FittedCurve(
        curve=pb.LogResponse(scale=fitted.curve.scale, half=fitted.curve.half),
        r_squared=fitted.r_squared,
        periods=fitted.periods,
        lowest=fitted.lowest,
        highest=fitted.highest,
        concerns=[_CONCERNS[concern] for concern in fitted.concerns],
    )


def _group(group: AllocatedGroup) -> pb.AllocatedGroup:
    return pb.AllocatedGroup(
        group=group.name,
        spend=group.spend,
        response=group.response,
        marginal=encode_figure(_known(group.marginal)),
        bound=_BOUNDS[group.bound],
    )


def _binding(found: Binding) -> pb.BindingConstraint:
    message = pb.BindingConstraint(
        bound=_BOUNDS[found.bound], gain=encode_figure(_known(found.gain))
    )
    if found.channel:
        message.channel = found.channel
    elif found.group:
        message.group = found.group
    else:
        message.total = True
    return message


def _known(marginal: float | None) -> float | Undefined:
    """Where nothing is free to move there is no common return."""
    return Undefined.NOT_GIVEN if marginal is None else marginal
