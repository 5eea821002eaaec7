"""What acquired units brought and will bring, by the channel that acquired them."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from services.attribution.application.cohorts import CohortOfUnits, Earning, cohort_of
from services.attribution.application.economics import (
    MoneyRules,
    costs_of,
    credited_of,
    spend_of,
    worth_of,
)
from services.attribution.application.get_attribution import attribution_of
from services.attribution.application.questions import Question
from services.attribution.application.stream_credits import touch_weights
from services.attribution.domain.economics import (
    ChannelCost,
    Figure,
    Undefined,
    cost_per,
    over_cost,
)
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lifetime import (
    Cohort,
    Earnings,
    RealisedValue,
    realised_value,
)
from services.attribution.domain.lifetime_check import HoldOut, hold_out
from services.attribution.domain.lifetime_prediction import (
    Horizon,
    PredictedValue,
    Prediction,
    predict_value,
)
from services.attribution.domain.models import FirstTouch, LastNonDirect, LastTouch
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from services.attribution.spend_ports import Ledger

NO_TOUCH = "(no touch)"
"""The channel of units that no touch acquired."""

AGES_DAYS = (7, 30, 90, 180, 365)
LARGE_CORRELATION = 0.2
"""From here on a reader is told that spend depends on how often units buy; our own choice."""

AcquiringModel = FirstTouch | LastTouch | LastNonDirect


@dataclass(frozen=True, slots=True)
class PredictLifetime:
    """What to predict: who is acquired, what earns, how far to look.

    `hold_out_days` 0 is a quarter of what was observed.
    """

    question: Question
    model: AcquiringModel
    earning: Earning
    rules: MoneyRules
    horizon: Horizon
    ages_days: tuple[int, ...] = AGES_DAYS
    hold_out_days: int = 0


class LifetimeConcern(Enum):
    """What can be wrong with a prediction."""

    TOO_FEW_REPEATS = "too_few_repeats"
    AT_EDGE = "at_edge"
    SPEND_DEPENDS_ON_COUNT = "spend_depends_on_count"
    MISSED_HOLD_OUT = "missed_hold_out"
    LONG_HORIZON = "long_horizon"


@dataclass(frozen=True, slots=True)
class LifetimeOfChannel:
    """One channel: what was realised, what is predicted, and what it cost for each unit."""

    realised: RealisedValue
    predicted: PredictedValue
    cost_per_unit: Figure
    value_over_cost: Figure


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The answer, its channels by name."""

    currency: str
    channels: tuple[LifetimeOfChannel, ...]
    prediction: Prediction
    check: HoldOut | Undefined
    concerns: tuple[tuple[LifetimeConcern, str], ...]
    costs: tuple[ChannelCost, ...]
    observed_until_us: int
    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str


def predict_lifetime(
    command: PredictLifetime, log: JourneyLog, limits: AttributionLimits, ledger: Ledger
) -> Lifetime:
    """Read the cohort, and say what its units brought and will bring."""
    cohort = cohort_of(command.question, command.earning, log, limits)
    attribution = attribution_of(cohort.cut, (command.model,))
    credited = credited_of(attribution, command.question, cohort.cut.events.currencies)
    spend = spend_of(command.question.project, credited, ledger)
    money, _, costs = costs_of(credited, command.rules, spend)
    worth = worth_of(cohort.currencies, money)
    units = _units(cohort, command.model, [cost.channel for cost in costs])
    rows = cohort.earnings
    # Amounts of several currencies are none: what needs them is made undefined below.
    scale = 1.0 if isinstance(worth, Undefined) else worth * command.rules.margin_rate
    earnings = Earnings(rows.units, rows.times, rows.amounts * scale)
    until = cohort.observed_until_us
    prediction = predict_value(units, earnings, command.horizon, until)
    realised = realised_value(units, earnings, command.ages_days, until)
    observed_days = _observed_days(units, until)
    days = command.hold_out_days or max(observed_days // 4, 1)
    check = hold_out(units, earnings, days, until)
    if isinstance(worth, Undefined):
        prediction, check = replace(prediction, spending=worth), worth
    by_channel = {cost.channel: cost.cost for cost in costs}
    return Lifetime(
        currency=money.currency,
        channels=tuple(
            _of_channel(*pair, by_channel.get(pair[0].channel, Undefined.COST_UNKNOWN), worth)
            for pair in zip(realised, prediction.channels, strict=True)
        ),
        prediction=prediction,
        check=check,
        concerns=tuple(_concerns(prediction, check, command.horizon, observed_days)),
        costs=costs,
        observed_until_us=until,
        watermark=attribution.watermark,
        watermark_time=attribution.watermark_time,
        identity_version=attribution.identity_version,
    )


def _units(cohort: CohortOfUnits, model: AcquiringModel, paid: Sequence[str]) -> Cohort:
    """The cohort with one channel a unit; channels that were paid for and acquired nobody too."""
    units = cohort.units
    weights = touch_weights(model, cohort.cut)
    acquiring = units.codes[np.flatnonzero(weights > 0.5)]
    direct = len(units) - len(acquiring)
    names = sorted({*units.channels, *paid, *((NO_TOUCH,) if direct else ())})
    place = {name: code for code, name in enumerate(names)}
    renamed = np.array([place[name] for name in units.channels], dtype=np.int32)
    codes = renamed[acquiring] if len(acquiring) else np.zeros(0, dtype=np.int32)
    alone = np.full(direct, place.get(NO_TOUCH, 0), dtype=np.int32)
    return Cohort(tuple(names), np.concatenate([codes, alone]), units.acquired)


def _observed_days(units: Cohort, until_us: int) -> int:
    return int((until_us - units.acquired.min()) // DAY_US) if len(units) else 0


def _of_channel(
    realised: RealisedValue, predicted: PredictedValue, cost: Figure, worth: Figure
) -> LifetimeOfChannel:
    if isinstance(worth, Undefined):
        realised, predicted = _without_money(realised, predicted, worth)
    per_unit = cost_per(cost, predicted.units, Undefined.NOT_OBSERVED)
    return LifetimeOfChannel(
        realised, predicted, per_unit, over_cost(predicted.lifetime_value, per_unit)
    )


def _without_money(
    realised: RealisedValue, predicted: PredictedValue, why: Undefined
) -> tuple[RealisedValue, PredictedValue]:
    """The same without what needs amounts of one currency."""
    ages = realised.ages_days
    nothing: tuple[Figure, ...] = (why,) * len(ages)
    return (
        RealisedValue(realised.channel, ages, realised.units, nothing, nothing),
        PredictedValue(
            channel=predicted.channel,
            units=predicted.units,
            buyers=predicted.buyers,
            realised=why,
            purchases=predicted.purchases,
            purchases_std_err=predicted.purchases_std_err,
            value=why,
            value_std_err=why,
            lifetime_value=why,
        ),
    )


def _concerns(
    prediction: Prediction, check: HoldOut | Undefined, horizon: Horizon, observed_days: int
) -> Iterator[tuple[LifetimeConcern, str]]:
    purchases, spending = prediction.purchases, prediction.spending
    if purchases is Undefined.NOT_IDENTIFIED:
        message = "fewer than 30 units bought on a second day: nothing is predicted"
        yield LifetimeConcern.TOO_FEW_REPEATS, message
    elif spending is Undefined.NOT_IDENTIFIED:
        message = (
            "fewer than 30 units spent more than 0 after the day of their first purchase: "
            "purchases are predicted, and not what they are worth"
        )
        yield LifetimeConcern.TOO_FEW_REPEATS, message
    elif any(not isinstance(m, Undefined) and m.at_edge for m in (purchases, spending)):
        message = "units hardly differ, or none stops: the parameters mean nothing by themselves"
        yield LifetimeConcern.AT_EDGE, message
    if not isinstance(spending, Undefined) and abs(spending.correlation) > LARGE_CORRELATION:
        yield (
            LifetimeConcern.SPEND_DEPENDS_ON_COUNT,
            (
                f"how often and how much units buy correlate by {spending.correlation:.2f}; the "
                "model assumes that they do not, and is off for units that buy often"
            ),
        )
    if isinstance(check, HoldOut) and check.missed:
        yield (
            LifetimeConcern.MISSED_HOLD_OUT,
            (
                f"the last {check.days} days were missed by more than a fifth; expect no better of "
                "the days to come"
            ),
        )
    if horizon.days > observed_days and not isinstance(purchases, Undefined):
        yield (
            LifetimeConcern.LONG_HORIZON,
            f"{horizon.days} days are predicted from {observed_days} that were observed",
        )
