"""An experiment in which nothing is done: units of the past, split at random again and again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.aa import AASimulation, Inference, Splits, simulate_aa_looks
from touchstone_statistics.anytime import Anytime
from touchstone_statistics.boundaries import Ledger, Plan, advance
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.hybrid import Hybrid
from touchstone_statistics.inference import Fixed
from touchstone_statistics.sequential import GroupSequential

from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.measure import Measure
from services.results.domain.observation import DataCut
from services.results.domain.reading.measured import covariates_of, of_record

MOST_UNITS = 50_000
MOST_SPLIT_UNITS = 200_000_000
DAILY_LOOKS = 28


@dataclass(frozen=True, slots=True, eq=False)
class UnitRows:
    """A row a unit, with the columns of its measure; of `history_units` units that count."""

    rows: FloatArray
    history_units: int
    cut: DataCut


@dataclass(frozen=True, slots=True)
class NullExperiment:
    """How units are split, and how each split is read: by which method, at how many looks.

    `looks` 0: one with FIXED and ANYTIME, 28 with the methods that go towards an end.
    """

    splits: Splits = Splits()  # noqa: RUF009  frozen
    method: AnalysisMethod = AnalysisMethod.FIXED
    alpha: float = 0.05
    looks: int = 0

    @property
    def looks_taken(self) -> int:
        """How often each split is read, at equal shares of the units."""
        towards_an_end = (AnalysisMethod.GROUP_SEQUENTIAL, AnalysisMethod.HYBRID)
        return self.looks or (DAILY_LOOKS if self.method in towards_an_end else 1)

    @property
    def most_units(self) -> int:
        """So many units that all splits together stay within bounds of time."""
        return min(MOST_UNITS, MOST_SPLIT_UNITS // self.splits.repetitions)

    def simulated(self, measure: Measure, units: UnitRows) -> AASimulation:
        """How often a difference of the measure is found, with its cap and its covariates."""
        # Numbers beyond a double become gaps and are counted as such, not warned about.
        with np.errstate(all="ignore"):
            return simulate_aa_looks(
                units.rows,
                self._inferences(len(units.rows)),
                self.splits,
                of_record(measure),
                self.alpha,
                covariates_of(measure),
            )

    def calibrated(self, found: AASimulation) -> bool:
        """Whether the method keeps its promise: to be wrong as often, or at most as often."""
        read = len(found.p_values) > 0
        if self.method in (AnalysisMethod.ANYTIME, AnalysisMethod.HYBRID):
            return read and found.rate_low <= self.alpha
        return read and found.calibrated

    def _inferences(self, units: int) -> Sequence[Inference]:
        """What reads each look; of the plan that these units are all there will be."""
        looks, end = self.looks_taken, float(max(units, 1))
        match self.method:
            case AnalysisMethod.FIXED:
                return (Fixed(self.alpha),) * looks
            case AnalysisMethod.ANYTIME:
                return (Anytime(end, self.alpha),) * looks
            case AnalysisMethod.HYBRID:
                return (Hybrid(end, self.alpha),) * looks
            case AnalysisMethod.GROUP_SEQUENTIAL:
                return _group_sequential(Plan(end, self.alpha), looks)


def _group_sequential(plan: Plan, looks: int) -> Sequence[Inference]:
    """A reading at each look, by the boundary that the looks up to it leave."""
    readings, ledger = [], Ledger()
    for look in range(1, looks + 1):
        ledger = advance(plan, ledger, plan.planned_information * look / looks)
        readings.append(GroupSequential(plan, ledger))
    return readings
