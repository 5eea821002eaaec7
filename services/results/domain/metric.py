"""What is measured of each unit."""

import datetime as dt
import enum
from dataclasses import dataclass

from services.results.domain.measure import Measure, MetricKind


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
    """Everything that its owner decides about a metric.

    `currency` is an ISO 4217 code, empty when the value is not money.
    """

    kind: MetricKind
    event_name: str
    window: dt.timedelta | None = None
    direction: Direction = Direction.INCREASE
    role: MetricRole = MetricRole.SECONDARY
    display_name: str = ""
    description: str = ""
    currency: str = ""

    @property
    def measure(self) -> Measure:
        return Measure(self.kind, self.event_name, self.window)


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
