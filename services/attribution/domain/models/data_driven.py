"""Models that learn from all journeys, besides the Markov model."""

import math
from dataclasses import dataclass

from services.attribution.domain.shapley import Game
from services.attribution.domain.shapley.learned import Sampling
from shared.errors import invalid

MAX_ROUNDS = 1_000
MAX_POSITIONS = 100
GAMES = (Game.SIMPLIFIED, Game.EXACT_SET_RATE, Game.SUBSET_RATE)


@dataclass(frozen=True, slots=True)
class Shapley:
    """Shapley values of one of the games that need no parameter."""

    game: Game = Game.SIMPLIFIED

    def __post_init__(self) -> None:
        if self.game not in GAMES:
            raise invalid("shapley.game", self.game, ", ".join(game.name for game in GAMES))


@dataclass(frozen=True, slots=True)
class Probabilistic:
    """The second-order model of Shao and Li (2011). It divides totals, and no single conversion."""


@dataclass(frozen=True, slots=True)
class BaggedLogistic:
    """The bagged logistic regression of Shao and Li (2011).

    Parts of journeys and of channels in a round, the rounds, the ridge, and the seed.
    """

    row_part: float = 0.5
    column_part: float = 0.5
    rounds: int = 100
    ridge: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("row_part", "column_part"):
            if not 0 < getattr(self, name) <= 1:
                raise invalid(f"bagged_logistic.{name}", getattr(self, name), "above 0, up to 1")
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise invalid("bagged_logistic.rounds", self.rounds, f"1 to {MAX_ROUNDS}")
        if not 0 < self.ridge < math.inf:
            raise invalid("bagged_logistic.ridge", self.ridge, "a number above 0")
        if self.seed < 0:
            raise invalid("bagged_logistic.seed", self.seed, "a whole number of at least 0")


@dataclass(frozen=True, slots=True)
class Fractribution:
    """What a path converts less without one of its touches."""


@dataclass(frozen=True, slots=True)
class AdditiveHazard:
    """The additive hazard of Zhang, Wei and Ren (2014); see `learned.hazard`.

    Journeys without conversion count as observed until the newest touch or conversion of all.
    """


@dataclass(frozen=True, slots=True)
class OrderedShapley:
    """The simplified game, told apart by the first `positions` places; the last holds the rest."""

    positions: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.positions <= MAX_POSITIONS:
            raise invalid("shapley.positions", self.positions, f"1 to {MAX_POSITIONS}")


@dataclass(frozen=True, slots=True)
class LearnedShapley:
    """The game of what a regression predicts. It divides totals, and no single conversion.

    `pairs` of random orders are drawn from `seed` where there are too many channels for all.
    """

    learner: BaggedLogistic = BaggedLogistic()
    pairs: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        Sampling(self.pairs, self.seed)


DataModel = (
    Shapley
    | OrderedShapley
    | LearnedShapley
    | Probabilistic
    | BaggedLogistic
    | Fractribution
    | AdditiveHazard
)
