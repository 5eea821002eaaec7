"""touchstone attribution economics and lifetime: what channels cost and bring."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from touchstone.attribution.v1 import attribution_pb2, economics_pb2, lifetime_pb2, money_pb2
from touchstone.attribution.v1 import economics_service_pb2 as pb

from services.cli.commands.scenario import figure, std_err
from services.cli.credit.definition import name_grouping
from services.cli.credit.options import JourneyOptions, ModelOptions
from services.cli.figures import count
from services.cli.option_groups import option_groups
from services.cli.options import Data, Output, parse_pair, parse_time
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say, warn

REPORTS = "attributionReports"


class Basis(enum.StrEnum):
    """Which costs a channel is charged with."""

    IMPORTED_ELSE_TOUCHES = "imported-else-touches"
    IMPORTED = "imported"
    TOUCHES = "touches"


class Acquiring(enum.StrEnum):
    """Which touch acquires a unit."""

    FIRST = "first"
    LAST = "last"
    LAST_NON_DIRECT = "last-non-direct"


MarginRate = Annotated[
    float, typer.Option(help="Part of value that is left before the cost of the channel.")
]
EarningName = Annotated[
    str, typer.Option(help="The conversion events that earn. [default: --event-name]")
]
ObservedUntil = Annotated[
    str, typer.Option(help="Until when units were observed. [default: the newest event]")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostOptions:
    """How costs are chosen, and in which currency the answer is."""

    basis: Annotated[Basis, typer.Option(help="Imported spend, costs of touches, or either.")] = (
        Basis.IMPORTED_ELSE_TOUCHES
    )
    source: Annotated[
        list[str] | None,
        typer.Option(help="A source of spend that is counted before others. Repeat it."),
    ] = None
    per_campaign: Annotated[
        bool,
        typer.Option(
            "--per-campaign", help="Count one source for each campaign, not each channel."
        ),
    ] = False
    currency: Annotated[
        str,
        typer.Option(help="Currency of the answer. [default: that of what is counted]"),
    ] = ""
    rate: Annotated[
        list[str] | None,
        typer.Option(help="What one unit of another currency is worth: USD=7.1. Repeat it."),
    ] = None

    def rules(self) -> pb.CostRules:
        """How costs are chosen."""
        per_campaign = self.per_campaign
        return pb.CostRules(
            basis=pb.CostBasis.Value(f"COST_BASIS_{self.basis.name}"),
            sources=self.source,
            one_source=pb.ONE_SOURCE_CAMPAIGN_DAY if per_campaign else pb.ONE_SOURCE_CHANNEL_DAY,
        )

    def rates(self) -> list[money_pb2.ExchangeRate]:
        """What other currencies are worth."""
        return exchange_rates(self.rate)


COLUMNS = (
    *columns("model", "channel"),
    *(
        Column(name, lambda cell: f"{cell:,.2f}", right=True)
        for name in (
            "conversions",
            "value",
            "cost",
            "cost_per_conversion",
            "return_on_spend",
            "margin",
        )
    ),
    Column("payback_days", lambda cell: f"{cell:.0f}", right=True),
)
LIFETIME_COLUMNS = (
    *columns("channel"),
    Column("units", count, right=True),
    Column("buyers", count, right=True),
    *(
        Column(name, lambda cell: f"{cell:,.2f}", right=True)
        for name in (
            "realised",
            "predicted",
            "std_err",
            "lifetime_value",
            "cost_per_unit",
            "value_over_cost",
        )
    ),
)


@option_groups
def economics(
    report: Annotated[
        str, typer.Argument(help="Id of a report; without one, --event-name.", show_default=False)
    ] = "",
    *,
    journeys: JourneyOptions,
    models: ModelOptions,
    costs: CostOptions,
    margin_rate: MarginRate = 1,
    payback: Annotated[
        bool, typer.Option("--payback", help="Say when costs were earned back.")
    ] = False,
    earning_event_name: EarningName = "",
    observed_until: ObservedUntil = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Set credit against what was paid: cost per conversion, return, margin and payback.

    Example: touchstone attribution economics --event-name purchase --model linear --payback
    """
    if bool(report) == journeys.named:
        raise typer.BadParameter(
            "name a report, or journeys by --event-name or --definition; allowed: one of the two"
        )
    request = pb.GetChannelEconomicsRequest(
        costs=costs.rules(),
        currency=costs.currency,
        exchange_rates=costs.rates(),
        margin_rate=margin_rate,
    )
    if payback:
        request.payback.CopyFrom(_earning(earning_event_name, observed_until))
    if not report:
        asked = journeys.read()
        models.apply(asked)
        request.journeys.CopyFrom(asked.journeys)
        request.models.extend(asked.models)
    with open_session(data) as session:
        request.parent = session.parent
        if report:
            request.report = session.name(REPORTS, report)
        else:
            name_grouping(session, request.journeys)
        reply = session.economics.GetChannelEconomics(request)
    write(View(reply, COLUMNS, list(rows(reply)), title=reply.currency), output)
    tell_conflicts(reply.conflicts)
    for warning in reply.warnings:
        warn(f"{warning.channel}: {warning.message}" if warning.channel else warning.message)


@option_groups
def lifetime(
    *,
    journeys: JourneyOptions,
    acquiring_touch: Annotated[
        Acquiring, typer.Option(help="Which of its touches does.")
    ] = Acquiring.FIRST,
    earning_event_name: EarningName = "",
    observed_until: ObservedUntil = "",
    horizon_days: Annotated[int, typer.Option(min=1, help="Days to predict.")] = 365,
    annual_discount: Annotated[
        float, typer.Option(help="How much less money of a year later counts: 0.08.")
    ] = 0,
    hold_out_days: Annotated[
        int, typer.Option(min=0, help="Days to try the prediction on. [default: a quarter]")
    ] = 0,
    age_days: Annotated[
        list[int] | None, typer.Option(help="Tell realised value at this age. Repeat it.")
    ] = None,
    costs: CostOptions,
    margin_rate: MarginRate = 1,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what the units that each channel acquired brought, and predict what they will bring.

    Example: touchstone attribution lifetime --event-name registration
    --earning-event-name purchase --until 2026-06-01
    """
    acquisition = journeys.read().journeys
    acquisition.repeat_rule = acquisition.repeat_rule or attribution_pb2.REPEAT_RULE_FIRST
    request = pb.PredictLifetimeValueRequest(
        acquisition=acquisition,
        acquiring_touch=pb.AcquiringTouch.Value(f"ACQUIRING_TOUCH_{acquiring_touch.name}"),
        earning=_earning(earning_event_name, observed_until),
        margin_rate=margin_rate,
        ages_days=age_days,
        horizon_days=horizon_days,
        annual_discount=annual_discount,
        hold_out_days=hold_out_days,
        costs=costs.rules(),
        currency=costs.currency,
        exchange_rates=costs.rates(),
    )
    with open_session(data) as session:
        request.parent = session.parent
        name_grouping(session, request.acquisition)
        reply = session.economics.PredictLifetimeValue(request)
    shown = [lifetime_row(channel) for channel in reply.channels]
    write(View(reply, LIFETIME_COLUMNS, shown, title=reply.currency), output)
    tell_check(reply.hold_out)
    tell_conflicts(reply.conflicts)
    for warning in reply.warnings:
        warn(warning.message)


def rows(reply: pb.GetChannelEconomicsResponse) -> Iterator[tuple[Cell, ...]]:
    """A row for each model and channel."""
    costs = {cost.channel: cost.cost for cost in reply.costs}
    for result in reply.models:
        for one in result.channels:
            yield (
                result.model_name,
                one.channel,
                one.conversions,
                figure(one.value),
                figure(costs[one.channel]) if one.channel in costs else "cost unknown",
                figure(one.cost_per_conversion),
                figure(one.return_on_spend),
                figure(one.margin),
                figure(one.payback.days) if one.HasField("payback") else None,
            )


def lifetime_row(one: lifetime_pb2.ChannelLifetime) -> tuple[Cell, ...]:
    """One channel."""
    return (
        one.channel,
        one.units,
        one.buyers,
        figure(one.realised),
        figure(one.predicted),
        std_err(one.predicted),
        figure(one.lifetime_value),
        figure(one.cost_per_unit),
        figure(one.value_over_cost),
    )


def tell_conflicts(conflicts: Sequence[economics_pb2.CostConflict]) -> None:
    """Says on standard error what was not added to costs."""
    for one in conflicts:
        instead = f"; {one.counted} is counted" if one.counted else ""
        if not one.HasField("left_out"):
            warn(f"{one.channel}: {one.touch_costs:,.2f} that touches cost is left out{instead}")
            continue
        left = one.left_out
        campaign = f" {left.campaign}" if left.campaign else ""
        amount = f"{left.amount:,.2f} {left.currency}"
        warn(f"{one.channel}{campaign} {left.day}: {amount} of {left.source} is left out{instead}")


def tell_check(check: lifetime_pb2.HoldOutCheck) -> None:
    """Says on standard error how the prediction did on the days that were held out."""
    for row in check.rows:
        if row.channel:
            continue
        purchases, value = figure(row.purchases_predicted), figure(row.value_predicted)
        if not isinstance(purchases, float) or not isinstance(value, float):
            continue
        say(
            f"held out the last {check.days} days: {purchases:,.1f} purchases predicted, "
            f"{row.purchases_seen:,.0f} seen; value {value:,.2f} predicted, "
            f"{row.value_seen:,.2f} seen; {row.first_time_buyers} units bought for the first time"
        )


def exchange_rates(texts: list[str] | None) -> list[money_pb2.ExchangeRate]:
    """What other currencies are worth."""
    found = []
    for text in texts or ():
        currency, rate = parse_pair(text, "--rate", "USD=7.1")
        try:
            found.append(money_pb2.ExchangeRate(currency=currency, rate=float(rate)))
        except ValueError as error:
            raise typer.BadParameter(f"--rate is {text!r}; allowed: USD=7.1") from error
    return found


def _earning(event_name: str, observed_until: str) -> pb.EarningDefinition:
    earning = pb.EarningDefinition(event_name=event_name)
    if observed_until:
        earning.observed_until.CopyFrom(parse_time(observed_until, "--observed-until"))
    return earning
