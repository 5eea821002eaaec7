"""The attribution models, each with its parameters, and the names of their outputs."""

from dataclasses import dataclass
from enum import Enum

from services.attribution.domain.journeys import DAY_US
from shared.errors import invalid

SUM_TOLERANCE = 1e-9
MAX_HALF_LIFE_US = 366 * DAY_US


class TwoTouchRule(Enum):
    """What becomes of the middle weight when a journey has two touches.

    RENORMALISE: the ends share in proportion to their own weights, f/(f + l) and l/(f + l).
    SPLIT_MIDDLE: each end gets half of the middle, f + m/2 and l + m/2.
    """

    RENORMALISE = "renormalise"
    SPLIT_MIDDLE = "split_middle"


@dataclass(frozen=True, slots=True)
class FirstTouch:
    """Everything to the first touch."""


@dataclass(frozen=True, slots=True)
class LastTouch:
    """Everything to the last touch."""


@dataclass(frozen=True, slots=True)
class Linear:
    """The same to every touch."""


@dataclass(frozen=True, slots=True)
class Position:
    """Weights of the first and of the last touch; those between share the rest equally."""

    first: float = 0.4
    last: float = 0.4
    two_touch_rule: TwoTouchRule = TwoTouchRule.RENORMALISE

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

    @property
    def middle(self) -> float:
        """The weight that the touches between first and last share."""
        return max(0.0, 1.0 - self.first - self.last)


@dataclass(frozen=True, slots=True)
class TimeDecay:
    """Half the weight for every `half_life_us` microseconds before the conversion."""

    half_life_us: int = 7 * DAY_US

    def __post_init__(self) -> None:
        if not 0 < self.half_life_us <= MAX_HALF_LIFE_US:
            raise invalid(
                "time_decay.half_life",
                f"{self.half_life_us / 1e6} s",
                "a duration above 0 and of at most 366 days",
            )


@dataclass(frozen=True, slots=True)
class Markov:
    """Removal effects of the order-1 chain, with or without the journeys that did not convert."""

    ignore_non_converting: bool = False


RuleModel = FirstTouch | LastTouch | Linear | Position | TimeDecay
Model = RuleModel | Markov

EVERY_MODEL: tuple[Model, ...] = (
    FirstTouch(),
    LastTouch(),
    Linear(),
    Position(),
    TimeDecay(),
    Markov(),
)


class Output(Enum):
    """The tables of credits that models give; a Markov model gives the last two.

    All but MARKOV_REMOVAL_SHARE divide each conversion, so their totals are sums of credits.
    MARKOV_REMOVAL_SHARE divides only the total, and its channel totals differ from those of
    MARKOV_PATH_CREDIT: a share of the whole need not be a sum of shares of journeys.
    """

    FIRST_TOUCH = "first_touch"
    LAST_TOUCH = "last_touch"
    LINEAR = "linear"
    POSITION_BASED = "position_based"
    TIME_DECAY = "time_decay"
    MARKOV_REMOVAL_SHARE = "markov_removal_share"
    MARKOV_PATH_CREDIT = "markov_path_credit"
