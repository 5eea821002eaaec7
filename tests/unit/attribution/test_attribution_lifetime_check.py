"""Predictions of lifetime value are tried on days that were kept from them."""

import numpy as np
import pytest

from services.attribution.domain.economics import Undefined
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lifetime import Cohort, Earnings
from services.attribution.domain.lifetime_check import HoldOut, hold_out
from services.attribution.domain.lifetime_prediction import Horizon, predict_value
from shared.errors import DomainError


def simulated(units: int, seed: int, days: int = 240) -> tuple[Cohort, Earnings]:
    """Units that buy as BG/NBD says, with gamma spend, acquired in the first sixty days."""
    draw = np.random.default_rng(seed)
    acquired = draw.uniform(0, 60, units)
    rows: list[tuple[int, float, float]] = []
    for unit in range(units):
        rate, stop = draw.gamma(1.2, 1 / 12), draw.beta(1.0, 8.0)
        mean = 4.0 / draw.gamma(4.0, 1 / 10)
        time = acquired[unit]
        while time < days:
            rows.append((unit, time, draw.gamma(6.0, mean / 6.0) * 10))
            if draw.random() < stop:
                break
            time += draw.exponential(1 / rate)
    found, times, amounts = (np.array(column) for column in zip(*rows, strict=True))
    codes = (np.arange(units) % 2).astype(np.int32)
    cohort = Cohort(("mail", "search"), codes, (acquired * DAY_US).astype(np.int64))
    return cohort, Earnings(found, (times * DAY_US).astype(np.int64), amounts)


def test_a_population_of_the_model_is_predicted_and_another_is_not() -> None:
    cohort, earnings = simulated(3_000, 7)

    found = hold_out(cohort, earnings, 60, 240 * DAY_US)

    assert isinstance(found, HoldOut)
    assert not found.missed
    assert isinstance(found.whole.purchases_predicted, float)
    assert found.whole.purchases_predicted == pytest.approx(found.whole.purchases_seen, rel=0.05)
    assert found.whole.value_predicted == pytest.approx(found.whole.value_seen, rel=0.1)
    # The broken twin: nobody buys in the days held out, which no model of the past can know.
    before = earnings.times < 180 * DAY_US
    gone = Earnings(earnings.units[before], earnings.times[before], earnings.amounts[before])
    silent = hold_out(cohort, gone, 60, 240 * DAY_US)
    assert isinstance(silent, HoldOut)
    assert (silent.whole.purchases_seen, silent.missed) == (0, True)


def test_what_is_predicted_is_what_is_predicted_at_the_split() -> None:
    cohort, earnings = simulated(800, 3)

    found = hold_out(cohort, earnings, 60, 240 * DAY_US)

    assert isinstance(found, HoldOut)
    early = earnings.times < 180 * DAY_US
    past = Earnings(earnings.units[early], earnings.times[early], earnings.amounts[early])
    prediction = predict_value(cohort, past, Horizon(60), 180 * DAY_US)
    for row, one in zip(found.channels, prediction.channels, strict=True):
        assert isinstance(one.purchases, float)
        assert row.purchases_predicted == pytest.approx(one.purchases * one.units)
        late = ~early & (cohort.codes[earnings.units] == (one.channel == "search"))
        assert row.value_seen == pytest.approx(earnings.amounts[late].sum())


def test_units_that_were_not_there_are_not_held_against_it() -> None:
    acquired = np.array([0, 50, 95]) * DAY_US
    cohort = Cohort(("ads",), np.zeros(3, dtype=np.int32), acquired)
    rows = [(0, 1, 5.0), (0, 92, 7.0), (0, 92.2, 1.0), (1, 93, 9.0), (2, 96, 9.0), (0, 101, 4.0)]
    units, days, amounts = (np.array(column) for column in zip(*rows, strict=True))
    earnings = Earnings(units.astype(int), (days * DAY_US).astype(np.int64), amounts)

    found = hold_out(cohort, earnings, 10, 100 * DAY_US)

    assert isinstance(found, HoldOut)
    # One unit had bought, on one day again (twice); another bought for the first time.
    assert (found.whole.buyers, found.whole.first_time_buyers) == (1, 1)
    assert (found.whole.purchases_seen, found.whole.value_seen) == (1, 8.0)
    assert found.whole.purchases_predicted is Undefined.NOT_IDENTIFIED
    assert not found.missed
    assert hold_out(cohort, earnings, 200, 100 * DAY_US) is Undefined.NOT_OBSERVED
    with pytest.raises(DomainError, match="hold_out_days"):
        hold_out(cohort, earnings, 0, 100 * DAY_US)
