"""What was asked of an experiment's data, and what was seen."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.moments import Moments

from services.results.domain.measure import Measure
from shared.identity.belonging import Stitching


@dataclass(frozen=True, slots=True)
class Arm:
    """A variant of the experiment; `weight` is its share relative to the other arms."""

    variant: str
    weight: int


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """What results need to know of an experiment; `control` is the key of one of the arms."""

    experiment_id: str
    unit_type: str
    arms: tuple[Arm, ...]
    control: str
    config_version: int
    metric_ids: tuple[str, ...] = ()
    """The metrics that it is judged by; none: every metric of the project."""
    forced: tuple[tuple[str, str], ...] = ()
    """Type and id of each unit on which a variant is forced now."""

    @property
    def control_index(self) -> int:
        return [arm.variant for arm in self.arms].index(self.control)

    @property
    def weights(self) -> FloatArray:
        return np.array([arm.weight for arm in self.arms], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Total:
    """Exact sums over the units of one arm, in whole steps of `2**exponent`."""

    steps: int
    squared_steps: int
    exponent: int


@dataclass(frozen=True, slots=True)
class DataCut:
    """The cut of the event log that was read; `commit_time` is None when nothing was written."""

    token: str
    commit_time: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Links:
    """What links between ids did: the version that was used (empty without links), and the
    exposures and measured events that could be of several units and are left out.
    """

    version: str = ""
    stitching: Stitching = Stitching.RETROACTIVE
    ambiguous_exposures: int = 0
    ambiguous_conversions: int = 0


NO_LINKS = Links()


@dataclass(frozen=True, slots=True)
class Observation:
    """Counts and exact totals of every arm, in the order of the plan.

    `totals[m][a]` belongs to measure m and arm a. Units seen in several variants, exposures of
    variants that the plan does not have, and units on which a variant was forced are counted here
    and are in no other number.
    """

    units: tuple[int, ...]
    totals: tuple[tuple[Total, ...], ...]
    multiply_exposed_units: int
    unknown_variant_exposures: int
    cut: DataCut
    links: Links = NO_LINKS
    forced_units: int = 0

    def moments(self, measure: int) -> Moments:
        """Centred moments of one measure; batch axis of arms, one column."""
        return centred(self.units, self.totals[measure])


@dataclass(frozen=True, slots=True)
class Question:
    """The measures that are wanted of an experiment of a project."""

    project: str
    plan: ExperimentPlan
    measures: tuple[Measure, ...]
    stitching: Stitching = Stitching.RETROACTIVE


def centred(units: Sequence[int], totals: Sequence[Total]) -> Moments:
    """Mean and centred second moment from exact sums.

    The textbook formula sum(x^2) - sum(x)^2 / n is exact here, because it is evaluated in whole
    numbers and rounded once at the end: nothing cancels, whatever the size of the mean.
    """
    mean, co_moment = np.zeros((len(units), 1)), np.zeros((len(units), 1, 1))
    for arm, (count, total) in enumerate(zip(units, totals, strict=True)):
        if count == 0:
            continue
        step = Fraction(2) ** total.exponent
        mean[arm, 0] = rounded(Fraction(total.steps, count) * step)
        spread = Fraction(count * total.squared_steps - total.steps**2, count)
        co_moment[arm, 0, 0] = rounded(spread * step**2)
    return Moments.of(units, mean, co_moment)


def rounded(exact: Fraction) -> float:
    """The nearest double; infinite where there is none that large."""
    try:
        return float(exact)
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")
