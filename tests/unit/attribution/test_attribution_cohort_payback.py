"""When acquired units had earned what channels cost."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.cohort_payback import AcquiredUnits, cohort_payback
from services.attribution.domain.economics import Figure, Undefined
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lifetime import Earnings
from shared.errors import DomainError

# Two units by touches of ads and mail, one by ads alone, one by nothing.
UNITS = AcquiredUnits(
    channels=("ads", "mail"),
    acquired=np.array([0, 1, 2, 0]) * DAY_US,
    offsets=np.array([0, 2, 4, 5, 5]),
    codes=np.array([0, 1, 1, 0, 0], dtype=np.int32),
)
WEIGHTS = np.array([0.5, 0.5, 0.25, 0.75, 1.0])


def earned(*rows: tuple[int, float, float]) -> Earnings:
    units, days, amounts = (np.array(column) for column in zip(*rows, strict=True))
    return Earnings(units, (days * DAY_US).astype(np.int64), amounts.astype(float))


EARNED = earned((0, 0, 4.0), (0, 5.5, 8.0), (1, 1, 4.0), (2, 4, 6.0), (3, 0, 100.0))


def test_earnings_are_shared_out_as_credit_is() -> None:
    costs: dict[str, Figure] = {"ads": 8.0, "mail": 10.0, "radio": 5.0, "tv": 0.0}

    ads, mail, radio, tv = cohort_payback(UNITS, WEIGHTS, EARNED, costs, 10 * DAY_US)

    # Ads: 2 and 3 on day 0, 6 on day 2 (8 is reached), 4 on day 5.
    assert (ads.payback.days, ads.payback.recovered) == (2, 15 / 8)
    assert (ads.units, ads.cost_per_unit) == (2.25, 8 / 2.25)
    # The last unit of ads was acquired on day 2, the last of mail on day 1.
    assert (ads.payback.observed_days, mail.payback.observed_days) == (8, 9)
    assert (mail.payback.days, mail.payback.recovered) == (Undefined.NOT_PAID_BACK, 0.7)
    assert radio.payback.days is Undefined.NOT_OBSERVED
    assert radio.cost_per_unit is Undefined.NO_CONVERSIONS
    assert tv.payback.days is Undefined.ZERO_COST


def test_what_is_not_observed_of_the_whole_cohort_does_not_count() -> None:
    (ads,) = cohort_payback(UNITS, WEIGHTS, EARNED, {"ads": 8.0}, 2 * DAY_US + 1)
    assert (ads.payback.days, ads.payback.observed_days) == (Undefined.NOT_OBSERVED, 0)
    (unknown,) = cohort_payback(
        UNITS, WEIGHTS, EARNED, {"ads": Undefined.COST_UNKNOWN}, 10 * DAY_US
    )
    assert unknown.payback.days is Undefined.COST_UNKNOWN


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(-9, 9)), min_size=1, max_size=30
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_arrival_changes_no_digit(
    rows: list[tuple[int, float, float]], order: random.Random
) -> None:
    costs: dict[str, Figure] = {"ads": 3.0, "mail": 2.0}
    found = cohort_payback(UNITS, WEIGHTS, earned(*rows), costs, 10 * DAY_US)
    order.shuffle(rows)
    assert cohort_payback(UNITS, WEIGHTS, earned(*rows), costs, 10 * DAY_US) == found


def test_units_have_one_row_of_touches_each() -> None:
    with pytest.raises(DomainError, match="one row of touches a unit"):
        AcquiredUnits(
            ("ads",), np.zeros(2, dtype=np.int64), np.array([0, 1]), np.zeros(1, np.int32)
        )
