"""What channels cost and bring: spend counted once, and ratios that say why they are undefined."""

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from services.attribution.domain.amounts import sum_of_amounts, times
from shared.errors import invalid


class Undefined(Enum):
    """Why a figure has no value. It is never shown as 0 or as infinity."""

    COST_UNKNOWN = "cost_unknown"
    ZERO_COST = "zero_cost"
    MIXED_CURRENCIES = "mixed_currencies"
    NO_CONVERSIONS = "no_conversions"
    NOTHING_INCREMENTAL = "nothing_incremental"
    NOT_PAID_BACK = "not_paid_back"
    NOT_OBSERVED = "not_observed"
    NOT_IDENTIFIED = "not_identified"
    NOT_GIVEN = "not_given"
    ZERO_DENOMINATOR = "zero_denominator"


Figure = float | Undefined
"""A number, or the reason that there is none."""


class CostBasis(Enum):
    """Which costs a channel is charged with; never imported spend and touch costs together.

    IMPORTED_ELSE_TOUCHES: the imported spend of a channel that has any in the report, otherwise
    what its touches cost. The others take one kind alone.
    """

    IMPORTED_ELSE_TOUCHES = "imported_else_touches"
    IMPORTED = "imported"
    TOUCHES = "touches"


@dataclass(frozen=True, slots=True)
class SpendKey:
    """What a spend row is about; an import with the same key replaces it.

    An empty campaign is spend of the channel that belongs to no campaign, not its total.
    """

    source: str
    channel: str
    campaign: str
    day: dt.date

    def sort_key(self) -> tuple[str, str, dt.date, str]:
        """Channel, campaign, day, source: the order in which spend is listed."""
        return (self.channel, self.campaign, self.day, self.source)


@dataclass(frozen=True, slots=True)
class Spend:
    """What was paid for one channel and campaign on one day, as one source reports it."""

    key: SpendKey
    amount: float
    currency: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise invalid("spend.amount", self.amount, "a finite amount of at least 0")
        if not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isupper()):
            raise invalid("spend.currency", self.currency, "three capital letters, such as CNY")
        if not (self.key.channel and self.key.source):
            raise invalid("spend", self.key, "a channel and a source")


def replace_spend(existing: Iterable[Spend], imported: Iterable[Spend]) -> tuple[Spend, ...]:
    """Return the ledger after an import: the same key replaces, so nothing is counted twice.

    One import that holds two different rows for one key is refused, because which of them is
    right would depend on their order. Importing the same rows again changes nothing.
    """
    rows = {spend.key: spend for spend in existing}
    fresh: dict[SpendKey, Spend] = {}
    for spend in imported:
        if fresh.setdefault(spend.key, spend) != spend:
            raise invalid(
                "spend",
                f"two rows of {spend.key.source} for {spend.key.channel}, "
                f"{spend.key.campaign or 'no campaign'}, {spend.key.day}",
                "one row for each source, channel, campaign and day; add up what is finer",
            )
    rows.update(fresh)
    return tuple(sorted(rows.values(), key=lambda spend: spend.key.sort_key()))


@dataclass(frozen=True, slots=True)
class ExchangeRates:
    """What one unit of each other currency is worth in `currency`; given, never looked up."""

    currency: str
    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            if not (math.isfinite(rate) and rate > 0):
                raise invalid(f"rates.{name}", rate, "a finite rate above 0")
        own = self.rates.get(self.currency, 1.0)
        if own != 1.0:
            allowed = f"1, as the answer is in {self.currency}; name the currency that is wanted"
            raise invalid(f"rates.{self.currency}", own, allowed)

    def convert(self, amount: float, currency: str) -> float | None:
        """Return the amount in `currency`, or None without a rate."""
        if currency == self.currency:
            return amount
        rate = self.rates.get(currency)
        return None if rate is None else times(amount, rate)


class SourceRule(Enum):
    """Within what only one source is counted.

    CHANNEL_DAY: a channel and a day, so that one source's total is never added to the campaigns of
    another. CAMPAIGN_DAY: a campaign and a day, where sources tell of campaigns of their own.
    """

    CHANNEL_DAY = "channel_day"
    CAMPAIGN_DAY = "campaign_day"


@dataclass(frozen=True, slots=True)
class CostRules:
    """How costs are chosen. `precedence` ranks sources; those not in it follow, by name."""

    basis: CostBasis = CostBasis.IMPORTED_ELSE_TOUCHES
    precedence: tuple[str, ...] = ()
    one_source: SourceRule = SourceRule.CHANNEL_DAY

    def rank(self, row: Spend) -> tuple[int, str]:
        """The place of the row's source: the least is counted."""
        source = row.key.source
        known = source in self.precedence
        return self.precedence.index(source) if known else len(self.precedence), source

    def cell(self, row: Spend) -> tuple[str, dt.date]:
        """Within what one source is counted, of one channel."""
        whole = self.one_source is SourceRule.CHANNEL_DAY
        return "" if whole else row.key.campaign, row.key.day


BY_DEFAULT = CostRules()


@dataclass(frozen=True, slots=True)
class CostConflict:
    """Costs that were not added because `counted` tells of the same.

    `left_out` is the spend; None stands for the costs of touches of the channel, whose `amount` is
    in the currency of the report.
    """

    channel: str
    counted: str
    amount: float
    left_out: Spend | None


@dataclass(frozen=True, slots=True)
class ChannelCost:
    """The cost of one channel, where it came from, and what was not added to it.

    `sources` are those counted. `conflicts` are what other sources report for the same days, and
    what touches cost beside imported spend: adding it would count money twice.
    """

    channel: str
    cost: Figure
    sources: tuple[str, ...]
    from_touches: bool
    conflicts: tuple[CostConflict, ...] = ()


def channel_costs(
    spend: Sequence[Spend],
    touch_costs: Mapping[str, Figure],
    money: ExchangeRates,
    rules: CostRules = BY_DEFAULT,
) -> tuple[ChannelCost, ...]:
    """Return the cost of every channel named by spend or touches, in the order of names.

    `spend` holds each key once, as `replace_spend` leaves it. `touch_costs` are in the currency of
    the report. Sums are those of the amounts as they are written, so that cents add up, and no
    order of rows changes a digit.
    """
    by_channel: dict[str, list[Spend]] = defaultdict(list)
    for row in spend if rules.basis is not CostBasis.TOUCHES else ():
        by_channel[row.key.channel].append(row)
    names = sorted({*by_channel, *touch_costs})
    unknown = Undefined.COST_UNKNOWN
    return tuple(
        _imported(name, by_channel[name], touch_costs.get(name, unknown), money, rules)
        if by_channel.get(name)
        else _from_touches(name, touch_costs.get(name, unknown), rules.basis)
        for name in names
    )


def _from_touches(channel: str, cost: Figure, basis: CostBasis) -> ChannelCost:
    if isinstance(cost, Undefined):
        return ChannelCost(channel, cost, (), False)
    if basis is CostBasis.IMPORTED:
        conflicts = (CostConflict(channel, "", cost, None),) if cost else ()
        return ChannelCost(channel, Undefined.COST_UNKNOWN, (), False, conflicts)
    return ChannelCost(channel, cost, (), True)


def counted_spend(
    rows: Sequence[Spend], rules: CostRules
) -> tuple[Sequence[Spend], Sequence[tuple[Spend, str]]]:
    """Return the rows of one channel that count, and the others with the source that does instead.

    Both are in the order of keys.
    """
    order = sorted(rows, key=lambda row: row.key.sort_key())
    first: dict[tuple[str, dt.date], Spend] = {}
    for row in order:
        other = first.setdefault(rules.cell(row), row)
        if rules.rank(row) < rules.rank(other):
            first[rules.cell(row)] = row
    chosen = [(row, first[rules.cell(row)].key.source) for row in order]
    counted = [row for row, source in chosen if source == row.key.source]
    return counted, [(row, source) for row, source in chosen if source != row.key.source]


def _imported(
    channel: str, rows: Sequence[Spend], touch_cost: Figure, money: ExchangeRates, rules: CostRules
) -> ChannelCost:
    counted, left_out = counted_spend(rows, rules)
    sources = tuple(sorted({row.key.source for row in counted}))
    amounts = [money.convert(row.amount, row.currency) for row in counted]
    known = [amount for amount in amounts if amount is not None]
    conflicts = [CostConflict(channel, source, row.amount, row) for row, source in left_out]
    if not isinstance(touch_cost, Undefined) and touch_cost:
        conflicts.append(CostConflict(channel, ", ".join(sources), touch_cost, None))
    return ChannelCost(
        channel=channel,
        cost=sum_of_amounts(known) if len(known) == len(amounts) else Undefined.MIXED_CURRENCIES,
        sources=sources,
        from_touches=False,
        conflicts=tuple(conflicts),
    )


@dataclass(frozen=True, slots=True)
class ChannelEconomics:
    """Ratios of one channel; conversions and value may be attributed or incremental ones.

    `margin` is margin rate times value, less cost, and `return_on_investment` margin over cost.
    """

    channel: str
    cost: Figure
    cost_per_conversion: Figure
    return_on_spend: Figure
    margin: Figure
    return_on_investment: Figure


def channel_economics(
    channel: str, conversions: float, value: Figure, cost: Figure, margin_rate: float = 1.0
) -> ChannelEconomics:
    """Return the ratios of a channel. A free channel has none: it is not infinitely good.

    `margin_rate` is the part of value that is left before the cost of the channel, 0 to 1. Margin
    and its ratio are undefined where value or cost is.
    """
    if not 0 <= margin_rate <= 1:
        raise invalid("margin_rate", margin_rate, "a share between 0 and 1")
    margin = _less_cost(value, cost, margin_rate)
    return ChannelEconomics(
        channel=channel,
        cost=cost,
        cost_per_conversion=cost_per(cost, conversions),
        return_on_spend=over_cost(value, cost),
        margin=margin,
        return_on_investment=over_cost(margin, cost),
    )


def _less_cost(value: Figure, cost: Figure, margin_rate: float) -> Figure:
    if isinstance(cost, Undefined):
        return cost
    return value if isinstance(value, Undefined) else margin_rate * value - cost


def cost_per(cost: Figure, count: float, none_left: Undefined = Undefined.NO_CONVERSIONS) -> Figure:
    """Return cost over a count of what was won; `none_left` where nothing was."""
    if isinstance(cost, Undefined):
        return cost
    if cost == 0:
        return Undefined.ZERO_COST
    return cost / count if count > 0 else none_left


def over_cost(gain: Figure, cost: Figure) -> Figure:
    """Return a gain over the cost that brought it."""
    if isinstance(cost, Undefined):
        return cost
    if cost == 0:
        return Undefined.ZERO_COST
    return gain if isinstance(gain, Undefined) else gain / cost


def known(figure: Figure) -> float | None:
    """The figure, or None where it is undefined."""
    return None if isinstance(figure, Undefined) else figure


@dataclass(frozen=True, slots=True)
class Payback:
    """When a cohort has earned what it cost.

    `days` is the first age in days from which on cumulative margin is never below the cost in
    what was observed. `recovered` is the part of the cost earned by the last age observed.
    """

    days: int | Undefined
    recovered: Figure
    observed_days: int


def payback(cumulative_margin: Sequence[Figure], cost: Figure) -> Payback:
    """Return the payback period of a cohort; entry d is the margin earned through age d days.

    Margin and cost are of the same units (all of the cohort, or one unit of it). Ages that are not
    observed for the whole cohort end the series, wherever they stand.
    """
    seen: list[float] = []
    for margin in cumulative_margin:
        if isinstance(margin, Undefined):
            break
        seen.append(margin)
    if isinstance(cost, Undefined):
        return Payback(cost, cost, len(seen))
    if cost == 0:
        return Payback(Undefined.ZERO_COST, Undefined.ZERO_COST, len(seen))
    if not seen:
        return Payback(Undefined.NOT_OBSERVED, Undefined.NOT_OBSERVED, 0)
    below = [age for age, margin in enumerate(seen) if margin < cost]
    first = below[-1] + 1 if below else 0
    days = first if first < len(seen) else Undefined.NOT_PAID_BACK
    return Payback(days, seen[-1] / cost, len(seen))
