"""How an experiment is read: chosen before its data, and fixed where looks depend on it."""

import datetime as dt
import enum
from dataclasses import dataclass, replace

from touchstone_statistics.bayes import LiftPrior

from services.results.domain.clustering import Clustering, Switchback
from services.results.domain.metric import MetricRole
from services.results.domain.observation import ExperimentPlan, MultipleExposures
from shared.errors import failed_precondition, invalid

MAX_METRICS = 200
MAX_DIMENSIONS = 10
SMALLEST_ALPHA = 1e-9


def _require(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise invalid(f"analysis_plan.{field}", value, allowed)


class AnalysisMethod(enum.Enum):
    """The rule by which p-values and intervals are read."""

    FIXED = "fixed"
    GROUP_SEQUENTIAL = "group-sequential"
    ANYTIME = "anytime"
    HYBRID = "hybrid"


class AlphaSpending(enum.Enum):
    """How the error probability is spent over looks."""

    OBRIEN_FLEMING = "obrien-fleming"
    POCOCK = "pocock"
    POWER = "power"
    HWANG_SHIH_DECANI = "hwang-shih-decani"


class Correction(enum.Enum):
    """How the p-values of several comparisons are corrected."""

    NONE = "none"
    BONFERRONI = "bonferroni"
    HOLM = "holm"
    HOCHBERG = "hochberg"
    BENJAMINI_HOCHBERG = "benjamini-hochberg"
    BENJAMINI_YEKUTIELI = "benjamini-yekutieli"
    PREFERENTIAL_BONFERRONI = "preferential-bonferroni"


@dataclass(frozen=True, slots=True)
class MetricPlan:
    """What holds for one metric in one experiment; None: what its definition says."""

    metric_id: str
    role: MetricRole | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """Every choice that stands between the data of an experiment and what is said of it.

    `method` None means group-sequential where the planned number of units is known and
    anytime-valid otherwise. `prior` None means learned from finished experiments, or else the
    default of the service. `planned_units` 0 and `planned_end` None: not planned.
    """

    method: AnalysisMethod | None = None
    alpha: float = 0.05
    power: float = 0.8
    spending: AlphaSpending = AlphaSpending.OBRIEN_FLEMING
    spending_parameter: float = 0.0
    planned_units: int = 0
    planned_end: dt.datetime | None = None
    primary_correction: Correction = Correction.HOLM
    secondary_correction: Correction = Correction.BENJAMINI_HOCHBERG
    primary_share: float = 0.5
    variance_reduction: bool = True
    prior: LiftPrior | None = None
    dimensions: tuple[str, ...] = ()
    multiple_exposures: MultipleExposures = MultipleExposures.EXCLUDE
    metrics: tuple[MetricPlan, ...] = ()
    practical_equivalence: float = 0.0
    cluster_unit_type: str = ""
    cluster_field: str = ""
    switchback: Switchback | None = None

    def __post_init__(self) -> None:
        _require(self.alpha >= SMALLEST_ALPHA, "alpha", self.alpha, f"{SMALLEST_ALPHA} to 0.5")
        _require(self.alpha <= 0.5, "alpha", self.alpha, f"{SMALLEST_ALPHA} to 0.5")
        _require(self.alpha < self.power < 1, "power", self.power, "above alpha and below 1")
        if self.spending is AlphaSpending.POWER:
            at_least_0 = self.spending_parameter >= 0
            _require(at_least_0, "spending_parameter", self.spending_parameter, "0 (for 2) or more")
        if self.secondary_correction is Correction.PREFERENTIAL_BONFERRONI:
            allowed = "any other: PREFERENTIAL_BONFERRONI is for primary_correction"
            raise invalid("analysis_plan.secondary_correction", "PREFERENTIAL_BONFERRONI", allowed)
        towards_an_end = (AnalysisMethod.GROUP_SEQUENTIAL, AnalysisMethod.HYBRID)
        if self.method in towards_an_end and not self.planned_units:
            allowed = "1 or more with the method GROUP_SEQUENTIAL or HYBRID"
            raise invalid("analysis_plan.planned_units", 0, allowed)
        ids = [one.metric_id for one in self.metrics]
        twice = next((one for one in ids if ids.count(one) > 1), None)
        _require(twice is None, "metrics", twice, "each metric once")
        one_kind = not (self.cluster_unit_type and self.cluster_field)
        _require(one_kind, "cluster_field", self.cluster_field, "empty with a cluster_unit_type")
        if self.switchback is not None:
            burn_in = self.switchback.burn_in
            shorter = burn_in < self.switchback.period
            _require(shorter, "switchback.burn_in_s", burn_in, "less than period_s")

    @property
    def clustering(self) -> Clustering | None:
        """What units are grouped by; None where they count by themselves."""
        found = Clustering(self.cluster_unit_type, self.cluster_field, self.switchback)
        return None if found == Clustering() else found

    @property
    def rule(self) -> AnalysisMethod:
        """The method of the results of record."""
        if self.method is not None:
            return self.method
        return AnalysisMethod.GROUP_SEQUENTIAL if self.planned_units else AnalysisMethod.ANYTIME

    @property
    def exponent(self) -> float:
        """The exponent of POWER spending."""
        return self.spending_parameter or 2.0

    def of_metric(self, metric_id: str) -> MetricPlan:
        """What this plan says of a metric."""
        named = (one for one in self.metrics if one.metric_id == metric_id)
        return next(named, MetricPlan(metric_id))


FIXED_BY_LOOKS = (
    *("method", "alpha", "spending", "spending_parameter", "planned_units"),
    "multiple_exposures",
    *("cluster_unit_type", "cluster_field", "switchback"),
)
"""The fields on which the cost of a look that was taken depends."""


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A version of an experiment's plan. Version 0 is the default, which nobody made."""

    plan: AnalysisPlan = AnalysisPlan()
    version: int = 0
    create_time: dt.datetime | None = None
    looked_at: bool = False
    """Whether a look has been taken at the experiment."""

    @property
    def etag(self) -> str:
        """Differs between any two versions."""
        return str(self.version)

    def for_design(self, experiment: ExperimentPlan) -> "StoredPlan":
        """With the windows of time that the experiment is assigned by, where the plan has none."""
        if self.plan.switchback is not None or experiment.switchback is None:
            return self
        return replace(self, plan=replace(self.plan, switchback=experiment.switchback))


def changed(stored: StoredPlan, new: AnalysisPlan, now: dt.datetime) -> StoredPlan:
    """The next version; FAILED_PRECONDITION when looks were taken under what it changes."""
    moved = [name for name in FIXED_BY_LOOKS if getattr(stored.plan, name) != getattr(new, name)]
    if stored.looked_at and moved:
        raise failed_precondition(
            "PLAN_FIXED",
            f"looks were taken under this plan, and what they cost depends on {', '.join(moved)}: "
            "leave it as it is, or plan a new experiment",
        )
    return replace(stored, plan=new, version=stored.version + 1, create_time=now)
