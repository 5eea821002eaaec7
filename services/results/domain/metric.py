"""What is measured of each unit, and what it is for."""

import datetime as dt
import enum
from dataclasses import dataclass

from services.results.domain.measure import Measure, MetricKind

DEFAULT_LOOKBACK = dt.timedelta(days=14)
"""Long enough to tell heavy users from light ones, short enough to be the same people still."""


class Direction(enum.Enum):
    """Which way is better."""

    INCREASE = "increase"
    DECREASE = "decrease"


class MetricRole(enum.Enum):
    """What a metric is for in a decision."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    GUARDRAIL = "guardrail"


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """Everything that its owner decides about a metric."""

    measure: Measure
    direction: Direction = Direction.INCREASE
    role: MetricRole = MetricRole.SECONDARY
    margin: float = 0.0
    """How much worse a guardrail may get, as a part of the control's value, in [0, 1). At 0 it is
    only watched for getting worse.
    """
    minimum_effect: float = 0.0
    """The smallest relative effect that is worth detecting, in [0, 10]; 0 when none is stated."""
    display_name: str = ""
    description: str = ""

    @property
    def kind(self) -> MetricKind:
        """How a unit's events become its number; the same in every version."""
        return self.measure.kind


@dataclass(frozen=True, slots=True)
class Metric:
    """A stored metric: `version` counts the changes of its definition, from 1."""

    project: str
    metric_id: str
    definition: MetricDefinition
    version: int
    create_time: dt.datetime
    update_time: dt.datetime
    archive_time: dt.datetime | None = None

    @property
    def etag(self) -> str:
        """Differs between any two states of the metric."""
        return f"{self.version}{'-archived' if self.archive_time else ''}"
