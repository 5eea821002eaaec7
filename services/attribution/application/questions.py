"""What is asked of the event log, and the journeys that it gives."""

from dataclasses import dataclass

from services.attribution.application.definition import JourneyDefinition
from services.attribution.domain.events import Touches
from services.attribution.domain.journeys import (
    BEGINNING_OF_TIME_US,
    JourneyRules,
    Journeys,
    build_journeys,
)
from services.attribution.domain.milestones import JourneyMilestones
from services.attribution.domain.models import AskedModel, FullPath
from services.attribution.domain.paths.transforms import Transformed, transformed
from services.attribution.domain.reached import journey_milestones
from services.attribution.domain.visibility import Visibility, direct_of, reaches_of
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents, JourneyLog
from shared.errors import limit_exceeded


@dataclass(frozen=True, slots=True)
class Question:
    """A definition, asked of one project's events for these models.

    `as_of` is the watermark of the cut to read; empty is the newest. `events` are conversion events
    to read besides. `converting` is for what journeys without conversion play no part in.
    """

    project: str
    definition: JourneyDefinition
    models: tuple[AskedModel, ...] = ()
    as_of: str = ""
    events: tuple[str, ...] = ()
    converting: bool = False

    @property
    def milestones(self) -> tuple[str, ...]:
        """The milestones of the models and the other events, in the order of names."""
        asked = (model.names for model in self.models if isinstance(model, FullPath))
        return tuple(sorted({*self.events, *(name for names in asked for name in names)}))


@dataclass(frozen=True, slots=True)
class CutJourneys:
    """The events read and the journeys cut out of them, before and after path transforms."""

    events: JourneyEvents
    paths: Transformed
    start_us: int
    lookback_us: int
    milestones: JourneyMilestones
    definition: JourneyDefinition

    @property
    def journeys(self) -> Journeys:
        """The journeys that are credited and counted."""
        return self.paths.journeys


def cut_journeys(
    question: Question, log: JourneyLog, limits: AttributionLimits, *, identified: bool
) -> CutJourneys:
    """Read the events of a question and cut them into journeys.

    Events are read from one lookback before the start on: earlier ones touch no conversion of the
    report. More channels than the limit is RESOURCE_EXHAUSTED.
    """
    definition = question.definition
    most = limits.max_touches_per_journey
    rules = JourneyRules(
        lookback_us=definition.longest_us,
        repeats=definition.repeats,
        start_us=BEGINNING_OF_TIME_US if definition.start_us is None else definition.start_us,
        max_touches=min(definition.max_touches or most, most),
    )
    events = log.read(_query(question, identified=identified))
    _require_few(events.touches, limits)
    visibility = visibility_of(definition, events.touches)
    journeys = build_journeys(events.touches, events.conversions, rules, visibility)
    paths = transformed(events.touches, journeys, definition.transforms)
    _require_few(paths.touches, limits)
    milestones = journey_milestones(paths.journeys, events.milestones, rules.lookback_us)
    return CutJourneys(events, paths, rules.start_us, rules.lookback_us, milestones, definition)


def _require_few(touches: Touches, limits: AttributionLimits) -> None:
    if len(touches.channels) > limits.max_channels:
        raise limit_exceeded("distinct channels", len(touches.channels), limits.max_channels)


def visibility_of(definition: JourneyDefinition, touches: Touches) -> Visibility:
    """How the touches count by the definition that they were read for."""
    if touches.facets is None:
        return Visibility()
    windows = definition.windows
    return Visibility(
        reaches=reaches_of(touches.facets, windows, definition.lookback_us) if windows else None,
        direct=direct_of(touches.facets, definition.direct.channels),
        handling=definition.direct.handling,
    )


def _query(question: Question, *, identified: bool) -> EventQuery:
    definition = question.definition
    start_us = definition.start_us
    return EventQuery(
        project=question.project,
        event_name=definition.event_name,
        unit_type=definition.unit_type,
        from_us=None if start_us is None else start_us - definition.longest_us,
        until_us=definition.end_us,
        identified=identified,
        stitching=definition.stitching,
        conversion_filter=definition.conversion_filter,
        touch_filter=definition.touch_filter,
        credited=definition.credited,
        faceted=definition.faceted,
        associations=definition.associations,
        milestones=question.milestones,
        as_of=question.as_of,
        converting=question.converting,
        grouping=definition.grouping,
    )
