"""An experiment in which nothing is done: units of the past, split at random again and again."""

from dataclasses import dataclass

import numpy as np
from touchstone_statistics.aa import AASimulation, Inference, Splits, simulate_aa
from touchstone_statistics.anytime import Anytime
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.inference import Fixed

from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.measure import Measure
from services.results.domain.observation import DataCut
from services.results.domain.reading.measured import covariates_of, of_record

MOST_UNITS = 50_000
MOST_SPLIT_UNITS = 200_000_000


@dataclass(frozen=True, slots=True, eq=False)
class UnitRows:
    """A row a unit, with the columns of its measure; of `history_units` units that count."""

    rows: FloatArray
    history_units: int
    cut: DataCut


@dataclass(frozen=True, slots=True)
class NullExperiment:
    """How units are split, and how each split is read: by FIXED or ANYTIME, at one look."""

    splits: Splits = Splits()  # noqa: RUF009  frozen
    method: AnalysisMethod = AnalysisMethod.FIXED
    alpha: float = 0.05

    @property
    def most_units(self) -> int:
        """So many units that all splits together stay within bounds of time."""
        return min(MOST_UNITS, MOST_SPLIT_UNITS // self.splits.repetitions)

    def simulated(self, measure: Measure, units: UnitRows) -> AASimulation:
        """How often a difference of the measure is found, with its cap and its covariates."""
        # Numbers beyond a double become gaps and are counted as such, not warned about.
        with np.errstate(all="ignore"):
            return simulate_aa(
                units.rows,
                self._inference(len(units.rows)),
                self.splits,
                of_record(measure),
                self.alpha,
                covariates_of(measure),
            )

    def calibrated(self, found: AASimulation) -> bool:
        """Whether the method keeps its promise: to be wrong as often, or at most as often."""
        read = len(found.p_values) > 0
        if self.method is AnalysisMethod.ANYTIME:
            return read and found.rate_low <= self.alpha
        return read and found.calibrated

    def _inference(self, units: int) -> Inference:
        if self.method is AnalysisMethod.ANYTIME:
            return Anytime(float(max(units, 1)), self.alpha)
        return Fixed(self.alpha)
