"""Additive statistics of journeys: shards and days merge by `+` and expire by `-`.

The models read the sum. When something that was added is taken away again, counts come back to
the last bit, sums of credits and of value to the precision of floats, and to exactly 0 where no
conversion is left. Everything here adds up over disjoint sets of units. Over days, too, all that
is said of converting journeys adds up, unless only the first conversion of a unit counts; a unit,
a touch and its cost may stand in the journeys of two days.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from services.attribution.domain.arrays import Codes, Floats, Integers
from services.attribution.domain.credits import ChannelCredits, credits_by_channel, rule_weights
from services.attribution.domain.events import Touches
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import (
    ChainCounts,
    RemovalEffects,
    TransitionCounts,
    chain_removal_effects,
    count_chain,
    count_transitions,
    removal_effects,
)
from services.attribution.domain.milestones import JourneyMilestones
from services.attribution.domain.models import Markov, Model, RuleModel
from shared.errors import invalid

CELLS_AT_ONCE = 1 << 23


@dataclass(frozen=True, slots=True)
class JourneyCounts:
    """How many journeys and conversions there were, and their value.

    `direct` conversions saw no touch. `repeats_left_out` are conversions that the rule for
    repeats dropped, `truncated` journeys that lost their oldest touches to the limit.
    """

    journeys: int
    converting: int
    value: float
    direct: int
    direct_value: float
    repeats_left_out: int
    truncated: int
    units: int

    def __add__(self, other: "JourneyCounts") -> "JourneyCounts":
        return JourneyCounts(
            journeys=self.journeys + other.journeys,
            converting=self.converting + other.converting,
            value=self.value + other.value,
            direct=self.direct + other.direct,
            direct_value=self.direct_value + other.direct_value,
            repeats_left_out=self.repeats_left_out + other.repeats_left_out,
            truncated=self.truncated + other.truncated,
            units=self.units + other.units,
        )

    def __sub__(self, other: "JourneyCounts") -> "JourneyCounts":
        return JourneyCounts(
            journeys=self.journeys - other.journeys,
            converting=self.converting - other.converting,
            value=self.value - other.value,
            direct=self.direct - other.direct,
            direct_value=self.direct_value - other.direct_value,
            repeats_left_out=self.repeats_left_out - other.repeats_left_out,
            truncated=self.truncated - other.truncated,
            units=self.units - other.units,
        )

    @property
    def non_converting(self) -> int:
        """Journeys that led to no conversion."""
        return self.journeys - self.converting


@dataclass(frozen=True, slots=True)
class ChannelCounts:
    """By channel, each of shape (C,).

    `touches` are the touches that stand in a journey and are not earlier than the start of the
    report, each once however many journeys it stands in; `costs` sums their known costs and
    `without_cost` counts the others. `journeys` and `converting` count journeys that hold the
    channel.
    """

    touches: Integers
    costs: Floats
    without_cost: Integers
    journeys: Integers
    converting: Integers

    def __add__(self, other: "ChannelCounts") -> "ChannelCounts":
        return ChannelCounts(
            touches=self.touches + other.touches,
            costs=self.costs + other.costs,
            without_cost=self.without_cost + other.without_cost,
            journeys=self.journeys + other.journeys,
            converting=self.converting + other.converting,
        )

    def __sub__(self, other: "ChannelCounts") -> "ChannelCounts":
        return ChannelCounts(
            touches=self.touches - other.touches,
            costs=self.costs - other.costs,
            without_cost=self.without_cost - other.without_cost,
            journeys=self.journeys - other.journeys,
            converting=self.converting - other.converting,
        )


@dataclass(frozen=True, slots=True)
class JourneyStatistics:
    """All that channel totals are computed from, except those of MARKOV_PATH_CREDIT.

    `rule_credits` holds the rule models asked for, and `chains` the counts of the Markov orders
    above 1 that were: those of converting journeys and, apart from them, of the others.
    MARKOV_PATH_CREDIT needs the removal effects of the whole and then a second look at the
    journeys, so it has no place here.
    """

    channels: tuple[str, ...]
    counts: JourneyCounts
    by_channel: ChannelCounts
    converting_steps: TransitionCounts
    other_steps: TransitionCounts
    rule_credits: Mapping[RuleModel, ChannelCredits]
    chains: Mapping[int, tuple[ChainCounts, ChainCounts]] = field(default_factory=dict)

    def __add__(self, other: "JourneyStatistics") -> "JourneyStatistics":
        self._require_alike(other)
        return JourneyStatistics(
            channels=self.channels,
            counts=self.counts + other.counts,
            by_channel=self.by_channel + other.by_channel,
            converting_steps=self.converting_steps + other.converting_steps,
            other_steps=self.other_steps + other.other_steps,
            rule_credits={
                model: credits_ + other.rule_credits[model]
                for model, credits_ in self.rule_credits.items()
            },
            chains={
                order: (converting + other.chains[order][0], others + other.chains[order][1])
                for order, (converting, others) in self.chains.items()
            },
        )

    def __sub__(self, other: "JourneyStatistics") -> "JourneyStatistics":
        self._require_alike(other)
        by_channel = self.by_channel - other.by_channel
        return JourneyStatistics(
            channels=self.channels,
            counts=self.counts - other.counts,
            by_channel=by_channel,
            converting_steps=self.converting_steps - other.converting_steps,
            other_steps=self.other_steps - other.other_steps,
            rule_credits={
                model: (credits_ - other.rule_credits[model]).where(by_channel.converting > 0)
                for model, credits_ in self.rule_credits.items()
            },
            chains={
                order: (converting - other.chains[order][0], others - other.chains[order][1])
                for order, (converting, others) in self.chains.items()
            },
        )

    def _require_alike(self, other: "JourneyStatistics") -> None:
        if self.channels != other.channels:
            raise invalid("channels", other.channels, f"those merged: {self.channels}")
        if self.rule_credits.keys() != other.rule_credits.keys():
            raise invalid(
                "models", str([*other.rule_credits]), f"those merged: {[*self.rule_credits]}"
            )
        if self.chains.keys() != other.chains.keys():
            raise invalid("markov.order", str([*other.chains]), f"those merged: {[*self.chains]}")

    def transitions(self, model: Markov) -> TransitionCounts:
        """Return the steps that `model` counts: of all journeys, or of the converting ones."""
        if model.ignore_non_converting:
            return self.converting_steps
        return self.converting_steps + self.other_steps

    def removal_effects(self, model: Markov) -> RemovalEffects:
        """Return the removal effects of `model`, whose order must have been measured."""
        if model.order == 1:
            return removal_effects(self.transitions(model))
        converting, others = self.chains[model.order]
        return chain_removal_effects(
            converting if model.ignore_non_converting else converting + others
        )


def measure(
    touches: Touches,
    journeys: Journeys,
    models: Collection[Model],
    start_us: int,
    milestones: JourneyMilestones | None = None,
    whole: Journeys | None = None,
) -> JourneyStatistics:
    """Gather the statistics of `journeys`, which were cut from `touches`.

    Touches before `start_us` belong to journeys, but not to the touches and costs of the report.
    A model of milestones needs `milestones`. Where touches left their journeys, `whole` holds them
    all: they were made and paid for. INVALID_ARGUMENT for values or costs that have no finite sum.
    """
    by_channel = _count_channels(touches, journeys, start_us, whole or journeys)
    _require_sum("value", journeys.values)
    _require_sum("value", journeys.direct_values)
    _require_sum("cost", by_channel.costs)
    converting_steps, other_steps = count_transitions(journeys)
    return JourneyStatistics(
        channels=journeys.channels,
        counts=_count_journeys(journeys),
        by_channel=by_channel,
        converting_steps=converting_steps,
        other_steps=other_steps,
        rule_credits={
            model: credits_by_channel(rule_weights(model, journeys, milestones), journeys)
            for model in models
            if isinstance(model, RuleModel)
        },
        chains={
            order: count_chain(journeys, order)
            for order in sorted({model.order for model in models if isinstance(model, Markov)})
            if order > 1
        },
    )


def _require_sum(field: str, numbers: Floats) -> None:
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.abs(numbers).sum())
    if not finite:
        allowed = "numbers whose sum is below 1.8e308; leave those that are wrong out by a filter"
        raise invalid(field, f"up to {np.abs(numbers).max():g}", allowed)


def _count_journeys(journeys: Journeys) -> JourneyCounts:
    return JourneyCounts(
        journeys=len(journeys),
        converting=journeys.converting,
        value=float(journeys.values.sum()),
        direct=len(journeys.direct_rows),
        direct_value=float(journeys.direct_values.sum()),
        repeats_left_out=journeys.repeats_left_out,
        truncated=journeys.truncated,
        units=_count_units(journeys),
    )


def _count_units(journeys: Journeys) -> int:
    """Count distinct units without sorting: each half of the journeys is in order of units."""
    with_conversion = _distinct_in_order(journeys.units[: journeys.converting])
    without = _distinct_in_order(journeys.units[journeys.converting :])
    in_both = np.isin(with_conversion, without, assume_unique=True)
    return len(with_conversion) + len(without) - int(np.count_nonzero(in_both))


def _distinct_in_order(units: Integers) -> Integers:
    first: Integers = np.flatnonzero(units[1:] != units[:-1]) + 1
    distinct: Integers = units[np.concatenate([[0], first])] if len(units) else units
    return distinct


def _count_channels(
    touches: Touches, journeys: Journeys, start_us: int, whole: Journeys
) -> ChannelCounts:
    channels = len(journeys.channels)
    reported = np.zeros(len(touches), dtype=np.bool_)
    reported[whole.touch_rows] = True
    reported &= touches.times >= start_us
    codes, costs = touches.codes[reported], touches.costs[reported]
    known = ~np.isnan(costs)
    spent = np.bincount(codes[known], weights=costs[known], minlength=channels)
    return ChannelCounts(
        touches=np.bincount(codes, minlength=channels),
        costs=spent.astype(np.float64),
        without_cost=np.bincount(codes[~known], minlength=channels),
        journeys=journeys_holding(journeys.codes, journeys.offsets, channels),
        converting=journeys_holding(
            journeys.converting_codes, journeys.converting_offsets, channels
        ),
    )


def journeys_holding(codes: Codes, offsets: Integers, channels: int) -> Integers:
    """Count the journeys that hold each channel, by marking a block of journeys at a time."""
    holding = np.zeros(channels, dtype=np.int64)
    block = max(1, CELLS_AT_ONCE // max(channels, 1))
    for first in range(0, len(offsets) - 1, block):
        bounds = offsets[first : first + block + 1]
        journeys = len(bounds) - 1
        rows = np.repeat(np.arange(journeys, dtype=np.int64), np.diff(bounds))
        marks = np.zeros(journeys * channels, dtype=np.bool_)
        marks[rows * channels + codes[bounds[0] : bounds[-1]]] = True
        holding += np.count_nonzero(marks.reshape(journeys, channels), axis=0)
    return holding
