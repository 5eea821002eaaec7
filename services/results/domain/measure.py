"""What has to be computed of each unit: the part of a metric that a query needs."""

import datetime as dt
import enum
from dataclasses import dataclass

from shared.filters.filter import Filter


class MetricKind(enum.Enum):
    """How the events of a unit become its number."""

    PROPORTION = "proportion"
    """1 when the unit has an event, otherwise 0."""
    MEAN = "mean"
    """The aggregate of the unit's events, 0 without any."""
    RATIO = "ratio"
    """The sum over units of one aggregate over the sum of another."""
    QUANTILE = "quantile"
    """A quantile over units, or over the events of all units."""
    FUNNEL = "funnel"
    """1 when the unit took every step, each after the one before."""
    RETENTION = "retention"
    """1 when the unit has an event within a span of days; of the units old enough to tell."""
    TIME_TO_EVENT = "time-to-event"
    """Time to the first event, at most the window; of the units whose window is over."""


class Aggregation(enum.Enum):
    """How the events of one unit become a number; 0 without any.

    COUNT and DISTINCT_DAYS look at all events, the others at those that have a value. FIRST and
    LAST go by the time of the event; of several at one instant the least comes first.
    """

    SUM = "sum"
    COUNT = "count"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    DISTINCT_DAYS = "distinct-days"


@dataclass(frozen=True, slots=True)
class Source:
    """Which events are read, and how those of one unit become one number.

    With a `currency` only events of that currency have a value; the values of others are left out,
    and the events still count.
    """

    event_name: str
    filter: Filter | None = None
    aggregation: Aggregation = Aggregation.SUM
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that one unit may count: a number, or a percentile over the units of all arms.

    A percentile is the least number that at least this part of the units is not above. Value and
    denominator have each their own.
    """

    absolute: float | None = None
    percentile: float | None = None
    """Between 0 and 1, such as 0.999."""
    ignore_zeros: bool = False
    """The percentile is that of the units whose number is not 0."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The days since the first exposure, from `first_day` to `last_day`, both included; day 0 is
    the 24 hours from the exposure on.

    A unit is old enough when the last of these days was over at the last event of the cut, and
    likewise for a window.
    """

    first_day: int
    last_day: int


@dataclass(frozen=True, slots=True)
class Days:
    """Days since the first exposure, both included; day 1 is the 24 hours from it on."""

    first_day: int
    last_day: int


class ColumnRole(enum.Enum):
    """What a column of the per-unit table holds."""

    VALUE = "value"
    DENOMINATOR = "denominator"
    CAPPED_VALUE = "capped-value"
    CAPPED_DENOMINATOR = "capped-denominator"
    POSITIVE = "positive"
    """1 where the value is above 0, otherwise 0."""
    NEGATIVE = "negative"
    """1 where the value is below 0, otherwise 0."""
    LOG = "log"
    """The natural logarithm of a value above 0, otherwise 0."""
    SPAN = "span"
    """The value in one of the spans of days."""
    SPAN_DENOMINATOR = "span-denominator"
    STEP = "step"
    ELIGIBLE = "eligible"
    """1 for a unit old enough to tell, otherwise 0; the other columns are 0 where it is."""
    COVARIATE = "covariate"
    """The look-back value of the source (0), of the denominator (1), of each further one (2...).

    Of kinds that are 0 or 1, and of a time to an event, the source's is whether there was any.
    """


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a unit; `index` tells several of one role apart, from 0."""

    role: ColumnRole
    index: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """What has to be computed of each unit.

    Events count from `delay` after the first exposure of the unit on and, with a window, up to and
    including that long after the exposure. With a `lookback` the same sources (and `covariates`)
    are read in that span before the first exposure, as covariates. With `complete_only` only units
    count whose window is over at the watermark.
    """

    kind: MetricKind
    event_name: str
    window: dt.timedelta | None = None
    filter: Filter | None = None
    aggregation: Aggregation = Aggregation.SUM
    currency: str = ""
    delay: dt.timedelta = dt.timedelta(0)
    denominator: Source | None = None
    steps: tuple[Source, ...] = ()
    """All steps of a funnel, in order; the first is the measure's own source. A step is taken by
    the earliest event that is not before the step before; an event that is of several steps in a
    row takes them all.
    """
    retention: Retention | None = None
    quantile: float | None = None
    of_events: bool = False
    """The quantile is one over events, with units as clusters."""
    cap: Cap | None = None
    lookback: dt.timedelta | None = None
    covariates: tuple[Source, ...] = ()
    complete_only: bool = False
    spans: tuple[Days, ...] = ()
    """With these the value, and the denominator, are read in each span in place of the whole; the
    window is the longest of them.
    """
    logs: bool = False
    """In place of the value: whether it is above or below 0, and its logarithm."""

    @property
    def source(self) -> Source:
        """The events that it reads first of all."""
        return Source(self.event_name, self.filter, self.aggregation, self.currency)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the per-unit table, in order."""
        return (
            *_own_columns(self),
            *((Column(ColumnRole.ELIGIBLE),) if self.needs_age else ()),
            *_covariate_columns(self),
        )

    @property
    def needs_age(self) -> bool:
        """Whether only units count that have been there long enough."""
        aged = {MetricKind.RETENTION, MetricKind.TIME_TO_EVENT}
        return self.complete_only or self.kind in aged


def _own_columns(measure: Measure) -> tuple[Column, ...]:
    if measure.kind is MetricKind.FUNNEL:
        return tuple(Column(ColumnRole.STEP, index) for index in range(len(measure.steps)))
    if measure.logs:
        signs = (ColumnRole.POSITIVE, ColumnRole.NEGATIVE)
        return tuple(Column(role) for role in (*signs, ColumnRole.LOG))
    if measure.spans:
        below = () if measure.denominator is None else (ColumnRole.SPAN_DENOMINATOR,)
        places = range(len(measure.spans))
        return tuple(Column(role, n) for role in (ColumnRole.SPAN, *below) for n in places)
    roles = [ColumnRole.VALUE]
    if measure.denominator is not None:
        roles.append(ColumnRole.DENOMINATOR)
    if measure.cap is not None:
        roles.append(ColumnRole.CAPPED_VALUE)
        if measure.denominator is not None:
            roles.append(ColumnRole.CAPPED_DENOMINATOR)
    return tuple(Column(role) for role in roles)


def _covariate_columns(measure: Measure) -> tuple[Column, ...]:
    if measure.lookback is None:
        return ()
    further = len(measure.covariates)
    own = (0,) if measure.denominator is None else (0, 1)
    return tuple(Column(ColumnRole.COVARIATE, index) for index in (*own, *range(2, 2 + further)))
