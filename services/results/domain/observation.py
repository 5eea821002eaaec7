"""What was asked of an experiment's data, and what was seen."""

import datetime as dt
import enum
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.moments import Moments

from services.results.domain.clustering import Clustered, Clustering, Switchback
from services.results.domain.exact import Sums
from services.results.domain.measure import Measure
from services.results.domain.ordered import Ranked
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
    planned_end: dt.datetime | None = None
    """When it is to stop by itself."""
    start: dt.datetime | None = None
    """When it first started."""
    switchback: Switchback | None = None
    """The windows of time that it gives variants to, where it is assigned by them."""

    @property
    def control_index(self) -> int:
        return [arm.variant for arm in self.arms].index(self.control)

    @property
    def treatments(self) -> tuple[int, ...]:
        """The indexes of the arms that are compared with the control."""
        return tuple(arm for arm in range(len(self.arms)) if arm != self.control_index)

    @property
    def weights(self) -> FloatArray:
        return np.array([arm.weight for arm in self.arms], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class DataCut:
    """The cut of the event log that was read.

    `token` names it and gives the same answer when it is asked about later. `commit_time` is when
    the cut became readable: None when nothing was written, and for a cut of the past.
    `data_time` is when the last event of the cut was received, a function of the cut alone: units
    are as old as they were then. It is None where nothing depends on it.
    """

    token: str
    commit_time: dt.datetime | None
    data_time: dt.datetime | None = None


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
class Slice:
    """The units with one value of a dimension at their first exposure; `units` follows the plan.

    `value` is None for the units without a value. The values beyond the largest of a dimension are
    one slice together: `others` says how many, and `value` is None there, too.
    """

    units: tuple[int, ...]
    dimension: str = ""
    value: str | None = None
    others: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """Counts and exact sums of every slice and arm; arms in the order of the plan.

    `slices[0]` is all units. `sums[m]` belongs to measure m; its columns are those of the measure,
    and its units those that are old enough, where the measure needs that. Units seen in several
    variants are in `multiply_exposed` under the variant that they saw first; whether they are in
    other numbers is for the question to say. Exposures of variants that the plan does not have,
    and units on which a variant was forced, are counted here and are in no other number.
    """

    slices: tuple[Slice, ...]
    sums: tuple[Sums, ...]
    multiply_exposed: tuple[int, ...]
    unknown_variant_exposures: int
    cut: DataCut
    links: Links = NO_LINKS
    forced_units: int = 0
    incomplete: tuple[tuple[int, ...], ...] = ()
    """For each measure and arm how many units have their window not over yet."""
    ranked: tuple[Ranked | None, ...] = ()
    """For each measure the values that its quantile needs; None where it is not one."""
    clusters: tuple[Clustered, ...] = ()
    """For each measure the sums over clusters; empty where the question has none."""
    unclustered: int = 0
    """Units that belong to no cluster: they are in no sum over clusters."""
    assigned: tuple[int, ...] = ()
    """Clusters of each arm, each of that of its first unit; empty without clusters, and where so
    many have units of several arms that these were not given to clusters.
    """

    @property
    def units(self) -> tuple[int, ...]:
        """All units of each arm."""
        return self.slices[0].units

    @property
    def drawn(self) -> tuple[int, ...]:
        """How often each arm was drawn: for a cluster or, failing that, for a unit."""
        return self.assigned or self.units

    @property
    def multiply_exposed_units(self) -> int:
        """The units that were seen in several variants."""
        return sum(self.multiply_exposed)

    def moments(self, measure: int) -> Moments:
        """Centred moments of one measure; batch axes of slices and arms, then its columns."""
        return self.sums[measure].moments


class MultipleExposures(enum.Enum):
    """What a unit that was seen in several variants counts as."""

    EXCLUDE = "exclude"
    """Nothing: it is counted apart."""
    FIRST = "first"
    """A unit of the variant that it saw first; at one instant the first of the plan."""


MOST_VALUES = 50
"""So many values of a dimension have a slice of their own, those with the most units first."""


@dataclass(frozen=True, slots=True)
class Question:
    """The measures that are wanted of an experiment of a project.

    `dimensions` are `source`, `evaluator`, `config_version` or `properties.<key>` of the first
    exposure of a unit.
    `as_of` is a token of a past cut: only what was readable then is seen, links included.
    """

    project: str
    plan: ExperimentPlan
    measures: tuple[Measure, ...]
    stitching: Stitching = Stitching.RETROACTIVE
    dimensions: tuple[str, ...] = ()
    as_of: str = ""
    multiple_exposures: MultipleExposures = MultipleExposures.EXCLUDE
    clustering: Clustering | None = None
