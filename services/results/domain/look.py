"""A look at a comparison: what it cost stays spent, and what it read is kept."""

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.boundaries import Look as Boundary
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import GapArray


@dataclass(frozen=True, slots=True)
class LookKey:
    """What is looked at: a metric of an experiment, one treatment against the control."""

    project: str
    experiment_id: str
    metric_id: str
    variant: str


@dataclass(frozen=True, slots=True)
class Side:
    """One arm as it was estimated at a look; the fields are those of an `Estimate`."""

    value: float
    variance: float
    units: float
    gap: int
    spread_gap: int
    freedom: float

    @classmethod
    def of(cls, estimate: Estimate, index: int) -> "Side":
        """Arm number `index` of an estimate with one axis; an axis of one serves every index."""
        place = index if estimate.value.size > 1 else 0
        return cls(
            value=float(estimate.value[place]),
            variance=float(estimate.variance[place]),
            units=float(estimate.units[place]),
            gap=int(estimate.gap[place]),
            spread_gap=int(estimate.spread_gap[place]),
            freedom=float(np.broadcast_to(estimate.dof, estimate.value.shape)[place]),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """Two arms as they were estimated at a look, and the covariance of their estimates.

    `freedom` replaces Welch's degrees of freedom where it is given.
    """

    control: Side
    treatment: Side
    covariance: float = 0.0
    freedom: float | None = None

    @classmethod
    def of(cls, contrast: Contrast, index: int) -> "Seen":
        """Treatment number `index` of a contrast with one axis."""
        shape = contrast.difference.shape
        covariance = float(np.broadcast_to(contrast.covariance, shape)[index])
        freedom = None
        if contrast.freedom is not None:
            freedom = float(np.broadcast_to(contrast.freedom, shape)[index])
        control, treatment = Side.of(contrast.control, index), Side.of(contrast.treatment, index)
        return cls(control, treatment, covariance, freedom)


def contrast_of(seen: list[Seen]) -> Contrast:
    """The contrast, with one axis, of what was seen of several treatments."""
    made = Contrast(
        _estimate([one.control for one in seen]),
        _estimate([one.treatment for one in seen]),
        covariance=np.array([one.covariance for one in seen]),
    )
    if all(one.freedom is None for one in seen):
        return made
    known = zip((one.freedom for one in seen), made.dof.tolist(), strict=True)
    return replace(made, freedom=np.array([own if one is None else one for one, own in known]))


def _estimate(sides: list[Side]) -> Estimate:
    def gaps(values: list[int]) -> GapArray:
        return np.array(values, dtype=np.uint8)

    return Estimate(
        value=np.array([one.value for one in sides]),
        variance=np.array([one.variance for one in sides]),
        units=np.array([one.units for one in sides]),
        gap=gaps([one.gap for one in sides]),
        spread_gap=gaps([one.spread_gap for one in sides]),
        freedom=np.array([one.freedom for one in sides]),
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """The cut of the event log that was read."""

    journal_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Look:
    """One look, as it was taken: no field of it is ever computed anew.

    `number` counts from 1. The information of the boundary is in units of all arms that count for
    the metric; its fraction is 0 where no number of units is planned, and a rule without prices
    spends 0. `p_value` is None where the data said nothing.
    """

    key: LookKey
    number: int
    boundary: Boundary
    p_value: float | None
    seen: Seen
    cut: Cut
    plan_version: int
    create_time: dt.datetime
