"""Every model side by side: fitted to some units, and judged by the journeys of others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import distinct
from services.attribution.domain.held_out.fit import HeldOutFit, Owners, judge
from services.attribution.domain.held_out.predictors import (
    Predictor,
    additive_hazard,
    bagged_logistic,
    exact_path,
    exact_set,
    markov,
    shao_li,
    subset_rate,
)
from services.attribution.domain.held_out.split import Split
from services.attribution.domain.learned.hazard import Stopping
from services.attribution.domain.learned.logistic import Bagging
from services.attribution.domain.models import (
    AdditiveHazard,
    BaggedLogistic,
    Fractribution,
    LearnedShapley,
    Markov,
    Model,
    OrderedShapley,
    Probabilistic,
    RuleModel,
    Shapley,
    output_of,
)
from services.attribution.domain.shapley import Game

A_RULE = "a rule divides conversions, and predicts none."
COUNTS_ONLY = "the game counts conversions, and looks at no journey without one: it predicts none."
ALL_CONVERT = "fitted to converting journeys alone, it predicts a conversion for every journey."


@dataclass(frozen=True, slots=True)
class Observation:
    """What predictions over time need: the newest moment that was seen, and how far to look."""

    until_us: int
    horizon_us: int


@dataclass(frozen=True, slots=True)
class ModelFit:
    """How well one model predicts, or why it was not judged."""

    model: Model
    name: str
    fit: HeldOutFit | None
    why_none: str = ""


def fit_models(
    models: Sequence[Model], split: Split, observed: Observation, min_units: int = 1
) -> tuple[ModelFit, ...]:
    """Judge each model, in their order.

    Of fewer than `min_units` held-out units nothing is said, and no bin is of fewer.
    """
    units = len(distinct(split.held_out.units))
    too_few = ""
    if units < min_units:
        too_few = f"of fewer than {min_units} held-out units nothing is said."
    elif not len(split.training) or not units:
        too_few = "no journeys were left to fit to, or none were held out."
    return tuple(_fit(model, split, observed, min_units, too_few) for model in models)


def name_of(model: Model) -> str:
    """The name of a model among fits and warnings."""
    return f"markov_{model.order}" if isinstance(model, Markov) else output_of(model).value


def _fit(
    model: Model, split: Split, observed: Observation, min_units: int, too_few: str
) -> ModelFit:
    name, predictor = name_of(model), _predictor(model, observed)
    if isinstance(predictor, str) or too_few:
        return ModelFit(model, name, None, predictor if isinstance(predictor, str) else too_few)
    chances = predictor(split.training, split.held_out)
    held = split.held_out
    owners = Owners(held.units, min_units)
    found = judge(name, np.clip(chances, 0.0, 1.0), held.converted, owners=owners)
    return ModelFit(model, name, found)


def _predictor(model: Model, observed: Observation) -> Predictor | str:
    """What predicts by the model, or why nothing does."""
    if isinstance(model, RuleModel):
        return A_RULE
    match model:
        case Markov(ignore_non_converting=True):
            return ALL_CONVERT
        case Markov(order=order):
            return markov(order)
        case Shapley(Game.SIMPLIFIED) | OrderedShapley():
            return COUNTS_ONLY
        case Shapley(game):
            return exact_set if game is Game.EXACT_SET_RATE else subset_rate
        case _:
            return _learned(model, observed)


def _learned(
    model: LearnedShapley | Probabilistic | BaggedLogistic | Fractribution | AdditiveHazard,
    observed: Observation,
) -> Predictor:
    match model:
        case LearnedShapley(learner):
            return bagged_logistic(_bagging(learner))
        case BaggedLogistic():
            return bagged_logistic(_bagging(model))
        case Probabilistic():
            return shao_li
        case Fractribution():
            return exact_path
        case AdditiveHazard():
            return additive_hazard(observed.until_us, observed.horizon_us, Stopping())


def _bagging(model: BaggedLogistic) -> Bagging:
    return Bagging(model.row_part, model.column_part, model.rounds, model.ridge, model.seed)
