"""Funnels over touches: who came to each step, in order, and by which channel they entered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Integers
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.suppression import count_units
from shared.errors import invalid

MAX_STEPS = 50


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """Journeys that came to a step after all steps before it, and those of them that converted."""

    units: int
    journeys: int
    conversions: int


@dataclass(frozen=True, slots=True)
class ChannelFunnel:
    """The steps of the journeys that entered the funnel by one channel."""

    channel: str
    steps: tuple[FunnelStep, ...]


@dataclass(frozen=True, slots=True)
class Funnel:
    """The steps of all journeys, and by channel of entry in the order of names.

    Channels by which fewer units entered than the minimum are summed in `suppressed` (None: there
    are none); `withheld_channels` counts channels of which nothing is said.
    """

    steps: tuple[FunnelStep, ...]
    by_channel: tuple[ChannelFunnel, ...]
    suppressed: tuple[FunnelStep, ...] | None
    withheld_channels: int


def funnel(journeys: Journeys, steps: Sequence[Sequence[str]], min_units: int = 1) -> Funnel:
    """Follow the journeys through `steps`, each the channels any of which reaches it.

    A step is reached by the earliest touch of its channels after the touch that reached the step
    before; touches between do not matter.
    """
    reached, entry = _follow(journeys, _codes(journeys.channels, steps))
    entered = np.flatnonzero(reached[0])
    held = count_units(entry[entered], journeys.units[entered], len(journeys.channels), min_units)
    few = held.suppressed
    suppressed = None
    if few.any() and not held.withheld:
        suppressed = _steps(journeys, reached & few[entry])
    return Funnel(
        steps=_steps(journeys, reached),
        by_channel=tuple(
            ChannelFunnel(journeys.channels[code], _steps(journeys, reached & (entry == code)))
            for code in np.flatnonzero(held.reported).tolist()
        ),
        suppressed=suppressed,
        withheld_channels=int(few.sum()) if held.withheld else 0,
    )


def _codes(channels: tuple[str, ...], steps: Sequence[Sequence[str]]) -> list[Integers]:
    if not 1 <= len(steps) <= MAX_STEPS:
        raise invalid("funnel.steps", len(steps), f"1 to {MAX_STEPS} steps")
    place = {channel: code for code, channel in enumerate(channels)}
    codes = []
    for number, step in enumerate(steps, 1):
        if not step:
            raise invalid(f"funnel.steps[{number}]", "no channel", "at least one channel")
        # A channel that no journey holds is reached by nobody, which is an answer.
        known = [place[channel] for channel in step if channel in place]
        codes.append(np.array(known, dtype=np.int64))
    return codes


def _follow(journeys: Journeys, steps: list[Integers]) -> tuple[Flags, Integers]:
    """Return who reached each step, of shape (K, journeys), and the channel of entry."""
    after, end = journeys.offsets[:-1].copy(), journeys.offsets[1:]
    reached = np.zeros((len(steps), len(journeys)), dtype=np.bool_)
    entry = np.zeros(len(journeys), dtype=np.int64)
    going = np.ones(len(journeys), dtype=np.bool_)
    for number, codes in enumerate(steps):
        matches = np.append(np.flatnonzero(np.isin(journeys.codes, codes)), len(journeys.codes))
        found = matches[np.searchsorted(matches, np.minimum(after, len(journeys.codes)))]
        going = going & (found < end)
        reached[number] = going
        if number == 0:
            entry[going] = journeys.codes[found[going]]
        after = found + 1
    return reached, entry


def _steps(journeys: Journeys, reached: Flags) -> tuple[FunnelStep, ...]:
    return tuple(
        FunnelStep(
            units=len(np.unique(journeys.units[there])),
            journeys=int(there.sum()),
            conversions=int(there[: journeys.converting].sum()),
        )
        for there in reached
    )
