"""What journeys look like: lengths, lags, steps, funnels, and what a sequence is worth."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from services.attribution.application.questions import CutJourneys, Question, cut_journeys
from services.attribution.domain.arrays import Flags, distinct
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import count_chain, sequence_removal_effect
from services.attribution.domain.paths.funnel import Followed, Funnel, Reach, funnel
from services.attribution.domain.paths.lags import LagTable, TimeLags, time_lags
from services.attribution.domain.paths.lengths import Lengths, channel_lengths, touch_lengths
from services.attribution.domain.paths.sequences import holding
from services.attribution.domain.paths.steps import Steps, count_steps
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Counted(Generic[F]):
    """What was found in one cut of the event log.

    `absent_channels` were asked for, and are in no journey: rare, or spelt otherwise.
    """

    found: F
    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str
    absent_channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PathQuestion:
    """Which journeys, and the least number of units that a figure is told of."""

    question: Question
    min_units: int


@dataclass(frozen=True, slots=True)
class GetPathLengths:
    """How long are the journeys? Those of `max_length` and longer ones are told of together."""

    asked: PathQuestion
    max_length: int


@dataclass(frozen=True, slots=True)
class GetTimeLags:
    """How long do the journeys take? The table is made for the same minimum of units."""

    asked: PathQuestion
    table: LagTable


@dataclass(frozen=True, slots=True)
class GetTransitions:
    """Which channel follows which?"""

    asked: PathQuestion
    self_loops: bool


@dataclass(frozen=True, slots=True)
class GetFunnel:
    """Who comes to which step?"""

    asked: PathQuestion
    steps: tuple[Reach, ...]


@dataclass(frozen=True, slots=True)
class GetSequenceEffect:
    """What would be lost without the journeys that hold these channels in a row?"""

    asked: PathQuestion
    sequence: tuple[str, ...]
    order: int
    ignore_non_converting: bool


@dataclass(frozen=True, slots=True)
class BothLengths:
    """Lengths in touches and in distinct channels."""

    touches: Lengths
    channels: Lengths


@dataclass(frozen=True, slots=True)
class Group:
    """Journeys of some units."""

    units: int
    journeys: int
    conversions: int


@dataclass(frozen=True, slots=True)
class SequenceEffect:
    """The part of conversions that hold the sequence, by the chain; and who really held it.

    None where too few units would be told of; `removal_effect` also where nothing converts.
    """

    removal_effect: float | None
    held: Group | None
    everyone: Group | None


def get_path_lengths(
    command: GetPathLengths, log: JourneyLog, limits: AttributionLimits
) -> Counted[BothLengths]:
    """Count journeys by length."""
    cut = _cut(command.asked, log, limits)
    bounds = (command.max_length, command.asked.min_units)
    lengths = BothLengths(
        touch_lengths(cut.journeys, *bounds), channel_lengths(cut.journeys, *bounds)
    )
    return _counted(cut, lengths)


def get_time_lags(
    command: GetTimeLags, log: JourneyLog, limits: AttributionLimits
) -> Counted[TimeLags]:
    """Measure lags."""
    cut = _cut(command.asked, log, limits)
    return _counted(cut, time_lags(cut.journeys, command.table))


def get_transitions(
    command: GetTransitions, log: JourneyLog, limits: AttributionLimits
) -> Counted[Steps]:
    """Count steps."""
    cut = _cut(command.asked, log, limits)
    steps = count_steps(
        cut.journeys, self_loops=command.self_loops, min_units=command.asked.min_units
    )
    return _counted(cut, steps)


def get_funnel(command: GetFunnel, log: JourneyLog, limits: AttributionLimits) -> Counted[Funnel]:
    """Follow journeys through the steps."""
    events = tuple(sorted({step.event for step in command.steps if step.event}))
    asked = replace(command.asked, question=replace(command.asked.question, events=events))
    cut = _cut(asked, log, limits)
    lookback_us = asked.question.definition.longest_us
    followed = Followed(command.steps, cut.events.milestones, lookback_us)
    named = [channel for step in command.steps for channel in step.channels]
    return _counted(cut, funnel(cut.journeys, followed, asked.min_units), named)


def get_sequence_effect(
    command: GetSequenceEffect, log: JourneyLog, limits: AttributionLimits
) -> Counted[SequenceEffect]:
    """Compute the removal effect of the sequence, and count the journeys that hold it."""
    cut = _cut(command.asked, log, limits)
    journeys, min_units = cut.journeys, command.asked.min_units
    codes = _codes(journeys, command.sequence)
    chosen = np.zeros(len(journeys), dtype=np.bool_)
    if codes is not None:
        chosen = holding(journeys, codes, command.order)
    held, others, everyone = (_group(journeys, each) for each in (chosen, ~chosen, chosen | True))
    # The others follow from all, and must not be of few units either. Units may be among both.
    told = all(not 0 < group.units < min_units for group in (held, others))
    effect = None
    if told and everyone.conversions:
        effect = 0.0 if codes is None else _effect(journeys, codes, command)
    found = SequenceEffect(
        removal_effect=effect,
        held=held if told else None,
        everyone=None if 0 < everyone.units < min_units else everyone,
    )
    return _counted(cut, found, command.sequence)


def _effect(journeys: Journeys, codes: Sequence[int], command: GetSequenceEffect) -> float:
    converting, others = count_chain(journeys, command.order)
    counts = converting if command.ignore_non_converting else converting + others
    return sequence_removal_effect(counts, codes)


def _codes(journeys: Journeys, sequence: Sequence[str]) -> list[int] | None:
    """The codes of the channels; None where one of them is in no journey."""
    place = {channel: code for code, channel in enumerate(journeys.channels)}
    if any(channel not in place for channel in sequence):
        return None
    return [place[channel] for channel in sequence]


def _group(journeys: Journeys, chosen: Flags) -> Group:
    return Group(
        units=len(distinct(journeys.units[chosen])),
        journeys=int(chosen.sum()),
        conversions=int(chosen[: journeys.converting].sum()),
    )


def _cut(asked: PathQuestion, log: JourneyLog, limits: AttributionLimits) -> CutJourneys:
    return cut_journeys(asked.question, log, limits, identified=False)


def _counted(cut: CutJourneys, found: F, named: Sequence[str] = ()) -> Counted[F]:
    """What was found, with the cut; `named` are the channels that were asked for."""
    events, journeys = cut.events, cut.journeys
    held = {journeys.channels[code] for code in np.unique(journeys.codes).tolist()} if named else ()
    absent = tuple(name for name in dict.fromkeys(named) if name not in held)
    return Counted(found, events.watermark, events.watermark_time, events.identity_version, absent)
