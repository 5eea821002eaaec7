"""Journeys: what each conversion, and each stretch without one, was preceded by.

The rules, in one place:

* A conversion at T sees the touches of its unit with T - lookback <= t <= T. Both ends count: a
  touch at the instant of the conversion is its last touch.
* Repeated conversions of a unit follow `Repeats`.
* A conversion that sees no touch is *direct*: it is counted and credited to no channel.
* Touches that no conversion sees form non-converting journeys: the longest runs of such touches
  of a unit, cut where a gap is longer than the lookback. A run belongs to the report when its
  last touch is not earlier than `start_us`.
* Conversions before `start_us` are context: they explain touches (and split journeys) but are
  not reported themselves.
* A journey keeps its most recent `max_touches` touches; how many journeys lost some is counted.
* `Visibility` may narrow down which touches count; see there. A touch that no conversion sees then
  ends its run without conversion after its own reach.
"""

import enum
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import (
    Codes,
    Flags,
    Floats,
    Integers,
    frozen_codes,
    frozen_floats,
    frozen_integers,
)
from services.attribution.domain.events import Conversions, Facets, Touches
from services.attribution.domain.visibility import (
    Direct,
    Seen,
    Visibility,
    narrowed,
    without_skipped,
)
from services.attribution.domain.windows import expand, first_at_or_after
from shared.errors import invalid

DAY_US = 86_400_000_000
MAX_LOOKBACK_US = 366 * DAY_US
MAX_TOUCHES_LIMIT = 10_000
BEGINNING_OF_TIME_US = -(2**62)
BLOCK = 1 << 14


class Repeats(enum.Enum):
    """What a second conversion of the same unit means.

    ALL: every conversion sees its whole window, so a touch may serve several conversions.
    FIRST: a unit leaves at its first conversion; later conversions and touches are left out.
    SPLIT: a conversion sees only touches later than the unit's previous conversion. Conversions
    of one unit at one instant see the same touches.
    """

    ALL = "all"
    FIRST = "first"
    SPLIT = "split"


@dataclass(frozen=True, slots=True)
class JourneyRules:
    """How journeys are cut; `lookback_us` and `start_us` are in microseconds.

    `lookback_us` is the longest: where touches have reaches of their own, none is longer.
    """

    lookback_us: int = 30 * DAY_US
    repeats: Repeats = Repeats.ALL
    start_us: int = BEGINNING_OF_TIME_US
    max_touches: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.lookback_us <= MAX_LOOKBACK_US:
            raise invalid(
                "journeys.lookback",
                f"{self.lookback_us / 1e6} s",
                "a duration above 0 and of at most 366 days",
            )
        if not 0 < self.max_touches <= MAX_TOUCHES_LIMIT:
            raise invalid("max_touches", self.max_touches, f"1 to {MAX_TOUCHES_LIMIT}")


@dataclass(frozen=True, slots=True)
class Journeys:
    """Journeys in compressed rows: journey i holds touches offsets[i]:offsets[i + 1].

    The first `converting` journeys led to a conversion, in the order of the conversions; the rest
    led to none, in the order of the touches. No journey is empty. `touch_rows` and
    `conversion_rows` point into the events that the journeys were cut from; `conversion_times`
    and `values` have one entry a converting journey. `direct_rows` and `direct_values` are the
    conversions that saw no touch. `facets`, where they were read, are of the touches that
    `touch_rows` point into.
    """

    channels: tuple[str, ...]
    offsets: Integers
    codes: Codes
    times: Integers
    touch_rows: Integers
    units: Integers
    converting: int
    conversion_rows: Integers
    conversion_times: Integers
    values: Floats
    direct_rows: Integers
    direct_values: Floats
    repeats_left_out: int = 0
    truncated: int = 0
    facets: Facets | None = None

    def __post_init__(self) -> None:
        for name in ("offsets", "times", "touch_rows", "units", "conversion_rows"):
            object.__setattr__(self, name, frozen_integers(getattr(self, name)))
        for name in ("conversion_times", "direct_rows"):
            object.__setattr__(self, name, frozen_integers(getattr(self, name)))
        object.__setattr__(self, "codes", frozen_codes(self.codes))
        object.__setattr__(self, "values", frozen_floats(self.values))
        object.__setattr__(self, "direct_values", frozen_floats(self.direct_values))
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.codes):
            raise invalid(
                "offsets",
                f"{self.offsets[0]}..{self.offsets[-1]}",
                f"0..{len(self.codes)}, the number of touches",
            )
        if (np.diff(self.offsets) < 1).any():
            raise invalid("offsets", "an empty journey", "at least one touch a journey")
        if not len(self.values) == self.converting <= len(self):
            raise invalid("converting", self.converting, "one value a converting journey")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def converted(self) -> Flags:
        """Whether each journey led to a conversion."""
        flags: Flags = np.arange(len(self)) < self.converting
        return flags

    @property
    def converting_offsets(self) -> Integers:
        """Offsets of the converting journeys alone; they are also offsets into all touches."""
        return self.offsets[: self.converting + 1]

    @property
    def converting_codes(self) -> Codes:
        """Channel codes of the touches of converting journeys."""
        return self.codes[: self.offsets[self.converting]]

    @property
    def converting_times(self) -> Integers:
        """Times of the touches of converting journeys, in microseconds."""
        return self.times[: self.offsets[self.converting]]


@dataclass(frozen=True, slots=True)
class _Windows:
    """The rows of touches [begin, end) that each conversion sees, and those of its unit."""

    begin: Integers
    end: Integers
    unit_end: Integers


def build_journeys(
    touches: Touches,
    conversions: Conversions,
    rules: JourneyRules,
    visibility: Visibility | None = None,
) -> Journeys:
    """Cut journeys out of sorted touches and conversions in O(T + C log T) time.

    The rules are those of the module. The answer depends on the events alone, and journeys built
    from disjoint sets of units are together the journeys of all of them.
    """
    visibility = visibility or Visibility()
    windows = _windows(touches, conversions, rules)
    counted = conversions.times >= rules.start_us
    reported = counted & _kept(conversions, counted, rules)
    seen, explained = _seen(touches, conversions, windows, visibility)
    if rules.repeats is Repeats.FIRST:
        gone, _ = expand(windows.end[reported], windows.unit_end[reported])
        explained[gone] = True
    sees = seen.lengths > 0
    direct, rows = np.flatnonzero(reported & ~sees), np.flatnonzero(reported & sees)
    null = _without_conversion(touches, explained, rules, visibility)
    led = seen.of(rows)
    whole = Seen(
        np.concatenate([led.rows, null.rows]),
        np.concatenate([led.offsets, led.offsets[-1] + null.offsets[1:]]),
    )
    kept = whole.newest(rules.max_touches)
    return Journeys(
        channels=touches.channels,
        offsets=kept.offsets,
        codes=touches.codes[kept.rows],
        times=touches.times[kept.rows],
        touch_rows=kept.rows,
        units=touches.units[kept.rows[kept.offsets[1:] - 1]],
        converting=len(rows),
        conversion_rows=rows,
        conversion_times=conversions.times[rows],
        values=conversions.values[rows],
        direct_rows=direct,
        direct_values=conversions.values[direct],
        repeats_left_out=int((counted & ~reported).sum()),
        truncated=int((whole.lengths > rules.max_touches).sum()),
        facets=touches.facets,
    )


def _seen(
    touches: Touches, conversions: Conversions, windows: _Windows, visibility: Visibility
) -> tuple[Seen, Flags]:
    """What counts for each conversion, and which touches are explained by one."""
    counts = explained = Seen(*expand(windows.begin, windows.end))
    if not visibility.plain or touches.matches is not None:
        counts, explained = narrowed(counts, touches, conversions, visibility)
    flags = np.zeros(len(touches), dtype=np.bool_)
    flags[explained.rows] = True
    return counts, flags


def _windows(touches: Touches, conversions: Conversions, rules: JourneyRules) -> _Windows:
    unit_begin = np.searchsorted(touches.units, conversions.units, side="left")
    unit_end = np.searchsorted(touches.units, conversions.units, side="right")
    earliest = conversions.times - rules.lookback_us
    begin = first_at_or_after(touches.times, unit_begin, unit_end, earliest)
    # Integer microseconds: the first touch later than T is the first at or after T + 1.
    end = first_at_or_after(touches.times, begin, unit_end, conversions.times + 1)
    if rules.repeats is Repeats.SPLIT and len(conversions):
        begin = np.maximum(begin, _end_of_previous_instant(conversions, end))
    return _Windows(begin, end, unit_end)


def _end_of_previous_instant(conversions: Conversions, end: Integers) -> Integers:
    """Return where the window of the unit's previous distinct instant ended, else 0."""
    same_unit = conversions.units[1:] == conversions.units[:-1]
    same_instant = same_unit & (conversions.times[1:] == conversions.times[:-1])
    leaders = np.concatenate([[0], np.flatnonzero(~same_instant) + 1])
    previous = np.zeros(len(leaders), dtype=np.int64)
    previous[1:] = np.where(same_unit[leaders[1:] - 1], end[leaders[1:] - 1], 0)
    return np.repeat(previous, np.diff(np.append(leaders, len(conversions))))


def _kept(conversions: Conversions, counted: Flags, rules: JourneyRules) -> Flags:
    kept: Flags = np.ones(len(conversions), dtype=np.bool_)
    if rules.repeats is Repeats.FIRST:
        rows = np.flatnonzero(counted)
        units = conversions.units[rows]
        kept[rows[1:]] = units[1:] != units[:-1]
    return kept


def _without_conversion(
    touches: Touches, explained: Flags, rules: JourneyRules, visibility: Visibility
) -> Seen:
    """The journeys of the report that led to no conversion."""
    ignored = None
    if visibility.handling is Direct.DROP:
        ignored = visibility.direct
    rows = np.flatnonzero(~explained if ignored is None else ~explained & ~ignored)
    if not len(rows):
        return Seen(rows, np.zeros(1, dtype=np.int64))
    positions = rows if ignored is None else np.cumsum(~ignored)[rows]
    interrupted = np.empty(len(rows) - 1, dtype=np.bool_)
    # Block by block, so that what lies between is never as long as the touches are.
    for begin in range(0, len(interrupted), BLOCK):
        block = slice(begin, min(begin + BLOCK, len(interrupted)))
        both = slice(begin, block.stop + 1)
        reaches = visibility.reaches
        reach = rules.lookback_us if reaches is None else reaches[rows[block]]
        interrupted[block] = (
            (np.diff(positions[both]) > 1)
            | (np.diff(touches.units[rows[both]]) != 0)
            | (np.diff(touches.times[rows[both]]) > reach)
        )
    offsets = np.concatenate([[0], np.flatnonzero(interrupted) + 1, [len(rows)]])
    in_report = touches.times[rows[offsets[1:] - 1]] >= rules.start_us
    runs = Seen(rows, offsets).of(np.flatnonzero(in_report))
    return without_skipped(runs, visibility)
