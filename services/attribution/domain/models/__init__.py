"""The attribution models, each with its parameters, and the names of their outputs."""

from services.attribution.domain.models.markov import MAX_ORDER, Markov
from services.attribution.domain.models.milestones import (
    FullPath,
    Milestone,
    w_shaped,
    z_shaped,
)
from services.attribution.domain.models.outputs import (
    EVERY_MODEL,
    Model,
    Output,
    RuleModel,
    output_of,
)
from services.attribution.domain.models.position import (
    ByPosition,
    CountFrom,
    Custom,
    Position,
    PositionVariant,
    RankDecay,
    TwoTouchRule,
    inverse_j_shaped,
    j_shaped,
    u_shaped,
)
from services.attribution.domain.models.rules import (
    MAX_HALF_LIFE_US,
    DecayAge,
    FirstTouch,
    LastNonDirect,
    LastTouch,
    Linear,
    LinearOver,
    Participation,
    SameTouch,
    TimeDecay,
)

__all__ = [
    "EVERY_MODEL",
    "MAX_HALF_LIFE_US",
    "MAX_ORDER",
    "ByPosition",
    "CountFrom",
    "Custom",
    "DecayAge",
    "FirstTouch",
    "FullPath",
    "LastNonDirect",
    "LastTouch",
    "Linear",
    "LinearOver",
    "Markov",
    "Milestone",
    "Model",
    "Output",
    "Participation",
    "Position",
    "PositionVariant",
    "RankDecay",
    "RuleModel",
    "SameTouch",
    "TimeDecay",
    "TwoTouchRule",
    "inverse_j_shaped",
    "j_shaped",
    "output_of",
    "u_shaped",
    "w_shaped",
    "z_shaped",
]
