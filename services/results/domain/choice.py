"""Which rule an experiment is read by where its plan names none, and why.

Looks towards an end cost far less than looks without one, so wherever an end is known, the rule is
the group-sequential one. It needs the number of units at that end: planned, or forecast from the
traffic before the first look and kept by the looks from then on. Neither depends on what was seen
of the metrics, which is what a group-sequential plan asks for (Lan and DeMets 1989).
"""

import datetime as dt
import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan
from services.results.domain.look import Look
from services.results.domain.observation import ExperimentPlan
from shared.errors import failed_precondition, invalid

SHORTEST = dt.timedelta(days=1)
"""Traffic is forecast from a whole day at least, since it differs between day and night,"""
LEAST_SHARE = 4
"""or from this part of an experiment that is shorter than as many days."""

TOWARDS_AN_END = (AnalysisMethod.GROUP_SEQUENTIAL, AnalysisMethod.HYBRID)


class Reason(enum.Enum):
    """Why the rule is what it is."""

    NAMED = "named"
    """The plan names it."""
    PLANNED_UNITS = "planned-units"
    """The plan says how many units there will be."""
    FORECAST = "forecast"
    """An end is known, and the units that come until then were forecast."""
    TOO_EARLY = "too-early"
    """An end is known, and too little traffic was seen for a forecast: no look is taken yet."""
    NO_END = "no-end"
    """Neither a number of units nor an end is known."""
    LOOKS_TAKEN = "looks-taken"
    """An end is known, but was not when the first look was taken without one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The plan with the number of units that was forecast, and why its rule is what it is.

    `end` is the time of the planned end where the rule goes towards it, and `over` whether the
    data reaches to it: then the rest of the error probability is spent.
    """

    plan: AnalysisPlan
    reason: Reason
    end: dt.datetime | None = None
    over: bool = False

    @property
    def early(self) -> bool:
        """Whether no look may be taken yet."""
        return self.reason is Reason.TOO_EARLY


@dataclass(frozen=True, slots=True)
class Traffic:
    """Units of all arms so far, and the time of the data that they were counted in."""

    units: int
    time: dt.datetime | None


def choose(
    plan: AnalysisPlan, experiment: ExperimentPlan, taken: Sequence[Look], seen: Traffic
) -> Choice:
    """The rule of record. `taken` are the looks that were taken up to the data that is read."""
    if plan.method is not None or plan.planned_units:
        return Choice(plan, Reason.NAMED if plan.method else Reason.PLANNED_UNITS)
    end = plan.planned_end or experiment.planned_end
    kept = _kept(taken)
    if taken and not kept:
        return Choice(plan, Reason.NO_END if end is None else Reason.LOOKS_TAKEN)
    over = end is not None and seen.time is not None and seen.time >= end
    if kept:
        return Choice(replace(plan, planned_units=kept), Reason.FORECAST, end, over)
    if end is None or experiment.start is None or end <= experiment.start:
        return Choice(plan, Reason.NO_END)
    units = _forecast(experiment.start, end, seen)
    if not units:
        return Choice(replace(plan, planned_units=1), Reason.TOO_EARLY, end)
    return Choice(replace(plan, planned_units=units), Reason.FORECAST, end, over)


def require_end(methods: Sequence[AnalysisMethod], choice: Choice) -> None:
    """Refuse a method that goes towards an end where there is none: INVALID_ARGUMENT, and
    FAILED_PRECONDITION where there is none yet.
    """
    towards = [method for method in methods if method in TOWARDS_AN_END]
    if towards and choice.early:
        raise failed_precondition(
            "TOO_LITTLE_DATA",
            f"the method {towards[0].name} goes towards a number of units, which is forecast when "
            "there is a day of traffic; allowed until then: FIXED and ANYTIME",
        )
    if towards and not choice.plan.planned_units:
        allowed = "FIXED and ANYTIME; the others once the analysis plan has planned_units"
        raise invalid("methods", towards[0].name, allowed)


def _kept(taken: Sequence[Look]) -> int:
    """The number of units that the first looks were taken towards; 0 where there was none."""
    towards = [look.boundary for look in taken if look.boundary.fraction > 0.0]
    if not towards:
        return 0
    # One look before the end tells the number to the last digit.
    first = min(towards, key=lambda boundary: (boundary.fraction >= 1.0, boundary.fraction))
    return max(round(first.information / first.fraction), 1)


def _forecast(start: dt.datetime, end: dt.datetime, seen: Traffic) -> int:
    """The units at the end if they go on coming as so far; 0 where too little was seen to say.

    New units get fewer as those who come often are in already, so this errs upwards: what is then
    left of the error probability is spent by the look at the end.
    """
    if seen.time is None or not seen.units:
        return 0
    whole, elapsed = end - start, min(seen.time, end) - start
    if elapsed < min(SHORTEST, whole / LEAST_SHARE):
        return 0
    return max(round(seen.units * (whole / elapsed)), seen.units)
