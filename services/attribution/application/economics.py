"""Set credit against money: by channel and model."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.attribution.application.cohorts import CohortOfUnits
from services.attribution.application.get_attribution import Attribution, attribution_of
from services.attribution.application.questions import Question, cut_journeys
from services.attribution.application.spend import read_spend
from services.attribution.application.stream_credits import touch_weights
from services.attribution.domain.amounts import sum_of_amounts
from services.attribution.domain.cohort_payback import CohortPayback, cohort_payback
from services.attribution.domain.economics import (
    BY_DEFAULT,
    ChannelCost,
    ChannelEconomics,
    CostConflict,
    CostRules,
    ExchangeRates,
    Figure,
    Spend,
    Undefined,
    channel_costs,
    channel_economics,
)
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lifetime import Earnings
from services.attribution.domain.models import Model
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from services.attribution.spend_ports import Ledger, SpendSelection

_DAY_OF_1970 = dt.date(1970, 1, 1).toordinal()
MIXED = ("several", "currencies")
"""The currencies of amounts that were mixed before it was known of which they are."""

SUPPRESSED = "(too few units)"
"""The channels that a report does not tell of alone, with spend that it says nothing of."""

TOTALS_ALONE = ("markov_removal_share", "participation", "probabilistic", "shapley_learned")
"""Results that say nothing of single conversions."""


@dataclass(frozen=True, slots=True)
class MoneyRules:
    """How costs are chosen, in which currency the answer is, and what of value is margin.

    An empty `currency` is the one of the events, otherwise the one of all spend.
    """

    costs: CostRules = BY_DEFAULT
    currency: str = ""
    rates: Mapping[str, float] | None = None
    margin_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class CreditedChannel:
    """What a model credits to a channel."""

    channel: str
    conversions: float
    value: float


@dataclass(frozen=True, slots=True)
class CreditedResult:
    """One result of a report or an attribution."""

    name: str
    model: Model | None
    additive: bool
    channels: tuple[CreditedChannel, ...]


@dataclass(frozen=True, slots=True)
class TouchedChannel:
    """What the touches of a channel cost, as far as that is known."""

    channel: str
    cost: float
    touches: int
    without_cost: int

    def figure(self) -> Figure:
        """The cost; unknown where no touch has one."""
        return Undefined.COST_UNKNOWN if self.touches <= self.without_cost else self.cost


@dataclass(frozen=True, slots=True)
class Credited:
    """What is set against money: results, touches, the time range, and the currencies of both.

    `currencies` is None where it is not known, and holds several where amounts were mixed.
    `suppresses` says that channels of too few units are told of together, as SUPPRESSED.
    """

    results: tuple[CreditedResult, ...]
    touched: tuple[TouchedChannel, ...]
    start_us: int | None
    end_us: int | None
    currencies: tuple[str, ...] | None
    suppresses: bool = False


@dataclass(frozen=True, slots=True)
class ChannelMoney:
    """One channel by one result; `value` is in the currency of the answer."""

    conversions: float
    value: Figure
    economics: ChannelEconomics
    payback: CohortPayback | None


@dataclass(frozen=True, slots=True)
class ResultEconomics:
    """One result against money, its channels by name."""

    result: CreditedResult
    channels: tuple[ChannelMoney, ...]


@dataclass(frozen=True, slots=True)
class Economics:
    """The answer."""

    currency: str
    costs: tuple[ChannelCost, ...]
    results: tuple[ResultEconomics, ...]


def credited_of(
    attribution: Attribution, question: Question, currencies: Sequence[str]
) -> Credited:
    """What an attribution credits."""
    by_channel = attribution.statistics.by_channel
    touched = zip(
        attribution.statistics.channels,
        by_channel.costs.tolist(),
        by_channel.touches.tolist(),
        by_channel.without_cost.tolist(),
        strict=True,
    )
    return Credited(
        results=tuple(
            CreditedResult(
                table.output.value,
                table.model,
                table.additive,
                tuple(CreditedChannel(c.channel, c.conversions, c.value) for c in table.channels),
            )
            for table in attribution.tables
        ),
        touched=tuple(TouchedChannel(*row) for row in touched),
        start_us=question.definition.start_us,
        end_us=question.definition.end_us,
        currencies=tuple(currencies),
    )


def attributed_now(
    question: Question, log: JourneyLog, limits: AttributionLimits
) -> tuple[Attribution, Credited]:
    """Attribute, and what of it is set against money."""
    cut = cut_journeys(question, log, limits, identified=False)
    attribution = attribution_of(cut, question.models)
    return attribution, credited_of(attribution, question, cut.events.currencies)


def spend_of(project: str, credited: Credited, ledger: Ledger) -> Sequence[Spend]:
    """The spend of the days whose noon in UTC is in the time range.

    So a range between two midnights of any zone from UTC-12 to UTC+11 takes whole days.
    """
    first = None if credited.start_us is None else _first_day(credited.start_us)
    last = None if credited.end_us is None else _first_day(credited.end_us) - 1
    selection = SpendSelection(project, first_day=_day(first), last_day=_day(last))
    with ledger.read() as store:
        return read_spend(selection, store)


def _first_day(time_us: int) -> int:
    """The number of the first day whose noon is not before the time; day 1 is 0001-01-01."""
    return _DAY_OF_1970 - (DAY_US // 2 - time_us) // DAY_US


def _day(number: int | None) -> dt.date | None:
    if number is None:
        return None
    return dt.date.fromordinal(min(max(number, 1), dt.date.max.toordinal()))


def economics_of(
    credited: Credited, rules: MoneyRules, spend: Sequence[Spend], cohort: CohortOfUnits | None
) -> Economics:
    """Set every result against the costs; with `cohort`, say when they were earned back."""
    money, factor, costs = costs_of(credited, rules, spend)
    by_channel = {one.channel: one.cost for one in costs}
    earned = None if cohort is None else _Earned(cohort, money, rules.margin_rate, by_channel)
    return Economics(
        currency=money.currency,
        costs=costs,
        results=tuple(
            ResultEconomics(
                result,
                _channels(result, by_channel, factor, rules.margin_rate, earned),
            )
            for result in credited.results
        ),
    )


def costs_of(
    credited: Credited, rules: MoneyRules, spend: Sequence[Spend]
) -> tuple[ExchangeRates, Figure, tuple[ChannelCost, ...]]:
    """The currency of the answer, what one of the amounts of events is worth in it, and costs."""
    money = ExchangeRates(_currency(rules, credited, spend), rules.rates or {})
    factor = worth_of(credited.currencies, money)
    touch_costs = {one.channel: _times(one.figure(), factor) for one in credited.touched}
    costs = channel_costs(spend, touch_costs, money, rules.costs)
    if credited.suppresses:
        costs = _suppressed(costs, {one.channel for one in credited.touched})
    return money, factor, costs


def _suppressed(costs: Sequence[ChannelCost], told: set[str]) -> tuple[ChannelCost, ...]:
    """The costs with those of channels that the report does not tell of added up.

    Whether such a channel was met by few units or by none is not said. What touches of the former
    cost is left out where any of them has spend.
    """
    own = [cost for cost in costs if cost.channel in told and cost.channel != SUPPRESSED]
    paid = [cost for cost in costs if cost.channel not in told]
    touched = [cost for cost in costs if cost.channel == SUPPRESSED]
    if not paid:
        return (*own, *touched)
    amounts = [cost.cost for cost in paid]
    unknown = next((amount for amount in amounts if isinstance(amount, Undefined)), None)
    known = [amount for amount in amounts if not isinstance(amount, Undefined)]
    sources = tuple(sorted({source for cost in paid for source in cost.sources}))
    conflicts = [conflict for cost in paid for conflict in cost.conflicts]
    conflicts += [
        CostConflict(SUPPRESSED, ", ".join(sources), cost.cost, None)
        for cost in touched
        if not isinstance(cost.cost, Undefined) and cost.cost
    ]
    whole = sum_of_amounts(known) if unknown is None else unknown
    return (*own, ChannelCost(SUPPRESSED, whole, sources, False, tuple(conflicts)))


def _currency(rules: MoneyRules, credited: Credited, spend: Sequence[Spend]) -> str:
    if rules.currency:
        return rules.currency
    for found in (credited.currencies or (), tuple({row.currency for row in spend})):
        if len(found) == 1:
            return found[0]
    return ""


def worth_of(currencies: Sequence[str] | None, money: ExchangeRates) -> Figure:
    """What one of the amounts of events is worth. Those without a currency are of the answer's."""
    if not currencies:
        return 1.0
    rate = money.convert(1.0, currencies[0]) if len(currencies) == 1 else None
    return Undefined.MIXED_CURRENCIES if rate is None else rate


def _times(figure: Figure, factor: Figure) -> Figure:
    if isinstance(figure, Undefined):
        return figure
    return factor if isinstance(factor, Undefined) else figure * factor


class _Earned:
    """What the units of a cohort earned, in the currency of the answer."""

    def __init__(
        self,
        cohort: CohortOfUnits,
        money: ExchangeRates,
        margin_rate: float,
        costs: Mapping[str, Figure],
    ) -> None:
        factor = worth_of(cohort.currencies, money)
        known = not isinstance(factor, Undefined)
        scale = 0.0 if isinstance(factor, Undefined) else margin_rate * factor
        rows = cohort.earnings
        self._cohort = cohort
        self._earnings = Earnings(rows.units, rows.times, rows.amounts * scale)
        mixed = Undefined.MIXED_CURRENCIES
        self._costs = costs if known else dict.fromkeys(costs, mixed)

    def of(self, result: CreditedResult) -> dict[str, CohortPayback]:
        """Payback by channel; none of a result that does not divide each conversion."""
        if result.model is None or result.name in TOTALS_ALONE:
            return {}
        weights = touch_weights(result.model, self._cohort.cut)
        found = cohort_payback(
            self._cohort.units,
            weights,
            self._earnings,
            self._costs,
            self._cohort.observed_until_us,
        )
        return {one.channel: one for one in found}


def _channels(
    result: CreditedResult,
    costs: Mapping[str, Figure],
    factor: Figure,
    margin_rate: float,
    earned: _Earned | None,
) -> tuple[ChannelMoney, ...]:
    credited = {one.channel: one for one in result.channels}
    paybacks = {} if earned is None else earned.of(result)
    found = []
    for channel in sorted({*costs, *credited}):
        if channel == SUPPRESSED and channel not in credited:
            continue  # nothing is said of what they are credited
        one = credited.get(channel, CreditedChannel(channel, 0.0, 0.0))
        value = _times(one.value, factor)
        cost = costs.get(channel, Undefined.COST_UNKNOWN)
        ratios = channel_economics(channel, one.conversions, value, cost, margin_rate)
        payback = None if channel == SUPPRESSED else paybacks.get(channel)
        found.append(ChannelMoney(one.conversions, value, ratios, payback))
    return tuple(found)
