"""Money against credit, between messages and the domain."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from touchstone.attribution.v1 import attribution_pb2, report_pb2
from touchstone.attribution.v1 import economics_pb2 as pb
from touchstone.attribution.v1 import economics_service_pb2 as service_pb
from touchstone.attribution.v1.money_pb2 import ExchangeRate

from services.attribution.application.cohorts import Earning
from services.attribution.application.definition import YEAR_1_US, YEAR_10000_US
from services.attribution.application.economics import (
    MIXED,
    SUPPRESSED,
    ChannelMoney,
    Credited,
    CreditedChannel,
    CreditedResult,
    Economics,
    MoneyRules,
    ResultEconomics,
    TouchedChannel,
)
from services.attribution.domain.cohort_payback import CohortPayback
from services.attribution.domain.economics import (
    ChannelCost,
    CostBasis,
    CostConflict,
    CostRules,
    SourceRule,
)
from services.attribution.domain.models import Model
from services.attribution.wire.models import decode_model
from services.attribution.wire.money import encode_figure
from services.attribution.wire.spend import encode_spend
from services.attribution.wire.times import microseconds
from shared.errors import FieldViolation, invalid, invalid_fields
from shared.filters.rules import CONVERSION_FIELDS, filter_faults
from shared.filters.wire import decode_filter

_BASES = {
    service_pb.COST_BASIS_IMPORTED_ELSE_TOUCHES: CostBasis.IMPORTED_ELSE_TOUCHES,
    service_pb.COST_BASIS_IMPORTED: CostBasis.IMPORTED,
    service_pb.COST_BASIS_TOUCHES: CostBasis.TOUCHES,
}


def decode_money(
    request: service_pb.GetChannelEconomicsRequest | service_pb.PredictLifetimeValueRequest,
) -> MoneyRules:
    """How costs are chosen, in which currency, and what of value is margin."""
    rules = decode_money_rules(request.costs, request.currency, request.exchange_rates)
    margin_rate = request.margin_rate if request.HasField("margin_rate") else 1.0
    return replace(rules, margin_rate=margin_rate)


def decode_money_rules(
    costs: service_pb.CostRules, currency: str, rates: Iterable[ExchangeRate]
) -> MoneyRules:
    """How costs are chosen, and in which currency."""
    whole = costs.one_source != service_pb.ONE_SOURCE_CAMPAIGN_DAY
    rules = CostRules(
        _BASES.get(costs.basis, CostBasis.IMPORTED_ELSE_TOUCHES),
        tuple(costs.sources),
        SourceRule.CHANNEL_DAY if whole else SourceRule.CAMPAIGN_DAY,
    )
    return MoneyRules(rules, currency, decode_rates(rates))


def decode_rates(messages: Iterable[ExchangeRate]) -> dict[str, float]:
    """What each currency is worth; INVALID_ARGUMENT for one that is told of twice."""
    rates: dict[str, float] = {}
    for number, rate in enumerate(messages):
        if rates.setdefault(rate.currency, rate.rate) != rate.rate:
            field = f"exchange_rates[{number}].currency"
            raise invalid(field, rate.currency, "each currency once")
    return rates


def decode_earning(field: str, message: service_pb.EarningDefinition) -> Earning:
    """What acquired units earn."""
    condition = None
    if message.HasField("filter"):
        faults: list[FieldViolation] = []
        condition = decode_filter(message.filter, f"{field}.filter", faults)
        faults += filter_faults(condition, f"{field}.filter", CONVERSION_FIELDS)
        if faults:
            raise invalid_fields(faults)
    until = None
    if message.HasField("observed_until"):
        until = microseconds(f"{field}.observed_until", message.observed_until)
        if not YEAR_1_US <= until < YEAR_10000_US:
            raise invalid(f"{field}.observed_until", f"{until / 1e6} s", "years 1 to 9999")
    return Earning(message.event_name, condition, until)


def credited_report(report: report_pb2.AttributionReport) -> Credited:
    """What a report that is kept credits.

    Of a report that was kept before reports said of which currency their amounts are, it is not
    known; that several were mixed its warnings say.
    """
    journeys = report.provenance.journeys
    mixed = attribution_pb2.WARNING_KIND_MIXED_CURRENCIES
    before = MIXED if any(one.kind == mixed for one in report.warnings) else None
    activity = list(report.activity)
    few = report.suppressed_channels
    if few.HasField("activity"):
        activity.append(few.activity)
    return Credited(
        results=tuple(map(_credited_result, report.results)),
        touched=tuple(
            TouchedChannel(
                one.channel or SUPPRESSED, one.cost, one.touches, one.touches_without_cost
            )
            for one in activity
        ),
        start_us=_time_us(journeys, "start_time"),
        end_us=_time_us(journeys, "end_time"),
        currencies=tuple(report.currencies) or before,
        suppresses=few.channels > 0,
    )


def _credited_result(result: attribution_pb2.ModelResult) -> CreditedResult:
    told = list(result.channels)
    if result.HasField("suppressed"):
        told.append(result.suppressed)
    return CreditedResult(
        result.model_name,
        _model(result.model),
        result.additive,
        tuple(
            CreditedChannel(one.channel or SUPPRESSED, one.conversions, one.value) for one in told
        ),
    )


def encode_economics(
    found: Economics, credited: Credited
) -> service_pb.GetChannelEconomicsResponse:
    """The answer without what it is a function of."""
    return service_pb.GetChannelEconomicsResponse(
        currency=found.currency,
        costs=encode_costs(found.costs, credited.touched),
        conflicts=encode_conflicts(found.costs),
        models=[_result(result) for result in found.results],
    )


def _model(message: attribution_pb2.Model) -> Model | None:
    model = decode_model(message)
    return model if isinstance(model, Model) else None


def _time_us(journeys: attribution_pb2.JourneyDefinition, field: str) -> int | None:
    if not journeys.HasField(field):  # type: ignore[arg-type]
        return None
    return microseconds(f"journeys.{field}", getattr(journeys, field))


def encode_costs(
    costs: Sequence[ChannelCost], touched: Sequence[TouchedChannel]
) -> Iterator[pb.ChannelCost]:
    """What channels cost, and where that is known from."""
    without = {one.channel: one.without_cost for one in touched}
    for cost in costs:
        yield pb.ChannelCost(
            channel=cost.channel,
            cost=encode_figure(cost.cost),
            sources=cost.sources,
            from_touches=cost.from_touches,
            touches_without_cost=without.get(cost.channel, 0),
        )


def encode_conflicts(costs: Sequence[ChannelCost]) -> Iterator[pb.CostConflict]:
    """What was not added to costs."""
    return (encode_conflict(one) for cost in costs for one in cost.conflicts)


def encode_conflict(conflict: CostConflict) -> pb.CostConflict:
    """What was not added to a cost."""
    spend = conflict.left_out
    return pb.CostConflict(
        channel=conflict.channel,
        counted=conflict.counted,
        left_out=None if spend is None else encode_spend(spend),
        touch_costs=conflict.amount if spend is None else None,
    )


def _result(found: ResultEconomics) -> pb.ModelEconomics:
    return pb.ModelEconomics(
        model_name=found.result.name,
        additive=found.result.additive,
        channels=[_channel(channel) for channel in found.channels],
    )


def _channel(channel: ChannelMoney) -> pb.ChannelEconomics:
    ratios = channel.economics
    return pb.ChannelEconomics(
        channel=ratios.channel,
        conversions=channel.conversions,
        value=encode_figure(channel.value),
        cost_per_conversion=encode_figure(ratios.cost_per_conversion),
        return_on_spend=encode_figure(ratios.return_on_spend),
        margin=encode_figure(ratios.margin),
        return_on_investment=encode_figure(ratios.return_on_investment),
        payback=None if channel.payback is None else _payback(channel.payback),
    )


def _payback(found: CohortPayback) -> pb.ChannelPayback:
    return pb.ChannelPayback(
        days=encode_figure(found.payback.days),
        recovered=encode_figure(found.payback.recovered),
        observed_days=found.payback.observed_days,
        units=found.units,
        cost_per_unit=encode_figure(found.cost_per_unit),
    )
