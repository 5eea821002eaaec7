"""What a report, imported spend and experiments say of how channels respond to spend."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.attribution.application.calibrate_report import (
    BelievedKappa,
    CalibratedResult,
)
from services.attribution.application.economics import (
    TOTALS_ALONE,
    Credited,
    CreditedResult,
    MoneyRules,
    costs_of,
    spend_of,
)
from services.attribution.application.questions import Question, cut_journeys
from services.attribution.application.stream_credits import touch_weights
from services.attribution.domain.arrays import Floats
from services.attribution.domain.credits import touch_values
from services.attribution.domain.economics import (
    CostConflict,
    CostRules,
    ExchangeRates,
    Figure,
    Spend,
    Undefined,
    counted_spend,
)
from services.attribution.domain.spend_history import (
    SpendHistory,
    complete_days,
    credit_by_day,
    settling_days,
    spend_history,
)
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from services.attribution.spend_ports import Ledger
from shared.errors import failed_precondition, invalid


@dataclass(frozen=True, slots=True)
class MeasureHistories:
    """Whose credit to set beside spend; by conversions unless `by_value`.

    `place` is that of the result in the report. `settling` days at the end are left out, by
    themselves where it is None.
    """

    question: Question
    credited: Credited
    place: int
    rules: MoneyRules
    by_value: bool = False
    settling: int | None = None

    @property
    def result(self) -> CreditedResult:
        """The result whose credit counts."""
        return self.credited.results[self.place]


@dataclass(frozen=True, slots=True)
class Histories:
    """The spend and the credit of the days that are complete."""

    channels: frozenset[str]
    spend: tuple[Spend, ...]
    credit: Mapping[tuple[str, dt.date], float]
    money: ExchangeRates
    rules: CostRules
    settling: int

    def of(self, field: str, channel: str) -> SpendHistory:
        """The history of a channel; FAILED_PRECONDITION where there is none."""
        if channel not in self.channels:
            why = "the report credits nothing to it, or tells of it with others of few units"
            raise _no_history(field, channel, why)
        found = spend_history(channel, self.spend, self.credit, self.money, self.rules)
        if found is Undefined.NOT_GIVEN:
            why = "no spend is imported for it on a day that the report covers and that is settled"
            raise _no_history(field, channel, f"{why}; import some, or give a curve")
        if isinstance(found, Undefined):
            raise _no_history(field, channel, "its spend is in a currency without a rate; give one")
        return found

    def conflicts(self, channels: Sequence[str]) -> list[CostConflict]:
        """The spend of the channels that was not counted."""
        return [
            CostConflict(channel, source, row.amount, row)
            for channel in channels
            for row, source in counted_spend(
                [row for row in self.spend if row.key.channel == channel], self.rules
            )[1]
        ]


def place_of(results: Sequence[CreditedResult], model_name: str) -> int:
    """The result of this name, or the first that divides every conversion among touches.

    INVALID_ARGUMENT for one that is not there or divides totals alone.
    """
    able = {
        result.name: place
        for place, result in reversed(tuple(enumerate(results)))
        if result.model is not None and result.name not in TOTALS_ALONE
    }
    if not model_name and able:
        return min(able.values())
    if model_name not in able:
        names = ", ".join(sorted(able)) or "none: run it with a model that does, such as linear"
        allowed = f"a result of the report that divides every conversion: {names}"
        raise invalid("evidence.model_name", model_name, allowed)
    return able[model_name]


def measure_histories(
    command: MeasureHistories, log: JourneyLog, limits: AttributionLimits, ledger: Ledger
) -> Histories:
    """Credit the report's conversions again, by the day of the touch, and read the spend of it."""
    question, model = command.question, command.result.model
    assert model is not None
    cut = cut_journeys(question, log, limits, identified=False)
    journeys, weights = cut.journeys, touch_weights(model, cut)
    settling = command.settling
    if settling is None:
        settling = settling_days(journeys, weights)
    end_us = question.definition.end_us
    first, last = complete_days(cut.start_us, end_us, journeys, settling)
    spend = spend_of(question.project, command.credited, ledger)
    money, worth, _ = costs_of(command.credited, command.rules, spend)
    amounts = _worth(touch_values(weights, journeys), worth) if command.by_value else weights
    return Histories(
        channels=frozenset(each.channel for each in command.result.channels),
        spend=tuple(row for row in spend if first <= row.key.day <= last),
        credit=credit_by_day(journeys, amounts),
        money=money,
        rules=command.rules.costs,
        settling=settling,
    )


def _worth(values: Floats, worth: Figure) -> Floats:
    """Values in the currency of spend; FAILED_PRECONDITION where there is no rate."""
    if isinstance(worth, Undefined):
        why = "values are in several currencies, or in one without a rate to that of spend"
        raise failed_precondition(
            "TOO_LITTLE_DATA", f"evidence.outcome: {why}; give the rate, or measure conversions"
        )
    return values * worth


@dataclass(frozen=True, slots=True)
class MeasuredKappas:
    """The kappas of one calibrated result."""

    result: CalibratedResult
    by_value: bool = False

    def of(self, field: str, channel: str) -> BelievedKappa:
        """What is believed of the channel; FAILED_PRECONDITION where it stays uncalibrated."""
        for each in self.result.channels:
            believed = each.value_kappa if self.by_value else each.kappa
            if each.reported.channel == channel and believed is not None:
                return believed
        why = f"{field}: channel {channel!r} stays uncalibrated: no usable test says anything of it"
        raise failed_precondition("TOO_LITTLE_DATA", f"{why}; link one, or give a kappa")


def _no_history(field: str, channel: str, why: str) -> Exception:
    return failed_precondition(
        "TOO_LITTLE_DATA", f"{field}: channel {channel!r} has no history: {why}"
    )
