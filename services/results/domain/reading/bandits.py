"""What a bandit has learned over the periods of its weights, and the weights that follow."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from touchstone_statistics.adaptive import over_periods
from touchstone_statistics.bandit import TOTAL_WEIGHT, Bandit, Hold, whole_weights
from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.best import Best, best_arm
from touchstone_statistics.estimand import Estimate, estimate
from touchstone_statistics.gaps import BoolArray

from services.results.domain.measure import Measure
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.measured import of_record

PERIOD = "config_version"
"""The dimension that tells the periods apart: every change of weights makes a version."""

LEAST_IN_PERIOD = 30
"""A period in which an arm has fewer units has no variance that could be trusted, and is left out
for all arms: that depends on the traffic alone, so it biases nothing.
"""


class Held(enum.Enum):
    """Why weights do not follow the evidence."""

    TOO_FEW_UNITS = "too-few-units"
    NO_PERIOD = "no-period"
    NO_POSTERIOR = "no-posterior"
    PERIODS_UNKNOWN = "periods-unknown"
    TOO_MANY_PERIODS = "too-many-periods"


_HELD = {
    Hold.TOO_FEW_UNITS: Held.TOO_FEW_UNITS,
    Hold.NO_POSTERIOR: Held.NO_POSTERIOR,
}


@dataclass(frozen=True, slots=True)
class Period:
    """A span of constant weights with its units of all arms; whether it counts."""

    config_version: int
    units: int
    counts: bool


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What is known of the arms that are still in play, and what follows.

    `arms` holds their places in the plan, the control first; estimates, chances and `weights`
    follow it. `held` is None where the weights follow the evidence.
    """

    arms: tuple[int, ...]
    estimate: Estimate
    best: Best
    weights: NDArray[np.int64]
    periods: tuple[Period, ...]
    held: Held | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What the weights are to follow: the rule, the belief about lifts, which way is better."""

    rule: Bandit
    prior: LiftPrior
    increase: bool


def learn(
    measure: Measure, seen: Observation, plan: ExperimentPlan, dropped: frozenset[str], wish: Wish
) -> Learned:
    """The weights of the next period, from an observation of one measure by PERIOD.

    Each period counts by its share of the traffic of all arms (Cochran 1977, equation 5.1): units
    that were pooled over periods would set the days of one arm against other days of another.
    Assumes that a unit counts for the arm and the period of its first exposure, and that arms were
    random within a period.
    """
    arms = in_play(plan, dropped)
    versions = [index for index, one in enumerate(seen.slices) if one.dimension == PERIOD]
    known = [index for index in versions if seen.slices[index].value is not None]
    known.sort(key=lambda index: int(seen.slices[index].value or 0))
    by_period = estimate(seen.moments(0), of_record(measure))[known][:, list(arms)]
    counts = np.all(by_period.units >= LEAST_IN_PERIOD, axis=-1)
    periods = _periods(seen, known, by_period, counts)
    used = by_period[counts]
    pooled = over_periods(used, used.units.sum(axis=-1))
    best = best_arm(pooled, wish.prior, wish.increase)
    made = wish.rule.weigh(best, pooled.units, int(counts.sum()))
    held = _doubtful(seen, versions) or _HELD.get(Hold(int(made.hold)))
    if held in (None, Held.NO_POSTERIOR) and not counts.any():
        held = Held.NO_PERIOD
    weights = whole_weights(np.full(len(arms), 1.0), TOTAL_WEIGHT) if held else made.weights
    return Learned(arms, pooled, best, weights, periods, held)


def in_play(plan: ExperimentPlan, dropped: frozenset[str]) -> tuple[int, ...]:
    """The places of the arms that are not dropped, the control first."""
    control = plan.control_index
    return (
        control,
        *(arm for arm in plan.treatments if plan.arms[arm].variant not in dropped),
    )


def _doubtful(seen: Observation, versions: Sequence[int]) -> Held | None:
    """Why the periods cannot be told apart, if they cannot."""
    slices = [seen.slices[index] for index in versions]
    if any(one.others for one in slices):
        return Held.TOO_MANY_PERIODS
    unknown = any(one.value in (None, "0") and sum(one.units) for one in slices)
    return Held.PERIODS_UNKNOWN if unknown else None


def _periods(
    seen: Observation, known: Sequence[int], by_period: Estimate, counts: BoolArray
) -> tuple[Period, ...]:
    return tuple(
        Period(int(seen.slices[index].value or 0), int(units), bool(counted))
        for index, units, counted in zip(known, by_period.units.sum(axis=-1), counts, strict=True)
    )
