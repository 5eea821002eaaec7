"""What units will still bring, by the channel that acquired them, from how they bought so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Floats, Integers
from services.attribution.domain.economics import Figure, Undefined
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lifetime import Cohort, Earnings, means_by_channel
from services.attribution.domain.purchases import (
    BuyingHistory,
    PurchaseModel,
    expected_purchases,
    fit_purchases,
    log_likelihood,
)
from services.attribution.domain.spending import SpendingModel, expected_spend, fit_spending
from shared.errors import invalid

MAX_HORIZON_DAYS = 3660
DISCOUNT_STEP_DAYS = 30
MOST_DISCOUNT_STEPS = 24
LOG_STEP = 1e-4

_Figures = list[tuple[Figure, Figure]]
_NO_UNITS: tuple[Figure, Figure] = (Undefined.NOT_OBSERVED, Undefined.NOT_OBSERVED)


@dataclass(frozen=True, slots=True, eq=False)
class Buyers:
    """The units that bought, by position in the cohort, with their history and mean spend.

    Purchases of one day are one purchase, and ages are whole days. `mean_spend` is over the
    repeat purchases, as the model of spending wants it, and 0 without one. What was paid back (an
    amount below 0) is no purchase: it makes those of later days smaller, and does not bring one.
    """

    rows: Integers
    history: BuyingHistory
    mean_spend: Floats


def buyers_of(earnings: Earnings, watermark_us: int) -> Buyers:
    """Gather purchases before the watermark by unit and by day since the unit's first purchase."""
    rows = earnings.sorted()
    bought = (rows.times < watermark_us) & (rows.amounts >= 0)
    units, times = rows.units[bought], rows.times[bought]
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    first = np.repeat(times[starts], np.diff(np.append(starts, len(units))))
    days = (times - first) // DAY_US
    changed = (np.diff(units, prepend=-1) != 0) | (np.diff(days, prepend=-1) != 0)
    opened = np.flatnonzero(changed)
    unit, day = units[opened], days[opened]
    distinct, begin, counts = np.unique(unit, return_index=True, return_counts=True)
    repeats = (counts - 1).astype(np.float64)
    age = ((watermark_us - times[starts]) // DAY_US).astype(np.float64)
    last = day[begin + counts - 1].astype(np.float64) if len(begin) else np.zeros(0)
    spent = _spent_later(rows, distinct, times[starts], watermark_us)
    return Buyers(
        rows=distinct,
        history=BuyingHistory(repeats, last, age),
        mean_spend=np.where(repeats > 0, spent / np.maximum(repeats, 1.0), 0.0),
    )


def _spent_later(rows: Earnings, buyers: Integers, first: Integers, watermark_us: int) -> Floats:
    """What each buyer spent after the day of its first purchase, less what it was paid back."""
    if not len(buyers):
        return np.zeros(0)
    place = np.minimum(np.searchsorted(buyers, rows.units), len(buyers) - 1)
    later = (rows.times < watermark_us) & (rows.times >= first[place] + DAY_US)
    later &= buyers[place] == rows.units
    sums = np.bincount(place[later], rows.amounts[later], minlength=len(buyers))
    return sums.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far to predict, and by how much a year later money counts less (0.08 is 8 %)."""

    days: int
    annual_discount: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.days <= MAX_HORIZON_DAYS:
            raise invalid("horizon.days", self.days, f"1 to {MAX_HORIZON_DAYS}")
        if not 0 <= self.annual_discount < 10:
            raise invalid("horizon.annual_discount", self.annual_discount, "a rate from 0")

    def steps(self) -> list[tuple[float, float]]:
        """Ends of at most 24 steps of 30 days or longer, each with the discount at its middle."""
        step = max(DISCOUNT_STEP_DAYS, -(-self.days // MOST_DISCOUNT_STEPS))
        ends = [*range(step, self.days, step), self.days]
        if not self.annual_discount:
            return [(float(self.days), 1.0)]
        begins = [0, *ends[:-1]]
        return [
            (float(end), (1.0 + self.annual_discount) ** (-(begin + end) / 2 / 365.25))
            for begin, end in zip(begins, ends, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class PredictedValue:
    """Value that a channel's units will still bring, for each unit, beside what they brought.

    `purchases` and `value` are expected of a unit in the horizon. Their standard errors are those
    of the fitted purchase model alone, not the chance of single units or of what they spend.
    Units that have not bought yet are in `units` and expected to bring nothing, which understates
    a young channel. `lifetime_value` is realised and predicted value together.
    """

    channel: str
    units: int
    buyers: int
    realised: Figure
    purchases: Figure
    purchases_std_err: Figure
    value: Figure
    value_std_err: Figure
    lifetime_value: Figure


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted value by channel, and the two models behind it (or why there is none)."""

    purchases: PurchaseModel | Undefined
    spending: SpendingModel | Undefined
    channels: tuple[PredictedValue, ...]


def predict_value(
    cohort: Cohort, earnings: Earnings, horizon: Horizon, watermark_us: int
) -> Prediction:
    """Predict by BG/NBD times Gamma-Gamma, one fit for all channels.

    Channels differ by what their units did, not by models of their own: those would be fitted to
    too few. A model that is not identified leaves every figure that needs it undefined.
    """
    earnings = earnings.sorted()
    buyers = buyers_of(earnings, watermark_us)
    purchases = fit_purchases(buyers.history)
    spending = fit_spending(buyers.history.repeats, buyers.mean_spend)
    units, realised = _realised(cohort, earnings, watermark_us)
    codes = cohort.codes[buyers.rows]
    bought = np.bincount(codes, minlength=len(cohort.channels)).tolist()
    worth = _worth(spending, buyers)
    future = _future(purchases, worth, buyers, codes, units, horizon)
    counts, values = future[0], _known(future[1], worth)
    rows = zip(cohort.channels, units, bought, realised, counts, values, strict=True)
    return Prediction(
        purchases,
        spending,
        tuple(
            PredictedValue(
                channel=channel,
                units=n,
                buyers=some,
                realised=past,
                purchases=count,
                purchases_std_err=count_error,
                value=value,
                value_std_err=value_error,
                lifetime_value=_sum(past, value),
            )
            for channel, n, some, past, (count, count_error), (value, value_error) in rows
        ),
    )


def _realised(
    cohort: Cohort, earnings: Earnings, watermark_us: int
) -> tuple[list[int], list[Figure]]:
    rows = earnings.sorted()
    counted = rows.times < watermark_us
    sums = np.bincount(rows.units[counted], rows.amounts[counted], minlength=len(cohort))
    everyone = np.ones(len(cohort), dtype=np.bool_)
    units, means, _ = means_by_channel(cohort, sums.astype(np.float64), everyone)
    return units, means


def _sum(past: Figure, future: Figure) -> Figure:
    if isinstance(past, Undefined):
        return past
    return future if isinstance(future, Undefined) else past + future


def _known(values: _Figures, worth: Floats | None) -> _Figures:
    """The values, or that they are not identified because what a purchase is worth is not."""
    missing = Undefined.NOT_IDENTIFIED
    if worth is not None:
        return values
    return [row if row == _NO_UNITS else (missing, missing) for row in values]


def _future(
    purchases: PurchaseModel | Undefined,
    worth: Floats | None,
    buyers: Buyers,
    codes: Codes,
    units: Sequence[int],
    horizon: Horizon,
) -> tuple[_Figures, _Figures]:
    """Expected purchases of a unit by channel, and their value, each with its standard error."""
    if isinstance(purchases, Undefined):
        missing: Figure = Undefined.NOT_IDENTIFIED
        rows = [(missing, missing) if n else _NO_UNITS for n in units]
        return rows, rows
    distinct, place, _ = buyers.history.distinct()
    steps = horizon.steps()
    each_worth = np.ones(len(place)) if worth is None else worth

    def mean(parameters: Floats) -> Floats:
        counts, discounted = _discounted(parameters, distinct, steps)
        weights = (counts[place], each_worth * discounted[place])
        sums = [np.bincount(codes, each, minlength=len(units)) for each in weights]
        return np.concatenate(sums) / np.maximum([*units, *units], 1)

    means = mean(purchases.parameters).tolist()
    errors = _errors(mean, purchases, buyers.history)
    found = [
        (value, error) if n else _NO_UNITS
        for value, error, n in zip(means, errors, [*units, *units], strict=True)
    ]
    return found[: len(units)], found[len(units) :]


def _worth(spending: SpendingModel | Undefined, buyers: Buyers) -> Floats | None:
    """What a purchase of each buyer is worth, None where it is not identified."""
    if isinstance(spending, Undefined):
        return None
    # A unit whose repeat purchases were refunded tells nothing about what one is worth.
    known = np.where(buyers.mean_spend > 0, buyers.history.repeats, 0.0)
    worth = expected_spend(spending, known, buyers.mean_spend)
    return None if np.isnan(worth).any() else worth


def _discounted(
    parameters: Floats, history: BuyingHistory, steps: Sequence[tuple[float, float]]
) -> tuple[Floats, Floats]:
    """Expected purchases to the end of the last step, and the same with each step discounted."""
    total, before = np.zeros(len(history)), np.zeros(len(history))
    for end, factor in steps:
        until = expected_purchases(parameters, history, end)
        total += factor * (until - before)
        before = until
    return before, total


def _errors(
    mean: Callable[[Floats], Floats], model: PurchaseModel, history: BuyingHistory
) -> list[Figure]:
    """Standard errors of means by the delta method, from the observed information.

    Undefined where a parameter ran to the edge, for the likelihood then has no summit. Slopes are
    taken by the logarithms of the parameters, with central differences.
    """
    parameters = model.parameters
    ends = [parameters * np.exp(LOG_STEP * side) for side in (*np.eye(4), *-np.eye(4))]
    slopes = np.stack([mean(end) for end in ends])
    slopes = (slopes[:4] - slopes[4:]) / (2.0 * LOG_STEP)
    scores = np.stack([_score(end, history) for end in ends])
    information = -(scores[:4] - scores[4:]) / (2.0 * LOG_STEP)
    information = (information + information.T) / 2.0
    if model.at_edge or not (np.linalg.eigvalsh(information) > 0).all():
        return [Undefined.NOT_IDENTIFIED] * slopes.shape[1]
    variances = np.einsum("pc,pc->c", slopes, np.linalg.solve(information, slopes))
    return [*np.sqrt(np.maximum(variances, 0.0)).tolist()]


def _score(parameters: Floats, history: BuyingHistory) -> Floats:
    """Slope of the log likelihood of all units by the logarithms of the parameters."""
    _, slopes = log_likelihood(parameters, history.repeats, history.last, history.age)
    return np.asarray(slopes.sum(axis=1) * parameters, dtype=np.float64)
