"""Credits by channel: the weights of touches, summed; and the totals of the Markov chain."""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain import markov, rules
from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import RemovalEffects
from services.attribution.domain.milestones import JourneyMilestones
from services.attribution.domain.models import Markov, RuleModel


@dataclass(frozen=True, slots=True)
class ChannelCredits:
    """Credited conversions and credited value by channel, each of shape (C,).

    Shards and days merge by `+` and expire by `-`.
    """

    conversions: Floats
    values: Floats

    def __add__(self, other: "ChannelCredits") -> "ChannelCredits":
        return ChannelCredits(self.conversions + other.conversions, self.values + other.values)

    def __sub__(self, other: "ChannelCredits") -> "ChannelCredits":
        return ChannelCredits(self.conversions - other.conversions, self.values - other.values)

    def where(self, converting: Flags) -> "ChannelCredits":
        """The credits of these channels, and exactly 0 for the others."""
        return ChannelCredits(
            np.where(converting, self.conversions, 0.0), np.where(converting, self.values, 0.0)
        )


def rule_weights(
    model: RuleModel, journeys: Journeys, milestones: JourneyMilestones | None = None
) -> Floats:
    """Return the weight of each touch of the converting journeys under a rule model."""
    return rules.touch_weights(model, journeys, milestones)


def model_weights(
    model: RuleModel | Markov, journeys: Journeys, milestones: JourneyMilestones | None = None
) -> Floats:
    """Return the weight of each touch of the converting journeys under a rule or Markov model.

    A Markov model gives those of MARKOV_PATH_CREDIT, by the removal effects of these journeys.
    """
    if not isinstance(model, Markov):
        return rule_weights(model, journeys, milestones)
    return path_weights(journeys, _effects(model, journeys).effects)


def path_weights(journeys: Journeys, effects: Floats) -> Floats:
    """Return the weight of each touch of the converting journeys under MARKOV_PATH_CREDIT."""
    return markov.path_credit(journeys.converting_codes, journeys.converting_offsets, effects)


def _effects(model: Markov, journeys: Journeys) -> RemovalEffects:
    if model.order > 1:
        converting, others = markov.count_chain(journeys, model.order)
        return markov.chain_removal_effects(
            converting if model.ignore_non_converting else converting + others
        )
    first, rest = markov.count_transitions(journeys)
    return markov.removal_effects(first if model.ignore_non_converting else first + rest)


def touch_values(weights: Floats, journeys: Journeys) -> Floats:
    """Return the part of the value of its conversion that each touch carries."""
    carried: Floats = weights * np.repeat(journeys.values, np.diff(journeys.converting_offsets))
    return carried


def credits_by_channel(weights: Floats, journeys: Journeys) -> ChannelCredits:
    """Sum the weights of touches, and the value they carry, over channels."""
    channels = len(journeys.channels)
    codes = journeys.converting_codes
    values = touch_values(weights, journeys)
    return ChannelCredits(
        conversions=np.bincount(codes, weights=weights, minlength=channels).astype(np.float64),
        values=np.bincount(codes, weights=values, minlength=channels).astype(np.float64),
    )


def removal_share_credits(
    effects: RemovalEffects, conversions: int, value: float
) -> ChannelCredits:
    """Return the totals of MARKOV_REMOVAL_SHARE over the credited conversions and their value.

    credit_c = RE_c / sum of RE times the conversions (Anderl et al. 2016), and the same for value
    with the removal effects of value. Where those are undefined (the expected value of a journey
    is not above zero, or a channel ends in refunds) value follows the effects on conversions.
    """
    value_shares = effects.value_shares
    return ChannelCredits(
        conversions=effects.shares * conversions,
        values=(effects.shares if value_shares is None else value_shares) * value,
    )
