"""What channels of a report cost, and the spend that says so."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from services.attribution.application.economics import (
    Credited,
    MoneyRules,
    TouchedChannel,
    costs_of,
    spend_of,
)
from services.attribution.domain.economics import ChannelCost, Figure, Spend, Undefined
from services.attribution.spend_ports import Ledger


@dataclass(frozen=True, slots=True)
class Charges:
    """What every channel that was touched or paid for cost, by name.

    `worth` is what one of the report's own amounts is in `currency`. `spend_digest` tells apart any
    two states of the spend that was read; it is empty without any.
    """

    currency: str
    worth: Figure
    costs: tuple[ChannelCost, ...]
    touched: tuple[TouchedChannel, ...]
    spend_digest: str

    def cost(self, channel: str) -> Figure:
        """What the channel cost."""
        found = (one.cost for one in self.costs if one.channel == channel)
        return next(found, Undefined.COST_UNKNOWN)

    @property
    def incomplete(self) -> frozenset[str]:
        """The channels that are charged with their touches, some of which have no cost."""
        by_touches = {one.channel for one in self.costs if one.from_touches}
        partly = {one.channel for one in self.touched if 0 < one.without_cost < one.touches}
        return frozenset(by_touches & partly)


def charges_of(project: str, credited: Credited, rules: MoneyRules, ledger: Ledger) -> Charges:
    """Charge the channels by the rules, as their economics do."""
    spend = spend_of(project, credited, ledger)
    money, worth, costs = costs_of(credited, rules, spend)
    return Charges(money.currency, worth, costs, credited.touched, spend_digest(spend))


def spend_digest(spend: Sequence[Spend]) -> str:
    """SHA-256 of the rows in the order in which spend is listed."""
    if not spend:
        return ""
    rows = [
        (*row.key.sort_key(), row.amount, row.currency)
        for row in sorted(spend, key=lambda row: row.key.sort_key())
    ]
    text = json.dumps(rows, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
