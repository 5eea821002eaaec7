"""Budgets between messages and the domain."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from touchstone.attribution.v1 import budget_pb2 as pb
from touchstone.attribution.v1 import calibration_pb2
from touchstone.attribution.v1 import economics_service_pb2 as service_pb

from services.attribution.application.budget import AllocateBudget, Binding, PlannedLine, Spread
from services.attribution.application.budget_evidence import Histories, MeasuredKappas
from services.attribution.application.calibrate_report import ALPHA
from services.attribution.domain.arrays import Floats
from services.attribution.domain.budget import AllocatedLine, Bound, BudgetLine, Infeasible
from services.attribution.domain.budget_groups import AllocatedGroup, BudgetGroup
from services.attribution.domain.economics import Undefined
from services.attribution.domain.lift import Estimate, critical
from services.attribution.domain.response import (
    FitConcern,
    FittedResponse,
    LogResponse,
    PowerResponse,
    Response,
    fit_response,
)
from services.attribution.domain.spend_history import SpendHistory
from services.attribution.wire.calibration_results import encode_kappa, encode_range
from services.attribution.wire.money import encode_figure
from shared.errors import invalid

A = TypeVar("A")

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


@dataclass(frozen=True, slots=True)
class Evidence:
    """What lines are measured by, as far as they ask for it."""

    histories: Histories | None = None
    kappas: MeasuredKappas | None = None


def decode_budget(
    request: service_pb.AllocateBudgetRequest, evidence: Evidence | None = None
) -> AllocateBudget:
    """What to spread; INVALID_ARGUMENT for histories that tell nothing and unknown groups."""
    found = evidence or Evidence()
    lines = tuple(_line(number, line, found) for number, line in enumerate(request.lines))
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
    return AllocateBudget(lines, groups, request.total, request.least_marginal, request.step)


def encode_budget(
    found: Spread | Infeasible, alpha: float = ALPHA
) -> service_pb.AllocateBudgetResponse:
    """The spread, or why there is none; `alpha` is that of intervals."""
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
            gain=_gain(found.gain, alpha),
        )
    )


def _gain(found: Estimate | None, alpha: float) -> calibration_pb2.MoneyRange:
    if found is None:
        return encode_range(*(Undefined.NOT_GIVEN,) * 3)
    reach = critical(alpha) * found.std_err
    gain = encode_range(found.value, found.value - reach, found.value + reach)
    gain.value.std_err = found.std_err
    return gain


def _line(number: int, message: pb.BudgetLine, evidence: Evidence) -> PlannedLine:
    field = f"lines[{number}]"
    history = None
    if message.WhichOneof("response") == "measured":
        histories = _needed(f"{field}.measured", evidence.histories)
        history = histories.of(f"{field}.measured", message.channel)
        curve, fitted = _of_days(f"{field}.measured", history)
    else:
        curve, fitted = _curve(field, message)
    kappa, believed = None, None
    if message.HasField("kappa"):
        kappa = Estimate(message.kappa.value, message.kappa.std_err)
        if 0 < kappa.value < LEAST:
            raise invalid(f"{field}.kappa.value", kappa.value, f"0 or less, or from {LEAST} on")
    elif message.calibrate:
        kappas = _needed(f"{field}.calibrate", evidence.kappas)
        believed = kappas.of(f"{field}.calibrate", message.channel)
        mean = believed.kappa.mean
        kappa = Estimate(0.0 if 0 < mean < LEAST else mean, believed.kappa.std_dev)
    line = BudgetLine(
        channel=message.channel,
        response=curve,
        at_least=message.at_least,
        at_most=message.at_most if message.HasField("at_most") else math.inf,
        locked=message.locked if message.HasField("locked") else None,
        seen=None if fitted is None else (fitted.lowest, fitted.highest),
    )
    present = fitted.mean if fitted is not None else line.locked
    if message.HasField("present"):
        present = message.present
    return PlannedLine(line, kappa, fitted, present, history, believed)


def _needed(field: str, found: A | None) -> A:
    if found is None:
        raise invalid(field, "no evidence", "evidence, with the report to measure by")
    return found


def _curve(field: str, message: pb.BudgetLine) -> tuple[Response, FittedResponse | None]:
    kind = message.WhichOneof("response")
    if kind == "history":
        periods = message.history.periods
        spends = np.array([period.spend for period in periods], dtype=np.float64)
        responses = np.array([period.response for period in periods], dtype=np.float64)
        fitted = _fitted(f"{field}.history", spends, responses)
        return fitted.curve, fitted
    scale = message.power.scale if kind == "power" else message.log.scale
    if 0 < scale < LEAST:
        raise invalid(f"{field}.{kind}.scale", scale, f"0, or from {LEAST} on")
    if kind == "power":
        return PowerResponse(scale, message.power.exponent), None
    return LogResponse(scale, message.log.half), None


def _of_days(field: str, history: SpendHistory) -> tuple[Response, FittedResponse | None]:
    """The curve of measured days; nothing is credited is a curve, too: that of no response."""
    if not (history.responses > 0).any():
        return LogResponse(0.0, max(float(history.spends.mean()), LEAST)), None
    fitted = _fitted(field, history.spends, history.responses)
    return fitted.curve, fitted


def _fitted(field: str, spends: Floats, responses: Floats) -> FittedResponse:
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
        present=planned.present,
        measured=None if planned.history is None else _days(planned.history),
        kappa=None if planned.believed is None else encode_kappa(planned.believed),
    )


def _days(history: SpendHistory) -> pb.MeasuredDays:
    return pb.MeasuredDays(
        days=len(history.days),
        first_day=history.days[0].isoformat(),
        last_day=history.days[-1].isoformat(),
        spend=math.fsum(history.spends.tolist()),
        response=math.fsum(history.responses.tolist()),
        sources=history.sources,
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
