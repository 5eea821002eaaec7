"""Weights of arms that follow the evidence: who gets the traffic of the next period."""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from touchstone_statistics.best import Best
from touchstone_statistics.gaps import FloatArray, GapArray, quotient

TOTAL_WEIGHT = 10_000
"""Assignment takes whole weights that add up to this."""


class Hold(enum.IntEnum):
    """Why the weights stay equal; NONE says that they follow the evidence."""

    NONE = 0
    TOO_FEW_UNITS = 1
    TOO_FEW_PERIODS = 2
    NO_POSTERIOR = 3


class Policy(enum.Enum):
    """What the weights are for."""

    THOMPSON = "thompson"
    """Earn while learning: the weight of an arm is its chance to be the best.

    Source: Thompson (1933), "On the likelihood that one unknown probability exceeds another".
    """
    TOP_TWO = "top-two"
    """Find the best arm soon: the probable best shares its weight with its strongest rivals.

    Source: Russo (2016), "Simple Bayesian algorithms for best arm identification", algorithm 3.
    """


@dataclass(frozen=True, slots=True)
class Bandit:
    """How weights are set from the chance of each arm to be the best.

    `floor` is the least share of an arm: it keeps every arm measurable and its propensity known to
    be above zero. Until every arm has `least_units` and `least_periods` are over the weights stay
    equal. `leader_share` is the part of a top-two weight that goes to the draw of the best itself.
    """

    policy: Policy = Policy.THOMPSON
    floor: float = 0.01
    least_units: float = 100.0
    least_periods: int = 1
    leader_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor < 1.0:
            raise ValueError(f"floor is {self.floor}; it must be at least 0 and below 1")
        if not 0.0 < self.leader_share <= 1.0:
            raise ValueError(f"leader_share is {self.leader_share}; it must be above 0, at most 1")
        for name in ("least_units", "least_periods"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")

    def weigh(self, best: Best, units: FloatArray, periods: int) -> "Allocation":
        """Weights of the next period; arms on the last axis, strata on any axes before it.

        `units` are those of each arm so far. With strata (a contextual bandit) each has weights of
        its own, and is held by its own units.
        """
        arms = best.probability.shape[-1]
        if arms * self.floor > 1.0:
            raise ValueError(
                f"floor is {self.floor}; {arms} arms leave room for at most {1 / arms:.4g}"
            )
        unknown = np.any(best.gap != 0, axis=-1)
        hold = np.where(np.any(units < self.least_units, axis=-1), Hold.TOO_FEW_UNITS, Hold.NONE)
        hold = np.where(periods < self.least_periods, Hold.TOO_FEW_PERIODS, hold)
        hold = np.where(unknown, Hold.NO_POSTERIOR, hold).astype(np.uint8)
        equal = np.full(best.probability.shape, 1.0 / arms)
        chance = np.where((hold == Hold.NONE)[..., None], best.probability, equal)
        if self.policy is Policy.TOP_TWO:
            moved = top_two(chance, self.leader_share)
            chance = np.where((hold == Hold.NONE)[..., None], moved, equal)
        return Allocation(floored(chance, self.floor), hold)


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """Share of the traffic of each arm, and why it is the equal one where it is held.

    `share` has the arms on its last axis and adds up to 1 there; `hold` has a `Hold` a stratum.
    """

    share: FloatArray
    hold: GapArray

    @property
    def weights(self) -> NDArray[np.int64]:
        """Whole weights for assignment, which add up to `TOTAL_WEIGHT`."""
        return whole_weights(self.share, TOTAL_WEIGHT)


def top_two(chance: FloatArray, leader_share: float = 0.5) -> FloatArray:
    """Chance of each arm to be drawn by top-two Thompson sampling, in closed form.

    Source: Russo (2016), section 3.4: p_k (b + (1 - b) sum over j != k of p_j / (1 - p_j)), where p
    is the chance to be the best, b the share of the leader. 1 - p_j is summed over the rivals of j,
    so that it keeps its digits. Where a rival has no chance at all they share the rest equally,
    which is the limit of equal and small chances.
    """
    arms = chance.shape[-1]
    others = 1.0 - np.eye(arms)
    rest = chance @ others
    # second[..., j, k]: the chance of k to be drawn after the leader j.
    even = others / max(arms - 1, 1)
    second = quotient(chance[..., None, :] * others, rest[..., :, None], even)
    challenger = np.einsum("...j,...jk->...k", chance, second)
    return np.asarray(leader_share * chance + (1.0 - leader_share) * challenger)


def floored(share: FloatArray, floor: float) -> FloatArray:
    """Shares moved up to at least `floor`: f + (1 - K f) w.

    Unlike clipping and dividing by the sum it keeps the floor exactly and the order of the arms.
    """
    return np.asarray(floor + (1.0 - share.shape[-1] * floor) * share)


def whole_weights(share: FloatArray, total: int) -> NDArray[np.int64]:
    """Whole numbers in proportion to the shares that add up to `total` exactly.

    By the largest remainder (Hare and Niemeyer): no arm is off by one or more. Of equal remainders
    the first arm takes the unit, so the answer is the same every time.
    """
    exact = share / share.sum(axis=-1, keepdims=True) * total
    whole = np.floor(exact)
    left = total - whole.sum(axis=-1, keepdims=True)
    order = np.argsort(-(exact - whole), axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    return np.asarray(whole + (rank < left), dtype=np.int64)
