"""Units by their first conversion, and what they earned since."""

from dataclasses import dataclass, replace

import numpy as np

from services.attribution.application.questions import CutJourneys, Question, cut_journeys
from services.attribution.domain.arrays import Integers
from services.attribution.domain.cohort_payback import AcquiredUnits
from services.attribution.domain.journeys import Repeats
from services.attribution.domain.lifetime import Earnings
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents, JourneyLog
from shared.errors import invalid
from shared.filters.filter import Comparison, Filter, Operator

NO_TOUCHES = Comparison("channel", Operator.EQUAL, ("",))
"""Touches are not needed to know what units earned."""


@dataclass(frozen=True, slots=True)
class Earning:
    """Which conversions earn; without a name those that acquire.

    `observed_until_us` is None for the newest event that was read.
    """

    event_name: str = ""
    condition: Filter | None = None
    observed_until_us: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CohortOfUnits:
    """The acquired units, what they earned, and until when that is known.

    The first units of `units` are those of the converting journeys of `cut`, in their order.
    """

    cut: CutJourneys
    units: AcquiredUnits
    earnings: Earnings
    observed_until_us: int
    currencies: tuple[str, ...]


def cohort_of(
    question: Question, earning: Earning, log: JourneyLog, limits: AttributionLimits
) -> CohortOfUnits:
    """Read the units whose first conversion of the definition is in its time range.

    Both reads are of one cut of the log. Earnings count from the moment of acquisition on.
    """
    first = replace(question.definition, repeats=Repeats.FIRST)
    cut = cut_journeys(replace(question, definition=first), log, limits, identified=True)
    rows = np.concatenate([cut.journeys.conversion_rows, cut.journeys.direct_rows])
    acquired = cut.events.conversions.times[rows]
    names = cut.events.unit_ids.at(rows)
    offsets = cut.journeys.converting_offsets
    units = AcquiredUnits(
        channels=cut.journeys.channels,
        acquired=acquired,
        offsets=np.concatenate(
            [offsets, np.full(len(cut.journeys.direct_rows), offsets[-1], dtype=np.int64)]
        ),
        codes=cut.journeys.converting_codes,
    )
    later = log.read(_query(question, earning, cut.events.watermark, acquired))
    until = _observed_until(earning, cut, later)
    if len(acquired) and int(acquired.max()) >= until:
        raise invalid(
            "observed_until", f"{until / 1e6} s", "a time later than the last acquisition"
        )
    return CohortOfUnits(
        cut=cut,
        units=units,
        earnings=_earnings(later, names, acquired, until),
        observed_until_us=until,
        currencies=tuple(sorted({*cut.events.currencies, *later.currencies})),
    )


def _query(question: Question, earning: Earning, watermark: str, acquired: Integers) -> EventQuery:
    definition = question.definition
    same = not earning.event_name and earning.condition is None
    return EventQuery(
        project=question.project,
        event_name=earning.event_name or definition.event_name,
        unit_type=definition.unit_type,
        from_us=int(acquired.min()) if len(acquired) else definition.start_us,
        until_us=earning.observed_until_us,
        identified=True,
        stitching=definition.stitching,
        conversion_filter=definition.conversion_filter if same else earning.condition,
        touch_filter=NO_TOUCHES,
        as_of=watermark,
    )


def _observed_until(earning: Earning, cut: CutJourneys, later: JourneyEvents) -> int:
    if earning.observed_until_us is not None:
        return earning.observed_until_us
    columns = (cut.events.touches.times, cut.events.conversions.times, later.conversions.times)
    return max((int(times.max()) + 1 for times in columns if len(times)), default=1)


def _earnings(
    later: JourneyEvents, names: list[str], acquired: Integers, until_us: int
) -> Earnings:
    places = {name: place for place, name in enumerate(names)}
    found = later.conversions
    every = np.arange(len(found), dtype=np.int64)
    owners = np.array(
        [places.get(name, -1) for name in later.unit_ids.at(every)], dtype=np.int64
    ).reshape(-1)
    mine = (owners >= 0) & (found.times < until_us)
    mine[mine] = found.times[mine] >= acquired[owners[mine]]
    return Earnings(owners[mine], found.times[mine], found.values[mine]).sorted()
