"""Funnels: who came to each step, touches and events, in order, and by which channel they entered.

A journey is followed from its first touch on: up to its conversion, or as long after its last touch
as that would have counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Integers, distinct
from services.attribution.domain.events import NO_MILESTONES, MilestoneEvents
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.suppression import count_units
from services.attribution.domain.windows import first_at_or_after
from shared.errors import invalid

MAX_STEPS = 50


@dataclass(frozen=True, slots=True)
class Reach:
    """What reaches a step: an event of this name, or else a touch of any of these channels.

    Without either it is any touch.
    """

    channels: tuple[str, ...] = ()
    event: str = ""


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """Journeys that came to a step after all steps before it.

    `conversions` counts those that led to a conversion, whether by the later steps or past them;
    `left` those that came to no later step and led to none: None where the next step is not told
    of, which would follow from it.
    """

    units: int
    journeys: int
    conversions: int
    left: int | None


Figures = tuple[FunnelStep | None, ...]
"""One entry a step; None where too few units came to it for it to be told of."""


@dataclass(frozen=True, slots=True)
class ChannelFunnel:
    """The steps of the journeys that entered the funnel by one channel."""

    channel: str
    steps: Figures


@dataclass(frozen=True, slots=True)
class Funnel:
    """The steps of all journeys, and by channel of entry in the order of names.

    The channel of entry is that of the touch that reached the first step, or of the last touch
    before the event that did. Where fewer units of a channel than the minimum came to a step, that
    step and those behind it are told of in `suppressed` only, together with those of others.
    `suppressed_channels` counts the channels that are not listed.
    """

    steps: Figures
    by_channel: tuple[ChannelFunnel, ...]
    suppressed: Figures
    suppressed_channels: int


@dataclass(frozen=True, slots=True)
class Followed:
    """What journeys are followed through: K steps, and events up to `lookback_us` after a touch."""

    steps: Sequence[Reach]
    events: MilestoneEvents = NO_MILESTONES
    lookback_us: int = 0


def funnel(journeys: Journeys, followed: Followed, min_units: int = 1) -> Funnel:
    """Follow the journeys.

    A step is reached by the earliest touch of its channels after the touch that reached the step
    before, or by the earliest event that is not earlier; no event reaches two steps. Touches and
    events between do not matter.
    """
    if not 1 <= len(followed.steps) <= MAX_STEPS:
        raise invalid("steps", len(followed.steps), f"1 to {MAX_STEPS} steps")
    reached, entry = _Walk(journeys, followed).run()
    told = _told(journeys, reached, entry, min_units)
    rows = np.flatnonzero(reached[0])
    rows = rows[np.argsort(entry[rows], kind="stable")]
    came, begins = np.unique(entry[rows], return_index=True)
    of_channel = dict(zip(came.tolist(), np.split(rows, begins)[1:], strict=True))
    entered = [code for code in of_channel if told[0, code]]
    everyone = [True] * len(reached)
    return Funnel(
        steps=_figures(journeys, reached, everyone, min_units),
        by_channel=tuple(
            ChannelFunnel(
                journeys.channels[code],
                _figures(journeys, reached, told[:, code].tolist(), 0, of_channel[code]),
            )
            for code in entered
        ),
        suppressed=_figures(journeys, reached & ~told[:, entry], everyone, min_units),
        suppressed_channels=len(of_channel) - len(entered),
    )


class _Walk:
    """Where each journey is: at a time, behind a touch, and behind an event of each name."""

    def __init__(self, journeys: Journeys, followed: Followed) -> None:
        self._journeys, self._followed = journeys, followed
        count = len(journeys)
        first, last = journeys.offsets[:-1], journeys.offsets[1:] - 1
        self._at = journeys.times[first].copy()
        self._next_touch = first.copy()
        self._going = np.ones(count, dtype=np.bool_)
        self._until = journeys.times[last] + followed.lookback_us
        self._until[: journeys.converting] = journeys.conversion_times
        self._next_event: dict[str, Integers] = {}

    def run(self) -> tuple[Flags, Integers]:
        """Return who reached each step, of shape (K, journeys), and the channel of entry."""
        reached = np.zeros((len(self._followed.steps), len(self._journeys)), dtype=np.bool_)
        entry = np.zeros(len(self._journeys), dtype=np.int64)
        for number, step in enumerate(self._followed.steps):
            touch = self._event(step.event) if step.event else self._touch(step.channels)
            reached[number] = self._going
            if number == 0:
                entry[self._going] = self._journeys.codes[touch[self._going]]
        return reached, entry

    def _touch(self, channels: tuple[str, ...]) -> Integers:
        """Go on to the next touch of the channels, and return its row."""
        journeys = self._journeys
        # A channel that no journey holds is reached by nobody, which is an answer.
        wanted = [code for code, name in enumerate(journeys.channels) if name in set(channels)]
        matching = np.isin(journeys.codes, wanted) if channels else journeys.codes >= 0
        matches = np.append(np.flatnonzero(matching), len(journeys.codes))
        found = matches[np.searchsorted(matches, self._next_touch)]
        self._going = self._going & (found < journeys.offsets[1:])
        row = np.where(self._going, found, 0)
        if len(journeys.codes):
            self._at = np.where(self._going, journeys.times[row], self._at)
        self._next_touch = np.where(self._going, row + 1, self._next_touch)
        return row

    def _event(self, name: str) -> Integers:
        """Go on to the next event of the name, and return the row of the last touch before it."""
        events, journeys = self._followed.events, self._journeys
        named = np.zeros(len(events.codes), dtype=np.bool_)
        if name in events.names:
            named = events.codes == events.names.index(name)
        units, times = events.units[named], np.append(events.times[named], 0)
        begin = np.searchsorted(units, journeys.units, side="left")
        end = np.searchsorted(units, journeys.units, side="right")
        begin = np.minimum(np.maximum(begin, self._next_event.get(name, begin)), end)
        found = first_at_or_after(times, begin, end, self._at)
        self._going = self._going & (found < end) & (times[found] <= self._until)
        self._at = np.where(self._going, times[found], self._at)
        self._next_event[name] = np.where(self._going, found + 1, begin)
        # Touches at the time of the event may reach the next step, if they did not reach one yet.
        first, last = journeys.offsets[:-1], journeys.offsets[1:]
        later = first_at_or_after(journeys.times, first, last, self._at)
        self._next_touch = np.maximum(self._next_touch, later)
        behind = first_at_or_after(journeys.times, first, last, self._at + 1)
        return np.maximum(behind - 1, first)


def _told(journeys: Journeys, reached: Flags, entry: Integers, min_units: int) -> Flags:
    """Whether each step is told of each channel of entry, of shape (K, C)."""
    channels = len(journeys.channels)
    told = np.zeros((len(reached), channels), dtype=np.bool_)
    before = np.ones(channels, dtype=np.bool_)
    for number, here in enumerate(reached):
        there = np.flatnonzero(here)
        held = count_units(entry[there], journeys.units[there], channels, min_units)
        # That nobody came so far is told of a channel that is listed.
        empty = (held.units == 0) & (number > 0)
        before = before & (held.reported | empty)
        told[number] = before
    return told


def _figures(
    journeys: Journeys,
    reached: Flags,
    told: Sequence[bool],
    min_units: int,
    rows: Integers | slice = slice(None),
) -> Figures:
    """The figures of each step that is told of and has enough units, for some journeys."""
    units, converted, here = journeys.units[rows], journeys.converted[rows], reached[:, rows]
    nobody = np.zeros((1, here.shape[1]), dtype=np.bool_)
    counted = [len(distinct(units[at])) for at in here]
    shown = [*(told[k] and not 0 < n < min_units for k, n in enumerate(counted)), True]
    further = np.vstack([here[1:], nobody])
    return tuple(
        FunnelStep(
            units=counted[k],
            journeys=int(here[k].sum()),
            conversions=int((here[k] & converted).sum()),
            left=int((here[k] & ~further[k] & ~converted).sum()) if shown[k + 1] else None,
        )
        if shown[k]
        else None
        for k in range(len(here))
    )
