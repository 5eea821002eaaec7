"""Reports of made-up sums, for the tests of what reports say."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from touchstone_statistics.bayes import LiftPrior

from services.results.application.observing import Observed
from services.results.application.reporting import Inputs, Terms, report
from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan, StoredPlan
from services.results.domain.exact import Cell, Sums
from services.results.domain.look import Cut, Look, LookKey
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.metric import Metric, MetricDefinition
from services.results.domain.observation import (
    Arm,
    DataCut,
    ExperimentPlan,
    Observation,
    Slice,
)
from services.results.domain.reading.beliefs import Prior
from services.results.domain.reading.looking import Place
from services.results.domain.reading.report import Asked, ExperimentReport, Failure, Settled
from shared.lake.watermark import ConsistencyToken

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PLAN = ExperimentPlan("e", "user", (Arm("b", 4000), Arm("c", 2000), Arm("a", 4000)), "c", 3)
HALVES = ExperimentPlan("e", "user", (Arm("c", 5000), Arm("t", 5000)), "c", 3)
FIXED = AnalysisPlan(method=AnalysisMethod.FIXED)
PRIOR = Prior(LiftPrior(), "the test")


def asked(metric_id: str = "m", **definition: Any) -> Asked:
    """A metric of shares of units, unless the definition says otherwise."""
    made = replace(MetricDefinition(Measure(MetricKind.PROPORTION, "visit")), **definition)
    return Asked(Metric("p", metric_id, made, 1, NOW, NOW), made.role, made.margin)


def shares(units: Sequence[int], converted: Sequence[int]) -> Sums:
    """Exact sums of a column of zeros and ones."""
    cells = (Cell(n, (k,), (k,)) for n, k in zip(units, converted, strict=True))
    return Sums((0,), (tuple(cells),))


@dataclass
class Lab:
    """An experiment that is looked at again and again; looks are kept as the service keeps them."""

    plan: ExperimentPlan = PLAN
    analysis: AnalysisPlan = FIXED
    kept: dict[LookKey, list[Look]] = field(default_factory=dict)
    alpha: float | None = None
    others: tuple[AnalysisMethod, ...] = ()
    time: dt.datetime = NOW

    def read(
        self,
        units: Sequence[int],
        columns: Sequence[Sums | Failure],
        metrics: Sequence[Asked],
        position: int = 1,
        keep: bool = True,
    ) -> ExperimentReport:
        """The report of what was seen up to a position of the log."""
        sums = tuple(one for one in columns if isinstance(one, Sums))
        seen = Observation(
            slices=(Slice(tuple(units)),),
            sums=sums,
            multiply_exposed=(0,) * len(units),
            unknown_variant_exposures=0,
            cut=DataCut(ConsistencyToken("journal", position).encode(), self.time),
        )
        places = iter(range(len(sums)))
        of = tuple(one if isinstance(one, Failure) else (seen, next(places)) for one in columns)
        inputs = Inputs(
            self.plan, StoredPlan(self.analysis), tuple(metrics), Observed(seen, of), self.kept
        )
        place = Place("p", "e", "", Cut("journal", position), 0, NOW)
        alpha = self.analysis.alpha if self.alpha is None else self.alpha
        made, new = report(inputs, Terms(alpha, self.others, PRIOR, place))
        for look in new if keep else ():
            self.kept.setdefault(look.key, []).append(look)
        return made

    def one(
        self, units: Sequence[int], converted: Sequence[int], metric: Asked, position: int = 1
    ) -> Settled:
        """The only metric of a report."""
        made = self.read(units, [shares(units, converted)], [metric], position)
        (_, found), *_ = made.metrics
        assert isinstance(found, Settled), found
        return found
