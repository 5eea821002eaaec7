"""A prediction of lifetime value, tried on the days that were kept from it."""

import math
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Flags, Floats
from services.attribution.domain.economics import Figure, Undefined
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lifetime import Cohort, Earnings
from services.attribution.domain.lifetime_prediction import (
    Horizon,
    buyers_of,
    predict_value,
)
from shared.errors import invalid

MISSED = 0.2
"""The relative error of a prediction that a reader is warned of; Touchstone's own choice."""


@dataclass(frozen=True, slots=True)
class HeldOutChannel:
    """Purchases and value of one channel in the days held out, of units that had bought before.

    Purchases of one day are one, as the model has them. `first_time_buyers` were acquired before
    and bought for the first time in these days: nothing predicts them.
    """

    channel: str
    buyers: int
    purchases_predicted: Figure
    purchases_seen: float
    value_predicted: Figure
    value_seen: float
    first_time_buyers: int


@dataclass(frozen=True, slots=True)
class HoldOut:
    """The check by channel, and for all of them together under an empty name."""

    days: int
    channels: tuple[HeldOutChannel, ...]
    whole: HeldOutChannel

    @property
    def missed(self) -> bool:
        """Whether purchases or value of all channels were missed by more than a fifth."""
        return _missed(self.whole.purchases_predicted, self.whole.purchases_seen) or _missed(
            self.whole.value_predicted, self.whole.value_seen
        )


def _missed(predicted: Figure, seen: float) -> bool:
    if isinstance(predicted, Undefined):
        return False
    return abs(predicted - seen) > MISSED * abs(seen)


def hold_out(
    cohort: Cohort, earnings: Earnings, days: int, watermark_us: int
) -> HoldOut | Undefined:
    """Fit to what was before the last `days`, predict these, and count what happened.

    NOT_OBSERVED without a unit that was acquired before them.
    """
    if days < 1:
        raise invalid("hold_out_days", days, "at least 1")
    split = watermark_us - days * DAY_US
    kept = cohort.acquired < split
    if not kept.any():
        return Undefined.NOT_OBSERVED
    early = Cohort(cohort.channels, cohort.codes[kept], cohort.acquired[kept])
    rows = _of_units(earnings.sorted(), kept, watermark_us)
    prediction = predict_value(early, rows, Horizon(days), split)
    seen = _Seen(early, rows, split)
    channels = tuple(
        HeldOutChannel(
            channel=one.channel,
            buyers=one.buyers,
            purchases_predicted=_total(one.purchases, one.units),
            purchases_seen=seen.purchases[code],
            value_predicted=_total(one.value, one.units),
            value_seen=seen.value[code],
            first_time_buyers=seen.first_time[code],
        )
        for code, one in enumerate(prediction.channels)
    )
    return HoldOut(days, channels, _whole(channels))


def _of_units(earnings: Earnings, kept: Flags, watermark_us: int) -> Earnings:
    """The earnings of the kept units before the watermark, by their new numbers."""
    numbers = np.cumsum(kept) - 1
    mine = kept[earnings.units] & (earnings.times < watermark_us)
    return Earnings(numbers[earnings.units[mine]], earnings.times[mine], earnings.amounts[mine])


class _Seen:
    """What happened from the split on, by channel code."""

    def __init__(self, cohort: Cohort, rows: Earnings, split: int) -> None:
        late = rows.times >= split
        bought = np.zeros(len(cohort), dtype=np.bool_)
        bought[rows.units[~late]] = True
        known = late & bought[rows.units]
        # As the model counts them: days since the first purchase, each once.
        whole = buyers_of(rows, int(rows.times.max(initial=split)) + 1)
        before = buyers_of(rows, split)
        repeats = np.zeros(len(cohort))
        repeats[whole.rows] = whole.history.repeats
        purchases = repeats[before.rows] - before.history.repeats
        codes, size = cohort.codes, len(cohort.channels)
        self.purchases = _sums(codes[before.rows], purchases, size)
        self.value = _sums(codes[rows.units[known]], rows.amounts[known], size)
        new = np.unique(rows.units[late & ~bought[rows.units]])
        self.first_time = np.bincount(codes[new], minlength=size).tolist()


def _sums(codes: Codes, amounts: Floats, size: int) -> list[float]:
    sums: list[float] = np.bincount(codes, amounts, minlength=size).astype(np.float64).tolist()
    return sums


def _total(mean: Figure, units: int) -> Figure:
    """Of all units; a channel without units brings nothing."""
    if not units:
        return 0.0
    return mean if isinstance(mean, Undefined) else mean * units


def _whole(channels: tuple[HeldOutChannel, ...]) -> HeldOutChannel:
    return HeldOutChannel(
        channel="",
        buyers=sum(one.buyers for one in channels),
        purchases_predicted=_sum([one.purchases_predicted for one in channels]),
        purchases_seen=math.fsum(one.purchases_seen for one in channels),
        value_predicted=_sum([one.value_predicted for one in channels]),
        value_seen=math.fsum(one.value_seen for one in channels),
        first_time_buyers=sum(one.first_time_buyers for one in channels),
    )


def _sum(figures: list[Figure]) -> Figure:
    known = [figure for figure in figures if not isinstance(figure, Undefined)]
    missing = [figure for figure in figures if isinstance(figure, Undefined)]
    return missing[0] if missing else math.fsum(known)
