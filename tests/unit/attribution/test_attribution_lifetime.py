"""Realised and predicted lifetime value by channel."""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.economics import Undefined, payback
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lifetime import Cohort, Earnings, realised_value
from services.attribution.domain.lifetime_prediction import (
    Horizon,
    Prediction,
    buyers_of,
    predict_value,
)
from services.attribution.domain.purchases import PurchaseModel
from shared.errors import DomainError


def cohort_of(*rows: tuple[int, float]) -> Cohort:
    """Units by channel code (0 mail, 1 search) and the day they were acquired on."""
    codes, days = zip(*rows, strict=True)
    return Cohort(("mail", "search"), np.array(codes), np.array(days) * DAY_US)


def earned(*rows: tuple[int, float, float]) -> Earnings:
    """Unit, day, amount."""
    units, days, amounts = (np.array(column) for column in zip(*rows, strict=True))
    return Earnings(units, (days * DAY_US).astype(np.int64), amounts.astype(float))


def test_realised_value_counts_units_that_were_observed_for_long_enough() -> None:
    cohort = cohort_of((1, 0), (1, 0), (1, 25), (0, 29))
    earnings = earned((0, 3, 10.0), (0, 20, 5.0), (1, 6.999, 4.0), (1, 7, 100.0), (2, 26, 2.0))

    mail, search = realised_value(cohort, earnings, [5, 7, 30], 30 * DAY_US)

    assert search.units == (3, 2, 2)
    # By day 5: 10, 0 and 2; by day 7 the third unit is too young, and 100 on day 7 is too late.
    assert list(search.mean) == pytest.approx([4, 7, 59.5])
    assert search.std_err[1] == pytest.approx(3)
    assert mail.units == (0, 0, 0)
    assert mail.mean == (Undefined.NOT_OBSERVED,) * 3


def test_realised_value_feeds_the_payback_period() -> None:
    cohort = cohort_of(*[(1, 0)] * 10)
    earnings = earned(*[(unit, day, 1.0) for unit in range(10) for day in range(20)])
    (_, search) = realised_value(cohort, earnings, range(1, 31), 25 * DAY_US)

    assert payback(search.mean, 12.0).days == 11
    assert payback(search.mean, 21.0).days is Undefined.NOT_PAID_BACK
    assert payback(search.mean, 21.0).observed_days == 25


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 40), st.floats(-10, 10)), min_size=1, max_size=40
)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_no_digit(
    rows: list[tuple[int, float, float]], order: random.Random
) -> None:
    cohort = cohort_of(*[(unit % 2, unit) for unit in range(6)])
    shuffled = order.sample(rows, len(rows))

    one, other = earned(*rows), earned(*shuffled)

    assert realised_value(cohort, one, [7, 30], 45 * DAY_US) == realised_value(
        cohort, other, [7, 30], 45 * DAY_US
    )


@given(ROWS)
def test_buyers_agree_with_a_count_by_hand(rows: list[tuple[int, float, float]]) -> None:
    """What is paid back is no purchase, and is taken from what was bought later than at first."""
    buyers = buyers_of(earned(*rows), 30 * DAY_US)
    seen = [row for row in rows if row[1] < 30]
    days = {
        unit: sorted({day for u, day, amount in seen if u == unit and amount >= 0})
        for unit in {u for u, _, amount in seen if amount >= 0}
    }

    assert buyers.rows.tolist() == sorted(days)
    for position, unit in enumerate(sorted(days)):
        first, last = days[unit][0], days[unit][-1]
        spent = sum(amount for u, day, amount in seen if u == unit and first < day)
        repeats = len(days[unit]) - 1
        assert buyers.history.repeats[position] == repeats
        assert buyers.history.last[position] == last - first
        assert buyers.history.age[position] == 30 - first
        assert buyers.mean_spend[position] == pytest.approx(spent / repeats if repeats else 0)


def test_a_purchase_that_is_paid_back_is_none_more() -> None:
    cohort, earnings = simulated(5, 400)
    rows = np.random.default_rng(6).random(len(earnings.times)) < 0.2
    back = Earnings(
        np.concatenate([earnings.units, earnings.units[rows]]),
        np.concatenate([earnings.times, earnings.times[rows] + DAY_US]),
        np.concatenate([earnings.amounts, -earnings.amounts[rows] / 2]),
    )

    plain = predict_value(cohort, earnings, Horizon(90), 300 * DAY_US).channels
    found = predict_value(cohort, back, Horizon(90), 300 * DAY_US).channels

    assert [one.purchases for one in found] == [one.purchases for one in plain]
    for one, other in zip(found, plain, strict=True):
        assert isinstance(one.value, float)
        assert isinstance(other.value, float)
        # A fifth of purchases is paid back by half.
        assert 0.8 < one.value / other.value < 1


def simulated(seed: int, units: int = 4000) -> tuple[Cohort, Earnings]:
    """Search acquires units that buy twice as often; all are acquired within 60 days."""
    random = np.random.default_rng(seed)
    codes = (np.arange(units) % 2).astype(np.int32)
    acquired = random.integers(0, 60, units) * DAY_US
    rates = random.gamma(1.0, 1 / 40.0, units) * (1 + codes)
    stops = random.beta(1.0, 4.0, units)
    steps = random.exponential(1.0, (units, 150)) / rates[:, None]
    ages = np.concatenate([np.zeros((units, 1)), np.cumsum(steps, axis=1)[:, :-1]], axis=1)
    alive = np.arange(150)[None, :] <= random.geometric(stops)[:, None]
    who, which = np.nonzero(alive & (ages < 400))
    times = acquired[who] + (ages[who, which] * DAY_US).astype(np.int64)
    means = 1.0 / random.gamma(4.0, 1 / 120.0, units)
    amounts = random.gamma(6.0, means[who] / 6.0)
    return Cohort(("mail", "search"), codes, acquired), Earnings(who, times, amounts)


def test_predicted_value_is_what_comes() -> None:
    cohort, earnings = simulated(4)
    watermark = 150 * DAY_US

    found = predict_value(cohort, earnings, Horizon(90), watermark)

    later = (earnings.times >= watermark) & (earnings.times < watermark + 90 * DAY_US)
    for code, row in enumerate(found.channels):
        of_channel = later & (cohort.codes[earnings.units] == code)
        assert row.units == row.buyers == 2000
        assert row.purchases == pytest.approx(of_channel.sum() / 2000, rel=0.1)
        assert row.value == pytest.approx(earnings.amounts[of_channel].sum() / 2000, rel=0.15)
        assert isinstance(row.purchases, float)
        assert isinstance(row.purchases_std_err, float)
        assert isinstance(row.realised, float)
        assert isinstance(row.value, float)
        assert 0 < row.purchases_std_err < 0.05 * row.purchases
        assert row.lifetime_value == row.realised + row.value
    mail, search = found.channels
    assert isinstance(mail.value, float)
    assert isinstance(search.value, float)
    assert search.value > 1.15 * mail.value


def test_later_money_counts_less_and_longer_horizons_bring_more() -> None:
    cohort, earnings = simulated(4, units=800)

    def value(horizon: Horizon) -> float:
        found = predict_value(cohort, earnings, horizon, 150 * DAY_US).channels[1].value
        assert isinstance(found, float)
        return found

    plain = [value(Horizon(days)) for days in (30, 90, 365)]
    assert all(one < other for one, other in pairwise(plain))
    assert 0.9 * plain[2] < value(Horizon(365, 0.1)) < plain[2]
    assert value(Horizon(30, 1e-12)) == pytest.approx(plain[0])


def test_what_cannot_be_predicted_says_why() -> None:
    cohort = replace(cohort_of((1, 0), (1, 0), (1, 0)), channels=("mail", "search"))
    found = predict_value(cohort, earned((0, 1, 5.0)), Horizon(30), 30 * DAY_US)

    assert isinstance(found, Prediction)
    assert not isinstance(found.purchases, PurchaseModel)
    mail, search = found.channels
    assert (mail.value, mail.realised) == (Undefined.NOT_OBSERVED, Undefined.NOT_OBSERVED)
    assert (search.units, search.buyers) == (3, 1)
    assert search.realised == pytest.approx(5 / 3)
    assert (search.value, search.lifetime_value) == (Undefined.NOT_IDENTIFIED,) * 2


@pytest.mark.parametrize(
    ("days", "amount", "known"),
    [
        pytest.param([0], 10.0, (False, False), id="all buy once"),
        pytest.param([0, 10, 20, 30], 25.0, (True, True), id="all are alike"),
        pytest.param([0, 10, 20, 30], 0.0, (True, False), id="all is free"),
        pytest.param([*range(100)], 3.0, (True, True), id="everybody buys every day"),
        pytest.param([0, 40], 1e12, (True, True), id="large amounts"),
    ],
)
def test_populations_that_tell_little_get_finite_figures_or_reasons(
    days: list[int], amount: float, known: tuple[bool, bool]
) -> None:
    rows = [(unit, unit + day, amount) for unit in range(60) for day in days]
    cohort = cohort_of(*[(unit % 2, unit) for unit in range(60)])

    found = predict_value(cohort, earned(*rows), Horizon(365), 200 * DAY_US)

    for one in found.channels:
        figures = (one.purchases, one.value)
        assert tuple(not isinstance(figure, Undefined) for figure in figures) == known
        assert all(isinstance(f, Undefined) or 0 <= f < np.inf for f in figures)
        for error in (one.purchases_std_err, one.value_std_err):
            assert isinstance(error, Undefined) or 0 <= error < np.inf


def test_no_purchase_at_all_is_no_error() -> None:
    none = np.zeros(0, dtype=np.int64)
    nothing = Earnings(none, none, np.zeros(0))

    found = predict_value(cohort_of((0, 0)), nothing, Horizon(30), DAY_US)

    assert found.channels[0].realised == 0
    assert found.channels[0].value is Undefined.NOT_IDENTIFIED


@pytest.mark.parametrize(
    "make",
    [
        lambda: Horizon(0),
        lambda: Horizon(10, -0.1),
        lambda: cohort_of((2, 0)),
        lambda: earned((0, 0, np.nan)),
        lambda: realised_value(cohort_of((0, 0)), earned((0, 0, 1)), [7, 3], 0),
        lambda: realised_value(cohort_of((0, 0)), earned((0, 0, 1)), [], 0),
    ],
)
def test_what_cannot_be_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(DomainError):
        make()
