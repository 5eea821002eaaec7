"""Means of arms whose weights changed over time: unbiased where pooled units are not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, first_gap, quotient


def over_periods(periods: Estimate, traffic: FloatArray) -> Estimate:
    """Mean of each arm over periods of unequal weights, each period by its share of all traffic.

    `periods` is an estimate with the periods on axis 0 and the arms on the last; `traffic` the
    units of all arms in each period (periods + the axes between). m = sum (N_p / N) m_p and
    v = sum (N_p / N)^2 v_p.

    Estimand: the mean of an arm had all units of all periods been in it. Units that were pooled
    over periods would give each arm periods of its own to stand for (Simpson's paradox), since
    their mixture differs by arm as soon as weights move. Assumes random assignment within a period
    and weights that depend on earlier periods alone. Source: Cochran (1977), "Sampling techniques",
    equations 5.1 and 5.6; degrees of freedom by Satterthwaite (1946). A period in which an arm has
    too few units has no estimate of it, and so the arm has none: floors prevent it.
    """
    weight = quotient(traffic, np.sum(traffic, axis=0, keepdims=True), 0.0)
    weight = np.broadcast_to(weight[..., None], periods.value.shape)
    # A period without any traffic stands for no units, so what it lacks is no gap.
    used = weight > 0
    parts = np.where(used, weight**2 * periods.variance, 0.0)
    variance = np.sum(parts, axis=0)
    inverse = np.sum(quotient(parts, variance, 0.0) ** 2 / periods.dof, axis=0)
    units = np.asarray(np.sum(periods.units, axis=0))
    empty = np.where(np.sum(traffic, axis=0)[..., None] > 0, Gap.NONE, Gap.NO_UNITS)
    # Without any period there is nothing that would give the gaps the shape of the arms.
    nobody = np.broadcast_to(empty.astype(np.uint8), units.shape)
    gap = first_gap(_over(periods.gap, used), nobody)
    return Estimate(
        value=np.asarray(np.sum(np.where(used, weight * periods.value, 0.0), axis=0)),
        variance=np.asarray(variance),
        units=units,
        gap=gap,
        spread_gap=first_gap(gap, _over(periods.spread_gap, used)),
        freedom=quotient(np.ones_like(inverse), inverse, 1.0),
    )


def _over(gap: GapArray, used: BoolArray) -> GapArray:
    return first_gap(*np.where(used, gap, Gap.NONE).astype(np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class Propensities:
    """Units whose chance to be in their arm was logged; all arrays have one element a unit.

    `arm` is the index of the arm of a unit, `chance` the share that this arm had at that moment
    for that unit (so it may depend on its stratum), `outcome` its value and `forecast` what a model
    fitted to other units expects of it in each arm (units + arms), if there is one.
    """

    arm: NDArray[np.int64]
    chance: FloatArray
    outcome: FloatArray
    forecast: FloatArray | None = None

    def __post_init__(self) -> None:
        wrong = ~((self.chance > 0) & (self.chance <= 1))
        if wrong.any():
            first = self.chance[wrong][0]
            raise ValueError(f"chance is {first}; it must be above 0 and at most 1")


def by_propensity(units: Propensities, arms: int) -> Estimate:
    """Mean of each arm over all units, by the inverse of the logged chance of each to be in it.

    Without a forecast Hajek's ratio (Hajek 1971): sum (y / e) / sum (1 / e) over the units of the
    arm. With one augmented by it (Robins, Rotnitzky and Zhao 1994): the mean of
    f + 1{arm} (y - f) / e over all units, which is unbiased whatever the forecast. The variance is
    that of the influence of a unit over n. Estimand and assumptions are those of `over_periods`;
    weights may change with every unit. Under weights that adapt the estimate is unbiased, but it
    is only nearly normal while chances stay well above zero (Hadad et al. 2021).
    """
    inside = units.arm[:, None] == np.arange(arms)
    inverse = inside / units.chance[:, None]
    outcome = units.outcome[:, None]
    count = np.full(arms, float(units.arm.size))
    if units.forecast is None:
        mass = inverse.sum(axis=0)
        value = quotient((inverse * outcome).sum(axis=0), mass, 0.0)
        influence = quotient(inverse * (outcome - value), mass / np.maximum(count, 1.0), 0.0)
    else:
        scored = units.forecast + inverse * (outcome - units.forecast)
        value = scored.sum(axis=0) / np.maximum(count, 1.0)
        influence = scored - value
    within = inside.sum(axis=0).astype(np.float64)
    square = np.sum(influence**2, axis=0)
    variance = quotient(square, np.maximum(count, 1.0) * np.maximum(count - 1.0, 1.0), 0.0)
    gap = np.where(within < 1, Gap.NO_UNITS, Gap.NONE).astype(np.uint8)
    single = np.where(within < 2, Gap.ONE_UNIT, Gap.NONE).astype(np.uint8)
    return Estimate(value, variance, within, gap, first_gap(gap, single))
