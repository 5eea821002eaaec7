"""The distinct channels of journeys: as cells of one journey, and as a histogram over sets.

A set is a row of 64-bit words: channel c is bit c % 64 of word c // 64. One word holds 64 channels;
any number of channels takes as many words as it needs. Sets are ordered by their words, so a
histogram does not depend on the order of journeys, and histograms of shards merge by `+`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.attribution.domain.arrays import Codes, Flags, Floats, Integers
from services.attribution.domain.journeys import Journeys
from shared.errors import invalid

Words = NDArray[np.uint64]

WORD_BITS = 64
HALF_WORD_BITS = 32
SMALL_TABLE = 1 << 22
JOURNEYS_AT_ONCE = 1 << 16
"""So many have their bits in the caches of a processor, where one array of all would leave them."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The distinct (journey, channel) pairs of some journeys, ordered by journey, then channel.

    `touches` counts the touches of each pair and `of_touch` names the pair of each touch.
    `sizes` has one entry a journey: its number of distinct channels.
    """

    journeys: Integers
    channels: Integers
    touches: Integers
    of_touch: Integers
    sizes: Integers


@dataclass(frozen=True, slots=True)
class SetHistogram:
    """Journeys by the set of their distinct channels.

    `words` has shape (S, W); `journeys`, `conversions` and `values` (S,) count the journeys with
    exactly this set, those that converted, and sum the value of their conversions.
    """

    channels: tuple[str, ...]
    words: Words
    journeys: Integers
    conversions: Integers
    values: Floats

    def __len__(self) -> int:
        return len(self.journeys)

    def __add__(self, other: "SetHistogram") -> "SetHistogram":
        if self.channels != other.channels:
            raise invalid("channels", other.channels, f"those merged: {self.channels}")
        words, inverse = _distinct_rows(np.concatenate([self.words, other.words]))

        def total(left: Integers | Floats, right: Integers | Floats) -> Floats:
            both = np.concatenate([left, right]).astype(np.float64)
            return np.bincount(inverse, weights=both, minlength=len(words)).astype(np.float64)

        return SetHistogram(
            channels=self.channels,
            words=words,
            journeys=total(self.journeys, other.journeys).astype(np.int64),
            conversions=total(self.conversions, other.conversions).astype(np.int64),
            values=total(self.values, other.values),
        )

    @property
    def members(self) -> Flags:
        """Whether each set holds each channel, of shape (S, C)."""
        return members_of(self.words, len(self.channels))

    @property
    def sizes(self) -> Integers:
        """The number of channels in each set."""
        counts: Integers = np.bitwise_count(self.words).sum(axis=1, dtype=np.int64)
        return counts


@dataclass(frozen=True, slots=True)
class SetIndex:
    """The distinct sets of some journeys, and the row of each journey's set in `words`."""

    words: Words
    of_journey: Integers


def index_sets(journeys: Journeys) -> SetIndex:
    """Find the set of distinct channels of every journey."""
    words, of_journey = _distinct_rows(
        _words(journeys.codes, journeys.offsets, len(journeys.channels))
    )
    return SetIndex(words, of_journey)


def members_of(words: Words, channels: int) -> Flags:
    """Return whether each set holds each channel, of shape (S, C)."""
    codes = np.arange(channels)
    bits = words[:, codes // WORD_BITS] >> (codes % WORD_BITS).astype(np.uint64)
    flags: Flags = (bits & np.uint64(1)).astype(np.bool_)
    return flags


def count_sets(journeys: Journeys) -> SetHistogram:
    """Count journeys, conversions and value by set of distinct channels."""
    index = index_sets(journeys)
    converting = index.of_journey[: journeys.converting]
    size = len(index.words)
    return SetHistogram(
        channels=journeys.channels,
        words=index.words,
        journeys=np.bincount(index.of_journey, minlength=size),
        conversions=np.bincount(converting, minlength=size),
        values=np.bincount(converting, weights=journeys.values, minlength=size).astype(np.float64),
    )


def cells_of(codes: Codes, offsets: Integers, channels: int) -> Cells:
    """Find the distinct channels of each journey, and how often each stands in it."""
    lengths = np.diff(offsets)
    journey = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    keys, of_touch, touches = np.unique(
        journey * max(channels, 1) + codes, return_inverse=True, return_counts=True
    )
    of_cell, channel = np.divmod(keys, max(channels, 1))
    return Cells(of_cell, channel, touches, of_touch, np.bincount(of_cell, minlength=len(lengths)))


def _words(codes: Codes, offsets: Integers, channels: int) -> Words:
    count = max(1, -(-channels // WORD_BITS))
    words = np.zeros((len(offsets) - 1, count), dtype=np.uint64)
    if not len(codes):
        return words
    bit = np.left_shift(np.uint64(1), np.arange(WORD_BITS, dtype=np.uint64))
    for first in range(0, len(words), JOURNEYS_AT_ONCE):
        bounds = offsets[first : first + JOURNEYS_AT_ONCE + 1]
        block = codes[bounds[0] : bounds[-1]]
        starts = bounds[:-1] - bounds[0]
        if channels <= HALF_WORD_BITS:
            # Shifts of 32 bits are several times faster than looking the bits up.
            halves = np.left_shift(np.uint32(1), block.astype(np.uint32))
            words[first : first + len(starts), 0] = np.bitwise_or.reduceat(halves, starts)
            continue
        bits = bit[block & (WORD_BITS - 1)]
        for word in range(count):
            own = bits if count == 1 else np.where(block // WORD_BITS == word, bits, np.uint64(0))
            words[first : first + len(starts), word] = np.bitwise_or.reduceat(own, starts)
    return words


def _distinct_rows(words: Words) -> tuple[Words, Integers]:
    """Return the distinct rows, ordered by their first word first, and the place of each row."""
    largest = int(words.max(initial=0))
    if words.shape[1] == 1 and largest < SMALL_TABLE:
        return _distinct_small(words[:, 0].astype(np.int64), largest)
    place = np.zeros(len(words), dtype=np.int64)
    for column in words.T:
        distinct, rank = np.unique(column, return_inverse=True)
        _, place = np.unique(place * max(len(distinct), 1) + rank, return_inverse=True)
    first = np.zeros(int(place.max(initial=-1)) + 1, dtype=np.int64)
    first[place] = np.arange(len(words), dtype=np.int64)
    return words[first], place


def _distinct_small(words: Integers, largest: int) -> tuple[Words, Integers]:
    """Find the distinct words by a table of all, which is several times faster than a sort."""
    seen = np.zeros(largest + 1, dtype=np.bool_)
    seen[words] = True
    rank = np.cumsum(seen) - 1
    distinct = np.flatnonzero(seen) if len(words) else np.zeros(0, dtype=np.int64)
    return distinct.astype(np.uint64)[:, None], rank[words]
