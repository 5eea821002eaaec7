"""Channel totals: what each model credits to each channel, beside its cost."""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.credits import (
    ChannelCredits,
    credits_by_channel,
    path_weights,
    removal_share_credits,
)
from services.attribution.domain.data_driven import data_credits
from services.attribution.domain.journey_statistics import JourneyStatistics
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import RemovalEffects
from services.attribution.domain.models import DataModel, Markov, Model, Output, output_of

# Elsewhere what is left is the rounding of a sum.
_LEAVES_SOME = frozenset((Output.SAME_TOUCH, Output.PROBABILISTIC))


@dataclass(frozen=True, slots=True)
class ChannelTotals:
    """What one model credits to one channel.

    `share` is of all conversions that saw a touch. `cost_per_conversion` is undefined (None)
    without a cost or without credited conversions, and `return_on_spend`, which is value over
    cost, without a cost: a free channel is not infinitely good. Only Markov models give a
    `removal_effect`.
    """

    channel: str
    conversions: float
    value: float
    share: float
    cost_per_conversion: float | None
    return_on_spend: float | None
    removal_effect: float | None = None


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
    if not isinstance(model, Markov):
        if isinstance(model, DataModel):
            credits_ = data_credits(model, journeys)
        else:
            credits_ = statistics.rule_credits[model]
        output = output_of(model)
        unshared = statistics.counts.converting - float(credits_.conversions.sum())
        return (
            ModelTotals(
                model,
                output,
                _channels(statistics, credits_),
                max(0.0, unshared) if output in _LEAVES_SOME else 0.0,
            ),
        )
    effects = statistics.removal_effects(model)
    shares = removal_share_credits(effects, statistics.counts.converting, statistics.counts.value)
    paths = credits_by_channel(path_weights(journeys, effects.effects), journeys)
    return (
        ModelTotals(model, Output.MARKOV_REMOVAL_SHARE, _channels(statistics, shares, effects)),
        ModelTotals(model, Output.MARKOV_PATH_CREDIT, _channels(statistics, paths, effects)),
    )


def _channels(
    statistics: JourneyStatistics,
    credits_: ChannelCredits,
    effects: RemovalEffects | None = None,
) -> tuple[ChannelTotals, ...]:
    removed = np.zeros(0) if effects is None else effects.effects
    columns = zip(
        statistics.channels,
        credits_.conversions.tolist(),
        credits_.values.tolist(),
        statistics.by_channel.costs.tolist(),
        [None] * len(statistics.channels) if effects is None else removed.tolist(),
        strict=True,
    )
    converting = statistics.counts.converting
    return tuple(
        ChannelTotals(
            channel=channel,
            conversions=conversions,
            value=value,
            share=conversions / converting if converting else 0.0,
            cost_per_conversion=cost / conversions if cost > 0 and conversions > 0 else None,
            return_on_spend=value / cost if cost > 0 else None,
            removal_effect=effect,
        )
        for channel, conversions, value, cost, effect in columns
    )
