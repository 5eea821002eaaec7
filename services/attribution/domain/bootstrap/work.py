"""About how long a replicate of each model takes, so that no report is resampled for hours.

The figures are those of one core of 2023, rounded up. They are a function of the journeys alone, so
that the same report has the same intervals everywhere.
"""

import numpy as np

from services.attribution.domain.channel_sets import index_sets
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import count_chain
from services.attribution.domain.models import (
    AdditiveHazard,
    BaggedLogistic,
    LearnedShapley,
    Markov,
    Model,
    Probabilistic,
    Shapley,
)
from services.attribution.domain.shapley import Game
from services.attribution.domain.shapley.learned import EXACT_PLAYERS

NEWTON_STEPS = 8
A_STEP_S = 5e-5
A_FIT_OF_A_TOUCH_S = 2e-6
"""Some thirty steps of expectation and maximisation."""


def seconds_of(model: Model, journeys: Journeys) -> float:
    """Return about how many seconds one replicate of the model takes, tallies apart."""
    channels = len(np.unique(journeys.codes))
    match model:
        case Markov():
            return _chain(model, journeys, channels)
        case Shapley(game) if game is not Game.SIMPLIFIED:
            return 4e-9 * channels * 2.0**channels
        case Probabilistic():
            return 2e-9 * _sets(journeys) * channels**2
        case BaggedLogistic():
            return _regression(model, _sets(journeys), channels)
        case LearnedShapley():
            return _game(model, _sets(journeys), channels)
        case _:
            fitted = isinstance(model, AdditiveHazard)
            return A_FIT_OF_A_TOUCH_S * len(journeys.codes) if fitted else 0.0


def _chain(model: Markov, journeys: Journeys, channels: int) -> float:
    if model.order == 1:
        return 2e-10 * channels**3
    converting, others = count_chain(journeys, model.order)
    return 2e-7 * len((converting + others).windows) * channels


def _game(model: LearnedShapley, sets: int, channels: int) -> float:
    exact = channels <= EXACT_PLAYERS
    asked = 2.0**channels if exact else 2.0 * model.pairs * (channels + 1)
    predicted = 1e-8 * model.learner.rounds * asked * channels
    return _regression(model.learner, sets, channels) + predicted


def _regression(model: BaggedLogistic, sets: int, channels: int) -> float:
    used = max(1.0, model.column_part * channels)
    return model.rounds * NEWTON_STEPS * (A_STEP_S + 2e-9 * sets * used**2)


def _sets(journeys: Journeys) -> int:
    return len(index_sets(journeys).words)
