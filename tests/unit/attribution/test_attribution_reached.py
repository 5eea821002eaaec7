"""The touch before a milestone: against plain Python, on random events."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.domain.events import MilestoneEvents
from services.attribution.domain.journeys import DAY_US, JourneyRules, build_journeys
from services.attribution.domain.milestones import NOT_REACHED
from services.attribution.domain.reached import journey_milestones
from tests.unit.attribution.journey_cases import (
    CONVERSION_ROWS,
    DAYS,
    TOUCH_ROWS,
    conversions_of,
    touches_of,
)

NAMES = ("lead", "opportunity")
EVENTS = st.lists(st.tuples(st.integers(0, 6), DAYS, st.integers(0, 1)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(TOUCH_ROWS, CONVERSION_ROWS, EVENTS, st.integers(1, 30))
def test_the_last_touch_that_is_not_later_than_the_units_last_event(
    touched: list[tuple[int, int, str]],
    bought: list[tuple[int, int, float]],
    passed: list[tuple[int, int, int]],
    days: int,
) -> None:
    lookback_us = days * DAY_US
    journeys = build_journeys(
        touches_of(touched), conversions_of(bought), JourneyRules(lookback_us)
    )
    ordered = sorted(passed)
    events = MilestoneEvents(
        NAMES,
        np.array([row[0] for row in ordered], dtype=np.int64),
        np.array([row[1] for row in ordered], dtype=np.int64),
        np.array([row[2] for row in ordered], dtype=np.int32),
    )

    found = journey_milestones(journeys, events, lookback_us)

    for journey in range(journeys.converting):
        unit, bought_at = journeys.units[journey], journeys.conversion_times[journey]
        times = journeys.times[journeys.offsets[journey] : journeys.offsets[journey + 1]]
        for column in range(2):
            then = [
                time
                for row, time, name in passed
                if row == unit and name == column and bought_at - lookback_us <= time <= bought_at
            ]
            before = [place for place, time in enumerate(times) if then and time <= max(then)]
            assert found.positions[journey, column] == max(before, default=NOT_REACHED)
