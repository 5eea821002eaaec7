"""Units that belong together: they are alike, or were given a variant together."""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.cluster import Codes
from touchstone_statistics.gaps import FloatArray

from services.results.domain.exact import Sums


@dataclass(frozen=True, slots=True)
class Switchback:
    """Windows of time that change variants as a whole, counted from 1970-01-01 UTC.

    A unit counts once in each window, with what it does after its first exposure there and up to
    the end of the window. Exposures in the first `burn_in` of a window do not count.
    """

    period: dt.timedelta
    burn_in: dt.timedelta = dt.timedelta(0)


@dataclass(frozen=True, slots=True)
class Clustering:
    """What a unit belongs to: a linked unit of a type, or a field of its first exposure.

    With a switchback a cluster is one window of time of that, or of everybody where neither is
    named.
    """

    unit_type: str = ""
    field: str = ""
    switchback: Switchback | None = None

    @property
    def named(self) -> bool:
        """Whether units have a cluster besides the window of time."""
        return bool(self.unit_type or self.field)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The sums of each measure by window of time, region and arm: one entry a group.

    `period` numbers the windows from 1970; `region` the regions, from 0; `size` is how many units.
    """

    period: Codes
    region: Codes
    arm: Codes
    size: FloatArray
    totals: FloatArray
    """The columns of the measure: groups x columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Clustered:
    """Exact sums of one measure over clusters.

    `counts[slice][arm]` is how many clusters have a unit that counts, `all[slice]` how many there
    are and `mixed[slice]` how many of them have units in several arms. `joint` has one cell a
    slice: its units are the clusters, and its columns, for each arm in turn, those of the measure
    and then the number of units.
    """

    counts: tuple[tuple[int, ...], ...]
    mixed: tuple[int, ...]
    joint: Sums
    windows: Windows | None = None

    @property
    def arms(self) -> int:
        """How many arms there are."""
        return len(self.counts[0])

    @property
    def columns(self) -> int:
        """How many columns each arm has."""
        return len(self.joint.exponents) // self.arms

    @property
    def sizes(self) -> FloatArray:
        """Units by slice and arm."""
        return np.asarray(self.joint.totals[:, 0, self.columns - 1 :: self.columns])
