"""What is asked of the event log, and the journeys that it gives."""

from dataclasses import dataclass

from services.attribution.domain.journeys import (
    BEGINNING_OF_TIME_US,
    DAY_US,
    JourneyRules,
    Journeys,
    Repeats,
    build_journeys,
)
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents, JourneyLog
from shared.errors import invalid, limit_exceeded
from shared.identity.belonging import Stitching

YEAR_1_US = -62_135_596_800_000_000
YEAR_10000_US = 253_402_300_800_000_000


@dataclass(frozen=True, slots=True)
class JourneyDefinition:
    """Which conversions are credited to which touches.

    `start_us` (inclusive) and `end_us` (exclusive) bound the conversions, in microseconds since
    1970-01-01 UTC; None is unbounded. `stitching` says from when on a link between ids counts.
    """

    event_name: str
    unit_type: str = "user"
    lookback_us: int = 30 * DAY_US
    start_us: int | None = None
    end_us: int | None = None
    repeats: Repeats = Repeats.ALL
    stitching: Stitching = Stitching.RETROACTIVE

    def __post_init__(self) -> None:
        for name, time_us in (("start_time", self.start_us), ("end_time", self.end_us)):
            if time_us is not None and not YEAR_1_US <= time_us < YEAR_10000_US:
                raise invalid(f"journeys.{name}", f"{time_us / 1e6} s", "years 1 to 9999")
        if self.start_us is not None and self.end_us is not None and self.start_us >= self.end_us:
            raise invalid(
                "journeys.end_time",
                f"{(self.end_us - self.start_us) / 1e6} s after start_time",
                "a time later than start_time",
            )


@dataclass(frozen=True, slots=True)
class Question:
    """A definition, asked of one project's events."""

    project: str
    definition: JourneyDefinition


@dataclass(frozen=True, slots=True)
class CutJourneys:
    """The events read and the journeys cut out of them."""

    events: JourneyEvents
    journeys: Journeys
    start_us: int


def cut_journeys(
    question: Question, log: JourneyLog, limits: AttributionLimits, *, identified: bool
) -> CutJourneys:
    """Read the events of a question and cut them into journeys.

    Events are read from one lookback before the start on: earlier ones touch no conversion of the
    report. More channels than the limit is RESOURCE_EXHAUSTED.
    """
    definition = question.definition
    rules = JourneyRules(
        lookback_us=definition.lookback_us,
        repeats=definition.repeats,
        start_us=BEGINNING_OF_TIME_US if definition.start_us is None else definition.start_us,
        max_touches=limits.max_touches_per_journey,
    )
    events = log.read(
        EventQuery(
            project=question.project,
            event_name=definition.event_name,
            unit_type=definition.unit_type,
            from_us=None
            if definition.start_us is None
            else definition.start_us - definition.lookback_us,
            until_us=definition.end_us,
            identified=identified,
            stitching=definition.stitching,
        )
    )
    if len(events.touches.channels) > limits.max_channels:
        raise limit_exceeded("distinct channels", len(events.touches.channels), limits.max_channels)
    journeys = build_journeys(events.touches, events.conversions, rules)
    return CutJourneys(events, journeys, rules.start_us)
