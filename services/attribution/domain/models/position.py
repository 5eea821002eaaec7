"""Models that weigh touches by where they stand in the journey."""

import math
from dataclasses import dataclass
from enum import Enum

from shared.errors import invalid

SUM_TOLERANCE = 1e-9
MAX_LISTED_WEIGHTS = 100


class TwoTouchRule(Enum):
    """What becomes of the middle weight when a journey has two touches.

    RENORMALISE: the ends share in proportion to their own weights, f/(f + l) and l/(f + l).
    SPLIT_MIDDLE: each end gets half of the middle, f + m/2 and l + m/2.
    """

    RENORMALISE = "renormalise"
    SPLIT_MIDDLE = "split_middle"


class PositionVariant(Enum):
    """Which touches get the three weights of a J when there are four touches or more.

    ENDS_AND_MIDDLE: first, those between, last; 20/10/10/60 for the J of four touches.
    PENULTIMATE: the heavier end, its neighbour, and the rest; 10/10/20/60 for the same J, and
    60/20/10/10 for its inverse. The neighbour gets the middle, the rest share the lighter end.
    """

    ENDS_AND_MIDDLE = "ends_and_middle"
    PENULTIMATE = "penultimate"


@dataclass(frozen=True, slots=True)
class Position:
    """Weights of the first and of the last touch; those between share the rest equally.

    The U shape is .4 and .4, the J .2 and .6, the inverse J .6 and .2.
    """

    first: float = 0.4
    last: float = 0.4
    two_touch_rule: TwoTouchRule = TwoTouchRule.RENORMALISE
    variant: PositionVariant = PositionVariant.ENDS_AND_MIDDLE

    def __post_init__(self) -> None:
        # Written so that a NaN fails too.
        for end in ("first", "last"):
            weight = getattr(self, end)
            if not 0 <= weight <= 1:
                raise invalid(f"position_based.{end}", weight, "a weight between 0 and 1")
        if not self.first + self.last <= 1 + SUM_TOLERANCE:
            raise invalid(
                "position_based",
                f"first {self.first} and last {self.last}, which sum to {self.first + self.last}",
                "weights that sum to at most 1",
            )
        if self.two_touch_rule is TwoTouchRule.RENORMALISE and self.first + self.last == 0:
            raise invalid(
                "position_based",
                "first 0 and last 0",
                "a weight at one end at least, or the two-touch rule SPLIT_MIDDLE",
            )
        if self.variant is PositionVariant.PENULTIMATE and self.first == self.last:
            raise invalid(
                "position_based.variant",
                f"PENULTIMATE with first and last {self.first}",
                "PENULTIMATE where one end is heavier than the other",
            )

    @property
    def middle(self) -> float:
        """The weight that the touches between first and last share."""
        return max(0.0, 1.0 - self.first - self.last)


def u_shaped() -> Position:
    """40% to each end, 20% between."""
    return Position(0.4, 0.4)


def j_shaped(
    two_touch_rule: TwoTouchRule = TwoTouchRule.RENORMALISE,
    variant: PositionVariant = PositionVariant.ENDS_AND_MIDDLE,
) -> Position:
    """60% to the last touch."""
    return Position(0.2, 0.6, two_touch_rule, variant)


def inverse_j_shaped(
    two_touch_rule: TwoTouchRule = TwoTouchRule.RENORMALISE,
    variant: PositionVariant = PositionVariant.ENDS_AND_MIDDLE,
) -> Position:
    """60% to the first touch."""
    return Position(0.6, 0.2, two_touch_rule, variant)


@dataclass(frozen=True, slots=True)
class Custom:
    """Weights of first, middle and last touches that need not sum to 1 or to 100.

    They are divided by their sum, and then weigh as `Position` does.
    """

    first: float
    middle: float
    last: float
    two_touch_rule: TwoTouchRule = TwoTouchRule.SPLIT_MIDDLE

    def __post_init__(self) -> None:
        _require_weights("custom", (self.first, self.middle, self.last))
        if self.two_touch_rule is TwoTouchRule.RENORMALISE and self.first + self.last == 0:
            raise invalid(
                "custom",
                "first 0 and last 0",
                "a weight at one end at least, or the two-touch rule SPLIT_MIDDLE",
            )

    @property
    def position(self) -> Position:
        """The same model with weights that sum to 1."""
        total = self.first + self.middle + self.last
        return Position(self.first / total, self.last / total, self.two_touch_rule)


class CountFrom(Enum):
    """Which end of a journey a list of weights begins at."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class ByPosition:
    """One weight for each position, counted from one end, and one for every touch beyond them.

    The weights of a journey are divided by their sum. Where that is 0 (three touches under the
    weights 0, 0, 1 are fine, two are not) its touches share equally.
    """

    weights: tuple[float, ...]
    count_from: CountFrom = CountFrom.FIRST
    beyond: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < len(self.weights) <= MAX_LISTED_WEIGHTS:
            raise invalid(
                "by_position.weights",
                f"{len(self.weights)} weights",
                f"1 to {MAX_LISTED_WEIGHTS} weights",
            )
        _require_weights("by_position", (*self.weights, self.beyond))


@dataclass(frozen=True, slots=True)
class RankDecay:
    """Weights 1, 2, 3, ... from the first touch to the last, divided by their sum."""


def _require_weights(field: str, weights: tuple[float, ...]) -> None:
    for weight in weights:
        if not (weight >= 0 and math.isfinite(weight)):
            raise invalid(field, weight, "finite weights that are not negative")
    if not 0 < math.fsum(weights) < math.inf:
        raise invalid(field, math.fsum(weights), "weights with a finite sum above 0")
