"""Which touch of each journey came before a milestone."""

import numpy as np

from services.attribution.domain.arrays import Integers
from services.attribution.domain.events import MilestoneEvents
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.milestones import NOT_REACHED, JourneyMilestones
from services.attribution.domain.windows import first_at_or_after


def journey_milestones(
    journeys: Journeys, events: MilestoneEvents, lookback_us: int
) -> JourneyMilestones:
    """The touch before each milestone: the last touch of the journey that is not later.

    The milestone of a conversion at T is the unit's last event of that name with
    T - lookback <= t <= T.
    """
    positions = [
        _positions(journeys, events, code, lookback_us) for code in range(len(events.names))
    ]
    shape = (journeys.converting, 0)
    return JourneyMilestones(
        events.names, np.stack(positions, axis=1) if positions else np.zeros(shape, np.int64)
    )


def _positions(
    journeys: Journeys, events: MilestoneEvents, code: int, lookback_us: int
) -> Integers:
    named = events.codes == code
    units, times = events.units[named], events.times[named]
    converting = journeys.units[: journeys.converting]
    begin = np.searchsorted(units, converting, side="left")
    end = np.searchsorted(units, converting, side="right")
    behind = first_at_or_after(times, begin, end, journeys.conversion_times + 1)
    reached = behind > begin
    if not len(times):
        return np.full(journeys.converting, NOT_REACHED, dtype=np.int64)
    then = times[np.maximum(behind - 1, 0)]
    reached &= then >= journeys.conversion_times - lookback_us
    first = journeys.converting_offsets[:-1]
    touch = first_at_or_after(
        journeys.converting_times, first, journeys.converting_offsets[1:], then + 1
    )
    positions: Integers = np.where(reached, touch - 1 - first, NOT_REACHED)
    return positions
