"""The rules by which a contrast is read, and what each of them does with many looks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from touchstone_statistics.anytime import Anytime
from touchstone_statistics.boundaries import Ledger, Plan, advance
from touchstone_statistics.boundaries import Look as Boundary
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.hybrid import Hybrid
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interval import Side
from touchstone_statistics.sequential import GroupSequential
from touchstone_statistics.spending import (
    HwangShihDeCani,
    OBrienFleming,
    Pocock,
    Power,
    Spending,
)

from services.results.domain.analysis_plan import AlphaSpending, AnalysisMethod, AnalysisPlan
from services.results.domain.reading.joining import by_kind

TUNED_FOR = 10_000.0
"""Units for which a confidence sequence is tightest where no number of units is planned."""

Boundaries = Sequence[Sequence[Boundary]]
"""What the looks at each treatment cost, oldest first."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A method with the choices of the plan that bear on it.

    `shares` has for each treatment the share that it and the control have of all units. Where
    whole units of the experiment are planned, it says how many of them these two arms get.
    """

    method: AnalysisMethod
    plan: AnalysisPlan
    shares: tuple[float, ...]
    early: bool = False
    """It is too early for a look."""
    over: bool = False
    """The end is reached in time, whatever number of units came: the next look is the last."""

    def read(
        self,
        contrast: Contrast,
        boundaries: Boundaries,
        level: FloatArray | float | None = None,
        side: Side = Side.TWO_SIDED,
    ) -> Reading:
        """The reading of a contrast whose first axis is that of `boundaries`.

        `level` is the error probability, one for each comparison or one for all; None is that
        of the plan.
        """
        alpha = self.plan.alpha if level is None else level
        if self.method is AnalysisMethod.FIXED:
            return Fixed(alpha, side).read(contrast)
        if self.method is AnalysisMethod.ANYTIME:
            return self._sequence(alpha, side).read(contrast)
        if self.method is AnalysisMethod.HYBRID:
            return self._hybrid(contrast, alpha, side)
        ledgers = tuple(self.ledger(taken, side) for taken in boundaries)
        levels = np.broadcast_to(np.asarray(alpha, dtype=np.float64), contrast.difference.shape)
        return GroupSequential(self.boundary(side), ledgers, levels).read(contrast)

    @property
    def takes_looks(self) -> bool:
        """Whether each look has its price, or at least leaves a mark."""
        return self.method is not AnalysisMethod.FIXED and not self.early

    def advanced(self, ledger: Ledger, information: float) -> Ledger:
        """With one more look at a group-sequential plan, which spends the rest when it is over."""
        return _advanced(self.boundary(Side.TWO_SIDED), ledger, information, self.over)

    def waits(self, taken: Sequence[Boundary]) -> bool:
        """Whether data that came after these looks has to wait for the next, or is too late."""
        if not taken:
            return False
        if self.method is AnalysisMethod.HYBRID:
            return taken[-1].fraction >= 1.0
        return self.method is AnalysisMethod.GROUP_SEQUENTIAL

    def information(self, contrast: Contrast) -> FloatArray:
        """The units of both arms of each comparison, as units of the whole experiment."""
        units = contrast.control.units + contrast.treatment.units
        return np.asarray(units / np.array(self.shares))

    def _sequence(self, alpha: FloatArray | float, side: Side) -> Anytime:
        """The confidence sequence, tightest at the planned end at the level of the plan."""
        tuned_for = self.plan.planned_units * min(self.shares) or TUNED_FOR
        return Anytime(tuned_for, alpha, side, self.plan.alpha)

    def _hybrid(self, contrast: Contrast, alpha: FloatArray | float, side: Side) -> Reading:
        levels = np.broadcast_to(np.asarray(alpha, dtype=np.float64), contrast.difference.shape)
        shares = self.shares[: contrast.difference.size]

        def read(part: Contrast, places: list[int]) -> Reading:
            # The end is reached at the planned number, and not an ulp later.
            end = self.plan.planned_units * shares[places[0]] * (1.0 - 1e-12)
            return Hybrid(end, levels[places], side, tuned_level=self.plan.alpha).read(part)

        return by_kind(contrast, shares, read)

    def boundary(self, side: Side) -> Plan:
        """The group-sequential plan."""
        return Plan(
            planned_information=float(self.plan.planned_units),
            alpha=self.plan.alpha,
            side=side,
            spending=spending_of(self.plan),
        )

    def ledger(self, taken: Sequence[Boundary], side: Side = Side.TWO_SIDED) -> Ledger:
        """What the looks cost. Two-sided it is what was kept; one-sided it follows from it."""
        if side is Side.TWO_SIDED:
            return Ledger(tuple(taken))
        looks = tuple((look.information, look.fraction >= 1.0) for look in taken)
        return _one_sided(self.boundary(side), looks)


@lru_cache(maxsize=1024)
def _one_sided(boundary: Plan, looks: tuple[tuple[float, bool], ...]) -> Ledger:
    if not looks:
        return Ledger()
    information, last = looks[-1]
    return _advanced(boundary, _one_sided(boundary, looks[:-1]), information, last)


def _advanced(boundary: Plan, ledger: Ledger, information: float, last: bool) -> Ledger:
    """With one more look; the last one spends the rest even where fewer units came than planned.

    Only shares of the information count for a boundary, so at an end that was set in time the
    units that there are stand for those that were planned. Source: Lan and DeMets (1989), "Group
    sequential procedures: calendar versus information time".
    """
    if last and 0.0 < information < boundary.planned_information:
        boundary = replace(boundary, planned_information=information)
    return advance(boundary, ledger, information)


def spending_of(plan: AnalysisPlan) -> Spending:
    """The spending function that a plan names."""
    match plan.spending:
        case AlphaSpending.OBRIEN_FLEMING:
            return OBrienFleming()
        case AlphaSpending.POCOCK:
            return Pocock()
        case AlphaSpending.POWER:
            return Power(plan.exponent)
        case AlphaSpending.HWANG_SHIH_DECANI:
            return HwangShihDeCani(plan.spending_parameter)
