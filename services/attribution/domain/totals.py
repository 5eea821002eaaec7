"""Channel totals: what each model credits to each channel, beside its cost."""

from dataclasses import dataclass

from services.attribution.domain.arrays import Floats
from services.attribution.domain.channel_sets import count_sets
from services.attribution.domain.credits import (
    ChannelCredits,
    credits_by_channel,
    path_weights,
    removal_share_credits,
)
from services.attribution.domain.data_driven import (
    data_credits,
    learned_credits,
    learned_game,
)
from services.attribution.domain.economics import cost_per, known, over_cost
from services.attribution.domain.journey_statistics import JourneyStatistics
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.models import (
    DataModel,
    LearnedShapley,
    Markov,
    Model,
    OrderedShapley,
    Output,
    output_of,
)
from services.attribution.domain.shapley.additive import OrderedCredits, ordered

# Elsewhere what is left is the rounding of a sum.
_LEAVES_SOME = frozenset((Output.SAME_TOUCH, Output.PROBABILISTIC, Output.SHAPLEY_LEARNED))


@dataclass(frozen=True, slots=True)
class ChannelTotals:
    """What one model credits to one channel.

    `share` is of all conversions that saw a touch, undefined (None) where there are none.
    `cost_per_conversion` is undefined without a cost or without credited conversions, and
    `return_on_spend`, which is value over cost, without a cost: a free channel is not infinitely
    good. Only Markov models give a `removal_effect`. The ordered Shapley game tells conversions and
    value by place in the path, and the learned one the standard error of the conversions from
    drawing orders of channels.
    """

    channel: str
    conversions: float
    value: float
    share: float | None
    cost_per_conversion: float | None
    return_on_spend: float | None
    removal_effect: float | None = None
    positions: tuple[tuple[float, float], ...] = ()
    sampling_std_err: float | None = None


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """One table of credits, its channels in the order of their names.

    `uncredited` are the conversions that saw touches and that the model credits to none of them.
    """

    model: Model
    output: Output
    channels: tuple[ChannelTotals, ...]
    uncredited: float = 0.0

    @property
    def additive(self) -> bool:
        """Whether the channels and `uncredited` sum to the conversions."""
        return self.output.additive


def model_totals(
    model: Model, statistics: JourneyStatistics, journeys: Journeys
) -> tuple[ModelTotals, ...]:
    """Return the tables of one model: two for a Markov model, one for any other.

    `statistics` must hold the model, and be those of `journeys`.
    """
    if isinstance(model, Markov):
        return _markov_totals(model, statistics, journeys)
    details = _Details()
    if isinstance(model, LearnedShapley):
        histogram = count_sets(journeys)
        game = learned_game(model, histogram)
        credits_ = learned_credits(game, histogram)
        total = float(game.values.sum())
        scale = statistics.counts.converting / total if total > 0 else 0.0
        details = _Details(std_err=game.std_err * scale)
    elif isinstance(model, DataModel):
        credits_ = data_credits(model, journeys)
        if isinstance(model, OrderedShapley):
            details = _Details(ordered=ordered(journeys, model.positions))
    else:
        credits_ = statistics.rule_credits[model]
    output = output_of(model)
    unshared = statistics.counts.converting - float(credits_.conversions.sum())
    return (
        ModelTotals(
            model,
            output,
            _channels(statistics, credits_, details),
            max(0.0, unshared) if output in _LEAVES_SOME else 0.0,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Details:
    """What only some models say of channels."""

    effects: Floats | None = None
    ordered: OrderedCredits | None = None
    std_err: Floats | None = None


def _markov_totals(
    model: Markov, statistics: JourneyStatistics, journeys: Journeys
) -> tuple[ModelTotals, ...]:
    effects = statistics.removal_effects(model)
    # Of no conversions no part can be lost: the effects are undefined, and not 0.
    details = _Details(effects.effects if statistics.counts.converting else None)
    shares = removal_share_credits(effects, statistics.counts.converting, statistics.counts.value)
    paths = credits_by_channel(path_weights(journeys, effects.effects), journeys)
    return (
        ModelTotals(model, Output.MARKOV_REMOVAL_SHARE, _channels(statistics, shares, details)),
        ModelTotals(model, Output.MARKOV_PATH_CREDIT, _channels(statistics, paths, details)),
    )


def _channels(
    statistics: JourneyStatistics, credits_: ChannelCredits, details: _Details
) -> tuple[ChannelTotals, ...]:
    nothing = [None] * len(statistics.channels)
    columns = zip(
        statistics.channels,
        credits_.conversions.tolist(),
        credits_.values.tolist(),
        statistics.by_channel.costs.tolist(),
        nothing if details.effects is None else details.effects.tolist(),
        _positions(details.ordered, len(statistics.channels)),
        nothing if details.std_err is None else details.std_err.tolist(),
        strict=True,
    )
    converting = statistics.counts.converting
    return tuple(
        ChannelTotals(
            channel=channel,
            conversions=conversions,
            value=value,
            share=conversions / converting if converting else None,
            cost_per_conversion=known(cost_per(cost, conversions)),
            return_on_spend=known(over_cost(value, cost)),
            removal_effect=effect,
            positions=positions,
            sampling_std_err=std_err,
        )
        for channel, conversions, value, cost, effect, positions, std_err in columns
    )


def _positions(
    found: OrderedCredits | None, channels: int
) -> list[tuple[tuple[float, float], ...]]:
    if found is None:
        return [()] * channels
    return [
        tuple(zip(conversions, values, strict=True))
        for conversions, values in zip(
            found.conversions.T.tolist(), found.values.T.tolist(), strict=True
        )
    ]
