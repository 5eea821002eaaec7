"""Models that weigh touches by their channel or their time."""

from dataclasses import dataclass
from enum import Enum

from services.attribution.domain.journeys import DAY_US
from shared.errors import invalid

MAX_HALF_LIFE_US = 366 * DAY_US
DIRECT = frozenset({"direct"})


@dataclass(frozen=True, slots=True)
class FirstTouch:
    """Everything to the first touch."""


@dataclass(frozen=True, slots=True)
class LastTouch:
    """Everything to the last touch."""


@dataclass(frozen=True, slots=True)
class LastNonDirect:
    """Everything to the last touch of a channel that is not direct.

    `direct` names the channels that count as direct, as touches came through them, whatever is
    credited; one that no touch has does no harm. Where every touch of a journey is direct, its last
    touch gets everything.
    """

    direct: frozenset[str] = DIRECT

    def __post_init__(self) -> None:
        if not self.direct:
            raise invalid("last_non_direct.direct", "empty", "at least one channel")


class LinearOver(Enum):
    """What gets equal parts.

    TOUCHES: every touch. CHANNELS: every distinct channel, shared equally by its touches. RUNS:
    every run of touches of one channel, shared equally by the touches of the run.
    """

    TOUCHES = "touches"
    CHANNELS = "channels"
    RUNS = "runs"


@dataclass(frozen=True, slots=True)
class Linear:
    """The same to every touch, distinct channel or run of touches."""

    over: LinearOver = LinearOver.TOUCHES


class DecayAge(Enum):
    """How old a touch is, in half-lives.

    EXACT: from the touch to the conversion, or to the last touch: both give the same weights.
    WHOLE_FROM_CONVERSION, WHOLE_FROM_LAST_TOUCH: rounded down to whole half-lives, which makes
    the instant that one counts from matter.
    """

    EXACT = "exact"
    WHOLE_FROM_CONVERSION = "whole_from_conversion"
    WHOLE_FROM_LAST_TOUCH = "whole_from_last_touch"


@dataclass(frozen=True, slots=True)
class TimeDecay:
    """Half the weight for every `half_life_us` microseconds before the conversion.

    Another `factor` than a half is what is left of it then.
    """

    half_life_us: int = 7 * DAY_US
    age: DecayAge = DecayAge.EXACT
    factor: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.half_life_us <= MAX_HALF_LIFE_US:
            raise invalid(
                "time_decay.half_life",
                f"{self.half_life_us / 1e6} s",
                "a duration above 0 and of at most 366 days",
            )
        if not 0 < self.factor < 1:
            raise invalid("time_decay.factor", self.factor, "a part between 0 and 1")


@dataclass(frozen=True, slots=True)
class Participation:
    """The whole conversion to every distinct channel of the journey: not additive.

    The touches of a channel share its 1 equally. The sum over channels counts a conversion once
    for each of its channels, so it is no total, and no column of an additive model adds to it.
    """


@dataclass(frozen=True, slots=True)
class SameTouch:
    """Everything to the touches at most `within_us` microseconds before the conversion, equally.

    A conversion without such a touch is credited to no channel and stays in `uncredited`.
    """

    within_us: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.within_us <= DAY_US:
            raise invalid("same_touch.within", f"{self.within_us / 1e6} s", "0 to 1 day")
