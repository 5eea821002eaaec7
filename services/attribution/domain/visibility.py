"""Which touches count for which conversions, beyond the lookback that all of them share.

* A window of its own: a touch counts for T - reach <= t, its reach that of the most specific
  window which names its channel and interaction, its channel, or its interaction.
* Associations: a touch counts for a conversion with the same code; NO_MATCH agrees with nothing.
* Direct channels: their touches count as any (KEEP), only where no other counts (SKIP_IF_OTHER),
  or never (DROP).
"""

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Integers
from services.attribution.domain.events import NO_MATCH, Conversions, Facets, Touches

DIRECT_CHANNELS = ("(direct)", "Direct", "direct")


class Direct(enum.Enum):
    """What touches of direct channels do."""

    KEEP = "keep"
    SKIP_IF_OTHER = "skip_if_other"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Window:
    """A lookback of its own; an empty name is any. `lookback_us` is in microseconds."""

    channel: str
    interaction: str
    lookback_us: int


@dataclass(frozen=True, slots=True)
class Visibility:
    """How touches count; `reaches` in microseconds and `direct`, whether the channel is a direct
    one, have an entry a touch. None: all touches have the lookback of the rules, none is direct.
    """

    reaches: Integers | None = None
    direct: Flags | None = None
    handling: Direct = Direct.KEEP

    @property
    def plain(self) -> bool:
        """Whether every touch counts within the lookback of the rules."""
        return self.reaches is None and self.handling is Direct.KEEP


@dataclass(frozen=True, slots=True)
class Seen:
    """Rows of touches by conversion in compressed rows; some conversions see none."""

    rows: Integers
    offsets: Integers

    @property
    def lengths(self) -> Integers:
        """How many touches each sees."""
        return np.diff(self.offsets)

    def newest(self, most: int) -> "Seen":
        """The last `most` of each."""
        lengths = self.lengths
        if lengths.max(initial=0) <= most:
            return self
        behind = np.repeat(self.offsets[1:], lengths) - np.arange(len(self.rows))
        return self.where(behind <= most)

    def where(self, kept: Flags) -> "Seen":
        """Those of the rows that are flagged."""
        counted = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        return Seen(self.rows[kept], counted[self.offsets])

    def of(self, conversions: Integers) -> "Seen":
        """What these of the conversions see, in ascending order."""
        if len(conversions) == len(self.offsets) - 1:
            return self
        picked = np.zeros(len(self.offsets) - 1, dtype=np.bool_)
        picked[conversions] = True
        lengths = self.lengths
        offsets = np.concatenate([[0], np.cumsum(lengths[conversions])]).astype(np.int64)
        return Seen(self.rows[np.repeat(picked, lengths)], offsets)


def reaches_of(facets: Facets, windows: Sequence[Window], lookback_us: int) -> Integers:
    """The reach of each touch: that of the most specific window, otherwise `lookback_us`."""
    table = np.full((len(facets.channels), len(facets.interactions)), lookback_us, dtype=np.int64)
    # From the least to the most specific: a later one has the last word.
    for window in sorted(windows, key=lambda each: (bool(each.channel), bool(each.interaction))):
        channels = [not window.channel or name == window.channel for name in facets.channels]
        kinds = [
            not window.interaction or name == window.interaction for name in facets.interactions
        ]
        table[np.ix_(channels, kinds)] = window.lookback_us
    reaches: Integers = table[facets.channel_codes, facets.interaction_codes]
    return reaches


def direct_of(facets: Facets, channels: Collection[str]) -> Flags:
    """Whether each touch came through one of these channels."""
    named = np.array([name in channels for name in facets.channels], dtype=np.bool_)
    flags: Flags = named[facets.channel_codes] if len(named) else np.zeros(0, dtype=np.bool_)
    return flags


def narrowed(
    seen: Seen, touches: Touches, conversions: Conversions, visibility: Visibility
) -> tuple[Seen, Seen]:
    """What counts of the touches that the conversions see within the longest reach.

    The second is what is explained by them: it holds the direct touches too that are skipped
    because another touch counts.
    """
    of = np.repeat(np.arange(len(conversions), dtype=np.int64), seen.lengths)
    kept = np.ones(len(seen.rows), dtype=np.bool_)
    if visibility.reaches is not None:
        ages = conversions.times[of] - touches.times[seen.rows]
        kept &= ages <= visibility.reaches[seen.rows]
    if touches.matches is not None and conversions.matches is not None:
        agreed = touches.matches[seen.rows]
        kept &= (agreed == conversions.matches[of]) & (agreed != NO_MATCH)
    if visibility.handling is Direct.DROP and visibility.direct is not None:
        kept &= ~visibility.direct[seen.rows]
    explained = seen.where(kept)
    return without_skipped(explained, visibility), explained


def without_skipped(seen: Seen, visibility: Visibility) -> Seen:
    """Leaves out direct touches where SKIP_IF_OTHER says so and there is another one."""
    if visibility.handling is not Direct.SKIP_IF_OTHER or visibility.direct is None:
        return seen
    other = ~visibility.direct[seen.rows]
    before = np.concatenate([[0], np.cumsum(other)])
    others = before[seen.offsets[1:]] - before[seen.offsets[:-1]]
    return seen.where(other | np.repeat(others == 0, seen.lengths))
