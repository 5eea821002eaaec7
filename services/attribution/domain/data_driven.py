"""Credits of the models that learn from all journeys."""

import numpy as np

from services.attribution.domain.arrays import Floats
from services.attribution.domain.channel_sets import (
    SetHistogram,
    cells_of,
    count_sets,
    index_sets,
)
from services.attribution.domain.credits import ChannelCredits, credits_by_channel
from services.attribution.domain.fractribution import fractribution_weights
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.learned.hazard import Stopping, fit_hazard
from services.attribution.domain.learned.logistic import Bagging, fit_bagged, logistic_credits
from services.attribution.domain.learned.probabilistic import pair_rates, probabilistic_credits
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
from services.attribution.domain.shapley import Game, additive
from services.attribution.domain.shapley.lattice import require_few
from services.attribution.domain.shapley.learned import LearnedValues, Sampling, learned_values
from services.attribution.domain.shapley.rates import rate_shares
from shared.errors import invalid

MAX_PREDICTED_CELLS = 5_000_000_000


def data_credits(model: DataModel, journeys: Journeys) -> ChannelCredits:
    """Return the credits by channel. A model that finds no difference at all credits nothing."""
    match model:
        case Probabilistic():
            return shao_li_credits(count_sets(journeys))
        case LearnedShapley():
            histogram = count_sets(journeys)
            return learned_credits(learned_game(model, histogram), histogram)
        case _:
            return credits_by_channel(data_weights(model, journeys), journeys)


def shao_li_credits(histogram: SetHistogram) -> ChannelCredits:
    """Divide the conversions of the histogram, and their value, by the second-order model."""
    found = probabilistic_credits(pair_rates(histogram), histogram)
    nothing = np.zeros(len(histogram.channels))
    shares = nothing if found.shares is None else found.shares
    of_value = shares if found.value_shares is None else found.value_shares
    return ChannelCredits(
        conversions=shares * int(histogram.conversions.sum()),
        values=of_value * float(histogram.values.sum()),
    )


def bagged_credits(model: BaggedLogistic, histogram: SetHistogram) -> ChannelCredits:
    """Divide every conversion of the histogram, and its value, by the bagged regression."""
    return logistic_credits(fit_bagged(histogram, _bagging(model)), histogram)


def learned_game(model: LearnedShapley, histogram: SetHistogram) -> LearnedValues:
    """Fit the regression of the model, and return the Shapley values of its predictions."""
    channels = len(histogram.channels)
    _require_few_cells(model, channels)
    fitted = fit_bagged(histogram, _bagging(model.learner))
    return learned_values(fitted.predict, channels, Sampling(model.pairs, model.seed))


def require_possible(model: DataModel, journeys: Journeys) -> None:
    """INVALID_ARGUMENT for a model that would not end over the channels of the journeys."""
    if isinstance(model, Shapley) and model.game is not Game.SIMPLIFIED:
        require_few(len(np.unique(journeys.codes)))
    elif isinstance(model, LearnedShapley):
        _require_few_cells(model, len(journeys.channels))


def _require_few_cells(model: LearnedShapley, channels: int) -> None:
    cells = 2 * model.pairs * (channels + 1) * channels * model.learner.rounds
    if cells > MAX_PREDICTED_CELLS:
        allowed = f"at most {model.pairs * MAX_PREDICTED_CELLS // cells} over {channels} channels"
        raise invalid("shapley.pairs", model.pairs, f"{allowed} and {model.learner.rounds} rounds")


def learned_credits(found: LearnedValues, histogram: SetHistogram) -> ChannelCredits:
    """Divide the conversions, and their value, by the Shapley values of predictions."""
    shares = np.zeros(len(found.values)) if found.shares is None else found.shares
    return ChannelCredits(
        conversions=shares * int(histogram.conversions.sum()),
        values=shares * float(histogram.values.sum()),
    )


def data_weights(model: DataModel, journeys: Journeys) -> Floats:
    """Return the weight of each touch of the converting journeys; those of a journey sum to 1.

    A channel's part of a conversion is shared equally by its touches. INVALID_ARGUMENT for a model
    that divides no single conversion.
    """
    match model:
        case Shapley(Game.SIMPLIFIED) | OrderedShapley():
            return additive.touch_weights(journeys)
        case Shapley(game):
            return _shared(rate_shares(game, count_sets(journeys)), journeys)
        case BaggedLogistic():
            histogram = count_sets(journeys)
            fitted = fit_bagged(histogram, _bagging(model))
            return _shared(fitted.set_shares(histogram.members), journeys)
        case AdditiveHazard():
            return hazard_weights(journeys)
        case Fractribution():
            return fractribution_weights(journeys)
        case Probabilistic() | LearnedShapley():
            allowed = "a model that divides each conversion; this one divides the total alone"
            raise invalid("model", type(model).__name__, allowed)


def hazard_weights(journeys: Journeys, journey_weights: Floats | None = None) -> Floats:
    """Return what the additive hazard credits each touch of the converting journeys with, where
    each journey counts so many times.
    """
    fitted = fit_hazard(journeys, _newest(journeys), Stopping(), journey_weights)
    weights = fitted.touch_weights(journeys)
    if journey_weights is None:
        return weights
    lengths = np.diff(journeys.converting_offsets)
    return weights * np.repeat(journey_weights[: journeys.converting], lengths)


def _newest(journeys: Journeys) -> int:
    """The time of the newest touch or conversion, in microseconds."""
    return int(np.concatenate([[0], journeys.times, journeys.conversion_times]).max())


def _bagging(model: BaggedLogistic) -> Bagging:
    return Bagging(model.row_part, model.column_part, model.rounds, model.ridge, model.seed)


def _shared(set_shares: Floats, journeys: Journeys) -> Floats:
    """Turn the shares of channels in each set (S, C) into the weights of touches."""
    of_journey = index_sets(journeys).of_journey[: journeys.converting]
    cells = cells_of(journeys.converting_codes, journeys.converting_offsets, len(journeys.channels))
    shares = set_shares[of_journey[cells.journeys], cells.channels] / cells.touches
    weights: Floats = shares[cells.of_touch]
    return weights
