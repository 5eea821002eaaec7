"""What was spent on a channel by day, and what is credited for the touches of that day.

Credit falls on the day of the touch, since that is what the money of the day bought; the conversion
may come later. So the last days of what was observed are not complete: they have yet to settle.
"""

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.amounts import sum_of_amounts
from services.attribution.domain.arrays import Floats
from services.attribution.domain.economics import (
    CostRules,
    ExchangeRates,
    Spend,
    Undefined,
    counted_spend,
)
from services.attribution.domain.journeys import BEGINNING_OF_TIME_US, DAY_US, Journeys

SETTLED = 0.95
"""So much of the credit has come when a day counts as complete."""

_DAY_OF_1970 = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class SpendHistory:
    """One entry a day, in order: spend, and credited conversions or value."""

    days: tuple[dt.date, ...]
    spends: Floats
    responses: Floats
    sources: tuple[str, ...]


def settling_days(journeys: Journeys, weights: Floats) -> int:
    """In how many days after its touch 95% of the credit has come, 0 without any."""
    lengths = np.diff(journeys.converting_offsets)
    lags = np.repeat(journeys.conversion_times, lengths) - journeys.times[: len(weights)]
    order = np.argsort(lags, kind="stable")
    reached = np.cumsum(weights[order])
    if not len(reached) or not reached[-1] > 0:
        return 0
    last = int(np.searchsorted(reached, SETTLED * reached[-1]))
    return math.ceil(int(lags[order[min(last, len(lags) - 1)]]) / DAY_US)


def complete_days(
    start_us: int, end_us: int | None, journeys: Journeys, settling: int
) -> tuple[dt.date, dt.date]:
    """The first and the last day of UTC that are in the time range and settled by its end.

    Without an end it is the day after the newest touch or conversion. The last may be before the
    first.
    """
    columns = (journeys.times, journeys.conversion_times)
    newest = max((int(times.max()) for times in columns if len(times)), default=0)
    oldest = min((int(times.min()) for times in columns if len(times)), default=0)
    until_us = (newest // DAY_US + 1) * DAY_US if end_us is None else end_us
    since_us = oldest if start_us <= BEGINNING_OF_TIME_US else start_us
    first = since_us // DAY_US if start_us <= BEGINNING_OF_TIME_US else -(-since_us // DAY_US)
    return _date(first), _date(until_us // DAY_US - 1 - settling)


def credit_by_day(journeys: Journeys, amounts: Floats) -> Mapping[tuple[str, dt.date], float]:
    """Sum what touches of converting journeys carry, by channel and by their day of UTC."""
    numbers = journeys.times[: len(amounts)] // DAY_US
    found, place = np.unique(
        np.stack([journeys.converting_codes.astype(np.int64), numbers]), axis=1, return_inverse=True
    )
    sums = np.bincount(place.reshape(-1), weights=amounts, minlength=found.shape[1])
    return {
        (journeys.channels[code], _date(number)): float(amount)
        for code, number, amount in zip(*found.tolist(), sums.tolist(), strict=True)
    }


def spend_history(
    channel: str,
    spend: Sequence[Spend],
    credit: Mapping[tuple[str, dt.date], float],
    money: ExchangeRates,
    rules: CostRules,
) -> SpendHistory | Undefined:
    """Set the spend of each day beside its credit, 0 where there is none.

    A day without a row of spend is no day of the history: what was spent on it is not known.
    MIXED_CURRENCIES where a row has no rate, NOT_GIVEN without spend.
    """
    counted, _ = counted_spend([row for row in spend if row.key.channel == channel], rules)
    by_day: dict[dt.date, list[float]] = defaultdict(list)
    for row in counted:
        amount = money.convert(row.amount, row.currency)
        if amount is None:
            return Undefined.MIXED_CURRENCIES
        by_day[row.key.day].append(amount)
    if not by_day:
        return Undefined.NOT_GIVEN
    days = tuple(sorted(by_day))
    return SpendHistory(
        days=days,
        spends=np.array([sum_of_amounts(by_day[day]) for day in days]),
        responses=np.array([credit.get((channel, day), 0.0) for day in days]),
        sources=tuple(sorted({row.key.source for row in counted})),
    )


def _date(number: int) -> dt.date:
    return dt.date.fromordinal(min(max(_DAY_OF_1970 + number, 1), dt.date.max.toordinal()))
