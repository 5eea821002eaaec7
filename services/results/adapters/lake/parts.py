"""Which numbers of a unit a question needs: each is computed once, however many measures use it."""

import datetime as dt
import enum
from dataclasses import dataclass, replace

from services.results.domain.measure import (
    Aggregation,
    Column,
    ColumnRole,
    Days,
    Measure,
    MetricKind,
    Retention,
    Source,
)
from services.results.domain.observation import Question

MICROSECOND = dt.timedelta(microseconds=1)
DAY = dt.timedelta(days=1)
SECONDS_EXPONENT = -20
"""Times are counted in steps of 2**-20 seconds, a little less than a microsecond."""
FLAGS = frozenset((MetricKind.PROPORTION, MetricKind.FUNNEL, MetricKind.RETENTION))

VALUES = frozenset(
    (
        *(ColumnRole.VALUE, ColumnRole.CAPPED_VALUE, ColumnRole.SPAN),
        *(ColumnRole.POSITIVE, ColumnRole.NEGATIVE, ColumnRole.LOG),
    )
)
"""What is made of the measure's own source."""


class Nature(enum.Enum):
    """What kind of number a part is."""

    FLAG = "flag"
    """1 where there is any event, otherwise 0."""
    COUNT = "count"
    """A small whole number."""
    AMOUNT = "amount"
    """An aggregate of values, in the steps of the event."""
    SAVED = "saved"
    """How much sooner than the end of the span the first event was, as a negative time."""
    DEPTH = "depth"
    """How many steps of a funnel were taken."""


@dataclass(frozen=True, slots=True)
class Span:
    """Microseconds since the first exposure, from `low` on, up to and including `high`."""

    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """A number of a unit out of its events in a span; `steps` are those of a funnel."""

    nature: Nature
    span: Span
    source: Source
    steps: tuple[Source, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every source that it reads."""
        return self.steps or (self.source,)


def microseconds(time: dt.timedelta) -> int:
    """A duration as a whole number."""
    return time // MICROSECOND


def parts_of(question: Question) -> tuple[Part, ...]:
    """Every part of every measure, each once."""
    found: dict[Part, None] = {}
    for measure in question.measures:
        for column in measure.columns:
            part = part_of(measure, column)
            if part is not None:
                found.setdefault(part)
    return tuple(found)


def part_of(measure: Measure, column: Column) -> Part | None:
    """The part that a column is made of; None where it is made of the age of the unit alone."""
    match column.role:
        case ColumnRole.ELIGIBLE:
            return None
        case ColumnRole.STEP:
            first = measure.steps[0]
            return Part(Nature.DEPTH, _span(measure, column), first, measure.steps)
        case _ if column.role in VALUES:
            return _value(measure, measure.source, _span(measure, column))
        case ColumnRole.COVARIATE:
            return _covariate(measure, column.index)
        case _:
            assert measure.denominator is not None
            return _aggregate(measure.denominator, _span(measure, column))


def needed_age(measure: Measure) -> int | None:
    """How many microseconds after its exposure all is known of a unit; None if never."""
    if measure.retention is not None:
        return microseconds((measure.retention.last_day + 1) * DAY)
    return None if measure.window is None else microseconds(measure.window)


def longest_lookback(question: Question) -> dt.timedelta:
    """How long before the first exposure of all events are read."""
    spans = [m.lookback for m in question.measures if m.lookback is not None]
    return max(spans, default=dt.timedelta(0))


def _span(measure: Measure, column: Column) -> Span:
    if column.role in {ColumnRole.SPAN, ColumnRole.SPAN_DENOMINATOR}:
        return _of_span(measure.spans[column.index])
    if measure.retention is not None:
        return _days(measure.retention)
    high = None if measure.window is None else microseconds(measure.window)
    return Span(microseconds(measure.delay), high)


def _of_span(days: Days) -> Span:
    return Span(microseconds((days.first_day - 1) * DAY), microseconds(days.last_day * DAY))


def _days(retention: Retention) -> Span:
    low = microseconds(retention.first_day * DAY)
    return Span(low, microseconds((retention.last_day + 1) * DAY) - 1)


def _value(measure: Measure, source: Source, span: Span) -> Part:
    if measure.kind in FLAGS:
        return _any(source, span)
    if measure.kind is MetricKind.TIME_TO_EVENT:
        return Part(Nature.SAVED, span, _plain(source))
    if measure.of_events:
        # Its quantile is over the values of the events, however those of a unit are added up.
        source = replace(source, aggregation=Aggregation.SUM)
    return _aggregate(source, span)


def _covariate(measure: Measure, index: int) -> Part:
    assert measure.lookback is not None
    span = Span(-microseconds(measure.lookback), -1)
    if index >= 2:
        return _aggregate(measure.covariates[index - 2], span)
    if index == 1:
        assert measure.denominator is not None
        return _aggregate(measure.denominator, span)
    source = measure.steps[0] if measure.steps else measure.source
    yes_or_no = measure.kind in FLAGS or measure.kind is MetricKind.TIME_TO_EVENT
    return _any(source, span) if yes_or_no else _aggregate(source, span)


def _any(source: Source, span: Span) -> Part:
    return Part(Nature.FLAG, span, _plain(source))


def _aggregate(source: Source, span: Span) -> Part:
    whole = source.aggregation in {Aggregation.COUNT, Aggregation.DISTINCT_DAYS}
    if whole:
        source = Source(source.event_name, source.filter, source.aggregation)
    return Part(Nature.COUNT if whole else Nature.AMOUNT, span, source)


def _plain(source: Source) -> Source:
    """Only which events there are matters: sources that differ in how they add up are one."""
    return Source(source.event_name, source.filter, Aggregation.COUNT)
