"""The models there are, and the names of the tables that they give."""

from enum import Enum

from services.attribution.domain.models.data_driven import (
    AdditiveHazard,
    BaggedLogistic,
    DataModel,
    Fractribution,
    LearnedShapley,
    OrderedShapley,
    Probabilistic,
    Shapley,
)
from services.attribution.domain.models.markov import AutomaticMarkov, Markov
from services.attribution.domain.models.milestones import FullPath
from services.attribution.domain.models.position import ByPosition, Custom, Position, RankDecay
from services.attribution.domain.models.rules import (
    FirstTouch,
    LastNonDirect,
    LastTouch,
    Linear,
    Participation,
    SameTouch,
    TimeDecay,
)
from services.attribution.domain.shapley import Game

RuleModel = (
    FirstTouch
    | LastTouch
    | LastNonDirect
    | Linear
    | Position
    | TimeDecay
    | RankDecay
    | Custom
    | ByPosition
    | FullPath
    | Participation
    | SameTouch
)
Model = RuleModel | Markov | DataModel
AskedModel = Model | AutomaticMarkov
"""What can be asked for: the journeys themselves choose the order of an automatic Markov model."""

EVERY_MODEL: tuple[Model, ...] = (
    FirstTouch(),
    LastTouch(),
    Linear(),
    Position(),
    TimeDecay(),
    Markov(),
)
"""What is answered where no model is asked for: those that need no parameter."""


class Output(Enum):
    """The tables of credits that models give; a Markov model gives two of them.

    All but MARKOV_REMOVAL_SHARE, PROBABILISTIC, SHAPLEY_LEARNED and PARTICIPATION divide each
    conversion, so their totals are sums of credits. The first three divide only the total, and the
    channel totals of MARKOV_REMOVAL_SHARE differ from those of MARKOV_PATH_CREDIT: a share of the
    whole need not be a sum of shares of journeys.
    PARTICIPATION divides nothing: it counts a conversion for every channel that took part.
    """

    FIRST_TOUCH = "first_touch"
    LAST_TOUCH = "last_touch"
    LINEAR = "linear"
    POSITION_BASED = "position_based"
    TIME_DECAY = "time_decay"
    MARKOV_REMOVAL_SHARE = "markov_removal_share"
    MARKOV_PATH_CREDIT = "markov_path_credit"
    LAST_NON_DIRECT = "last_non_direct"
    RANK_DECAY = "rank_decay"
    CUSTOM = "custom"
    BY_POSITION = "by_position"
    FULL_PATH = "full_path"
    PARTICIPATION = "participation"
    SAME_TOUCH = "same_touch"
    SHAPLEY_SIMPLIFIED = "shapley_simplified"
    SHAPLEY_EXACT_SET_RATE = "shapley_exact_set_rate"
    SHAPLEY_SUBSET_RATE = "shapley_subset_rate"
    SHAPLEY_ORDERED = "shapley_ordered"
    SHAPLEY_LEARNED = "shapley_learned"
    PROBABILISTIC = "probabilistic"
    BAGGED_LOGISTIC = "bagged_logistic"
    FRACTRIBUTION = "fractribution"
    ADDITIVE_HAZARD = "additive_hazard"

    @property
    def additive(self) -> bool:
        """Whether the channels of the table sum to the conversions that are credited."""
        return self is not Output.PARTICIPATION


_OUTPUTS: dict[type[RuleModel | DataModel], Output] = {
    FirstTouch: Output.FIRST_TOUCH,
    LastTouch: Output.LAST_TOUCH,
    LastNonDirect: Output.LAST_NON_DIRECT,
    Linear: Output.LINEAR,
    Position: Output.POSITION_BASED,
    TimeDecay: Output.TIME_DECAY,
    RankDecay: Output.RANK_DECAY,
    Custom: Output.CUSTOM,
    ByPosition: Output.BY_POSITION,
    FullPath: Output.FULL_PATH,
    Participation: Output.PARTICIPATION,
    SameTouch: Output.SAME_TOUCH,
    OrderedShapley: Output.SHAPLEY_ORDERED,
    LearnedShapley: Output.SHAPLEY_LEARNED,
    Probabilistic: Output.PROBABILISTIC,
    BaggedLogistic: Output.BAGGED_LOGISTIC,
    Fractribution: Output.FRACTRIBUTION,
    AdditiveHazard: Output.ADDITIVE_HAZARD,
}


_GAMES = {
    Game.SIMPLIFIED: Output.SHAPLEY_SIMPLIFIED,
    Game.EXACT_SET_RATE: Output.SHAPLEY_EXACT_SET_RATE,
    Game.SUBSET_RATE: Output.SHAPLEY_SUBSET_RATE,
}


def output_of(model: RuleModel | DataModel) -> Output:
    """The one table that a model gives."""
    if isinstance(model, Shapley):
        return _GAMES[model.game]
    return _OUTPUTS[type(model)]


def divides_conversions(model: AskedModel) -> bool:
    """Whether the model gives every conversion its own division among touches."""
    return not isinstance(model, Probabilistic | LearnedShapley)
