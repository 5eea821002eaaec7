"""Readings at a critical value that may be out of reach, and what stays true over looks."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import BoolArray, FloatArray, GapArray
from touchstone_statistics.inference import Reading, lift_fraction
from touchstone_statistics.interval import Interval, Shape, Side, around, fieller

FARTHEST = 1e30
"""Statistics further out count as this far, and critical values further out as out of reach."""


@dataclass(frozen=True, slots=True, eq=False)
class Studentised:
    """The difference in standard errors; 0 with standard error 1 where it has none."""

    statistic: FloatArray
    std_err: FloatArray
    dof: FloatArray
    gap: GapArray

    @classmethod
    def of(cls, contrast: Contrast) -> "Studentised":
        gap = contrast.spread_gap
        std_err = np.where(gap == 0, contrast.std_err, 1.0)
        dof = np.where(gap == 0, contrast.dof, 1.0)
        return cls(np.where(gap == 0, contrast.difference / std_err, 0.0), std_err, dof, gap)

    def toward(self, side: Side) -> FloatArray:
        """The statistic, positive in the direction of a one-sided test; its square is finite."""
        signed = -self.statistic if side is Side.LESS else self.statistic
        return np.clip(signed, -FARTHEST, FARTHEST)


def normal_score(statistic: FloatArray, dof: FloatArray) -> FloatArray:
    """The normal quantile with the same tail probability as a t statistic.

    Source: the significance-level approach of Jennison and Turnbull (2000), section 11.5.
    Scores stop at 37, where the tail probability leaves the range of a float.
    """
    tail = np.maximum(special.stdtr(dof, -np.abs(statistic)), np.finfo(np.float64).tiny)
    return np.asarray(-np.sign(statistic) * special.ndtri(tail))


@dataclass(frozen=True, slots=True, eq=False)
class Threshold:
    """How a look was judged: rejected when the statistic passes `critical`, infinite if never.

    `alpha` is the level at which `critical` was found and `p_value` the smallest at which the
    statistic would have passed.
    """

    critical: FloatArray
    p_value: FloatArray
    alpha: FloatArray | float
    side: Side
    log_e: FloatArray | None = None


def read_at(contrast: Contrast, tested: Studentised, threshold: Threshold) -> Reading:
    """The reading of a contrast at given critical values, in the shape of the contrast.

    Rounding, or the interpolation of a p-value, might put it on the other side of alpha than
    the interval says; the interval, which compares the statistic itself, is believed.
    """
    shape = tested.statistic.shape
    critical = np.broadcast_to(threshold.critical, shape)
    alpha = np.broadcast_to(threshold.alpha, shape)
    reachable = critical < FARTHEST
    finite = np.where(reachable, critical, 1.0)
    difference = _unless(
        reachable, around(contrast.difference, finite * tested.std_err, threshold.side)
    )
    rejected = difference.excludes(0.0)
    p_value = np.clip(threshold.p_value, np.finfo(np.float64).tiny, 1.0)
    agreed = np.where(
        rejected, np.minimum(p_value, np.nextafter(alpha, 0.0)), np.maximum(p_value, alpha)
    )
    return Reading(
        statistic=tested.statistic,
        dof=tested.dof,
        p_value=agreed,
        difference=difference,
        lift=_unless(reachable, fieller(lift_fraction(contrast), finite, threshold.side)),
        gap=tested.gap,
        lift_gap=contrast.lift_spread_gap,
        critical=np.where(reachable, critical, np.inf),
        log_e=threshold.log_e,
    )


def _unless(reachable: BoolArray, interval: Interval) -> Interval:
    """The interval where something can be excluded at all, and everything elsewhere."""
    return Interval(
        np.where(reachable, interval.low, -np.inf),
        np.where(reachable, interval.high, np.inf),
        np.where(reachable, interval.shape, Shape.EVERYTHING).astype(np.uint8),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """The strongest evidence of all looks so far: what a decision to stop may rest on.

    `p_value` never rises. `log_e` is the largest logarithm of an e-value, minus infinity before
    the first; one over its exponential is a p-value, but it is no e-value itself: a procedure
    for e-values takes the `log_e` of a reading.
    """

    p_value: FloatArray
    log_e: FloatArray


def before(shape: tuple[int, ...] = ()) -> Running:
    """No look yet."""
    return Running(np.ones(shape), np.full(shape, -np.inf))


def running(previous: Running, reading: Reading) -> Running:
    """`previous` with one more look; a look with a gap changes nothing.

    For readings whose error rate holds over all looks together (group-sequential, anytime,
    hybrid) the smallest p-value so far is below alpha with at most that probability (Johari,
    Koomen, Pekelis and Walsh 2022, "Always valid inference", definition 1). For `Fixed` it is
    not.
    """
    known = reading.gap == 0
    log_e = -np.inf if reading.log_e is None else reading.log_e
    return Running(
        np.minimum(previous.p_value, np.where(known, reading.p_value, 1.0)),
        np.maximum(previous.log_e, np.where(known, log_e, -np.inf)),
    )
