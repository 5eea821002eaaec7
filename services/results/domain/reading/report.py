"""What a report holds: every metric by itself, then families and decisions over all."""

import datetime as dt
from dataclasses import dataclass, replace

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.decide import Decision
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.health import SampleRatio
from touchstone_statistics.inference import Reading

from services.results.domain.analysis_plan import AnalysisMethod, StoredPlan
from services.results.domain.choice import Choice
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.metric import Direction, Metric, MetricRole
from services.results.domain.observation import ExperimentPlan, Observation, Slice
from services.results.domain.reading.beliefs import Beliefs, Believing, CountedBelief, Prior
from services.results.domain.reading.families import Corrected
from services.results.domain.reading.looking import Looked, Looking
from services.results.domain.reading.measured import Measured
from services.results.domain.reading.novelty import CourseOfEffect
from services.results.domain.reading.rules import Rule
from services.results.domain.reading.slices import Sliced
from services.results.domain.reading.switchback import WindowChecks
from services.results.domain.reading.together import Asking
from services.results.domain.removed import Removed


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a metric has no result: a canonical code, a reason and a message."""

    code: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Span:
    """Days since the first exposure, both included; day 1 is the 24 hours from it on."""

    first_day: int
    last_day: int

    def of(self, measure: Measure) -> Measure | None:
        """The measure in these days alone, of units for which they are over; None for a kind that
        is not a share, a mean or a ratio. Covariates are left out: the span is compared as it is.
        """
        if measure.kind not in (MetricKind.PROPORTION, MetricKind.MEAN, MetricKind.RATIO):
            return None
        return replace(
            measure,
            delay=dt.timedelta(days=self.first_day - 1),
            window=dt.timedelta(days=self.last_day),
            complete_only=True,
            lookback=None,
            covariates=(),
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """One metric as it is wanted: with its role and margin in this experiment."""

    metric: Metric
    role: MetricRole
    margin: float

    @property
    def increase(self) -> bool:
        """Whether more is better."""
        return self.metric.definition.direction is Direction.INCREASE


@dataclass(frozen=True, slots=True)
class How:
    """How a metric is read: the rule of record, methods beside it, and belief."""

    looking: Looking
    others: tuple[AnalysisMethod, ...]
    believing: Believing

    @property
    def rule(self) -> Rule:
        """The rule of record."""
        return self.looking.rule

    def measure(self, asked: Asked) -> Measure:
        """What was asked of the log for a metric."""
        return measure_of(asked, self.rule.plan.variance_reduction)


def measure_of(asked: Asked, variance_reduction: bool) -> Measure:
    """The measure of a metric, without covariates where the plan wants none."""
    measure = asked.metric.definition.measure
    return measure if variance_reduction else replace(measure, lookback=None, covariates=())


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """A contrast and what one method says of it, beside the reading of record.

    `method` None is the score test.
    """

    method: AnalysisMethod | None
    contrast: Contrast
    reading: Reading


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step; estimates have one axis of arms, the comparison one of treatments.

    `reached` is the share of all units that took this step and all before it, `passed` the share
    of those who took the step before. Of the first step both are the same.
    """

    event_name: str
    reached: Estimate
    passed: Estimate
    comparison: Beside


@dataclass(frozen=True, slots=True, eq=False)
class InSpan:
    """One metric in a span of days: its arms, one axis, and their comparison; or why not."""

    span: Span
    found: "tuple[Estimate, Beside] | Failure"


@dataclass(frozen=True, slots=True, eq=False)
class MetricReport:
    """One metric over all arms. Arrays of comparisons have one axis of treatments.

    `contrast` is of the data of the cut; `looked` holds the reading of record, which may be of an
    earlier look. `slices` are the parts of the population and `sliced` their comparisons, None
    without any. `guarded` reads whether a treatment is not worse by the margin, one-sided.
    `steps` are those of a funnel.
    """

    asked: Asked
    measured: Measured
    slices: tuple[Slice, ...]
    sliced: Sliced | None
    contrast: Contrast
    looked: Looked
    beliefs: Beliefs
    beside: tuple[Beside, ...]
    unadjusted: Beside | None
    uncapped: Beside | None
    guarded: Reading | None
    steps: tuple[Step, ...]
    incomplete: tuple[int, ...]
    windows: tuple[WindowChecks, ...] = ()
    """What else a switchback says, one a treatment."""

    def settled(self, corrected: Corrected) -> "Asking[Settled]":
        """With its place among all metrics: read at the level that the correction leaves it."""
        return Settled(self, corrected, (yield self.looked.at_level(corrected.level)))


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A metric after correction, with the intervals that agree."""

    report: MetricReport
    corrected: Corrected
    adjusted: Reading


@dataclass(frozen=True, slots=True, eq=False)
class ExperimentReport:
    """What an experiment shows: a function of plans, observation, metrics and looks only.

    `metrics` follows the order in which they were asked for; one that failed has a Failure.
    `analysis` holds the plan as it was applied, with a number of units that was forecast; `choice`
    says why. `spans` has what each metric did in spans of days, in the same order.
    """

    plan: ExperimentPlan
    analysis: StoredPlan
    alpha: float
    observation: Observation
    metrics: tuple[tuple[Asked, Settled | Failure], ...]
    sample_ratio: SampleRatio
    decisions: tuple[Decision, ...]
    prior: Prior
    choice: Choice
    spans: tuple[tuple[InSpan, ...], ...] = ()
    courses: "tuple[CourseOfEffect | Failure | None, ...]" = ()
    """How the effect on each metric changes over the spans; None where there are no two."""
    revenues: "tuple[CountedBelief | Failure | None, ...]" = ()
    """What is believed of revenue a unit; None where it was not asked for."""
    removed: Removed | None = None
    """What the cut has lost since results were first read at it."""
