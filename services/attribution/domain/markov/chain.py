"""Additive counts of the steps of journeys between states that look several channels back.

Source: Anderl, Becker, von Wangenheim, Schumann (2016), "Mapping the customer journey", higher
orders. A state of order k is a window of k touches; a journey visits its windows from the first
to the last, and a journey shorter than k is one state, the whole of it.

A state is spelt as an integer: its channel codes, each plus 1, are the digits in base C + 1, the
oldest first. So shards that know the same channels merge without a dictionary.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Floats, Integers, distinct
from services.attribution.domain.journeys import Journeys
from shared.errors import invalid

LARGEST_KEY = 2**63 - 1
LARGEST_TABLE = 1 << 22
"""Keys below this are counted in a table, others by sorting."""


@dataclass(frozen=True, slots=True)
class ChainCounts:
    """Additive counts of the steps of some journeys over C channels at one order.

    `windows` (ascending) are those of order + 1 touches: each is a step from the state without its
    last touch to the state without its first, and `steps` counts them, steps from a state to
    itself too. `states` (ascending) are those that journeys begin or end in; `start`, `converted`
    and `null` count those journeys and `value` sums the value of the conversions there.
    """

    order: int
    channels: int
    windows: Integers
    steps: Integers
    states: Integers
    start: Integers
    converted: Integers
    null: Integers
    value: Floats

    @property
    def base(self) -> int:
        """The base in which states are spelt."""
        return self.channels + 1

    @property
    def journeys(self) -> int:
        """How many journeys were counted."""
        return int(self.start.sum())

    @property
    def state_count(self) -> int:
        """How many states the chain has."""
        return len(
            distinct(
                np.concatenate(
                    [
                        self.windows // self.base,
                        self.windows % self.base**self.order,
                        self.states,
                    ]
                )
            )
        )

    def __add__(self, other: "ChainCounts") -> "ChainCounts":
        return self._merged(other, 1)

    def __sub__(self, other: "ChainCounts") -> "ChainCounts":
        return self._merged(other, -1)

    def _merged(self, other: "ChainCounts", sign: int) -> "ChainCounts":
        if (self.order, self.channels) != (other.order, other.channels):
            raise invalid(
                "chain",
                f"order {other.order} over {other.channels} channels",
                f"order {self.order} over {self.channels} channels",
            )
        windows, (steps,) = _sum((self.windows, other.windows), (self.steps,), (other.steps,), sign)
        states, (start, converted, null, value) = _sum(
            (self.states, other.states),
            (self.start, self.converted, self.null, self.value),
            (other.start, other.converted, other.null, other.value),
            sign,
        )
        walked, used = steps != 0, (start != 0) | (converted != 0) | (null != 0)
        return ChainCounts(
            order=self.order,
            channels=self.channels,
            windows=windows[walked],
            steps=steps[walked].astype(np.int64),
            states=states[used],
            start=start[used].astype(np.int64),
            converted=converted[used].astype(np.int64),
            null=null[used].astype(np.int64),
            value=np.where(converted == 0, 0.0, value)[used],
        )


def largest_order(channels: int) -> int:
    """Return the highest order whose steps over so many channels are spelt in 63 bits."""
    order, base = 1, max(channels, 1) + 1
    while base ** (order + 2) <= LARGEST_KEY:
        order += 1
    return order


def count_chain(journeys: Journeys, order: int) -> tuple[ChainCounts, ChainCounts]:
    """Count the steps of the converting journeys and, apart from them, of the others."""
    channels = len(journeys.channels)
    if not 1 <= order <= largest_order(channels):
        raise invalid(
            "markov.order", order, f"1 to {largest_order(channels)} over {channels} channels"
        )
    cut = int(journeys.offsets[journeys.converting])
    others = journeys.offsets[journeys.converting :] - cut
    return (
        _count(
            journeys.codes[:cut], journeys.converting_offsets, (order, channels), journeys.values
        ),
        _count(journeys.codes[cut:], others, (order, channels), None),
    )


def first_and_last_states(
    codes: Codes, offsets: Integers, order: int, base: int
) -> tuple[Integers, Integers]:
    """Return the key of the first and of the last state of each journey."""
    begins, ends = offsets[:-1], offsets[1:]
    lengths = ends - begins
    first, last = np.zeros((2, len(lengths)), dtype=np.int64)
    for place in range(order):
        inside = place < lengths
        row = np.where(inside, begins + place, 0)
        from_last = np.where(inside, np.maximum(begins, ends - order) + place, 0)
        if not len(codes):
            break
        first = np.where(inside, first * base + codes[row] + 1, first)
        last = np.where(inside, last * base + codes[from_last] + 1, last)
    return first, last


def _count(
    codes: Codes, offsets: Integers, shape: tuple[int, int], values: Floats | None
) -> ChainCounts:
    order, channels = shape
    _, keys = window_keys(codes, offsets, order, channels + 1)
    windows, steps = _tally(keys, (channels + 1) ** (order + 1))
    first, last = first_and_last_states(codes, offsets, order, channels + 1)
    states = distinct(np.concatenate([first, last]))
    at_first, at_last = np.searchsorted(states, first), np.searchsorted(states, last)
    ends = np.bincount(at_last, minlength=len(states))
    nothing = np.zeros(len(states), dtype=np.int64)
    value = np.zeros(len(states))
    if values is not None:
        value = np.bincount(at_last, weights=values, minlength=len(states)).astype(np.float64)
    return ChainCounts(
        order=order,
        channels=channels,
        windows=windows,
        steps=steps,
        states=states,
        start=np.bincount(at_first, minlength=len(states)),
        converted=nothing if values is None else ends,
        null=ends if values is None else nothing,
        value=value,
    )


def window_keys(
    codes: Codes, offsets: Integers, order: int, base: int
) -> tuple[Integers, Integers]:
    """Return the first row and the key of every window of order + 1 touches of one journey."""
    count = max(len(codes) - order, 0)
    inside = np.ones(len(codes), dtype=np.bool_)
    ends, lengths = offsets[1:], np.diff(offsets)
    for place in range(order):
        # The last `order` touches of a journey begin no window of it.
        inside[ends[lengths > place] - 1 - place] = False
    rows = np.flatnonzero(inside[:count])
    keys = np.zeros(len(rows), dtype=np.int64)
    for place in range(order + 1):
        keys *= base
        keys += codes[rows + place]
        keys += 1
    return rows, keys


def _tally(keys: Integers, bound: int) -> tuple[Integers, Integers]:
    if bound <= LARGEST_TABLE:
        table = np.bincount(keys, minlength=bound)
        found = np.flatnonzero(table)
        return found, table[found]
    distinct, counts = np.unique(keys, return_counts=True)
    return distinct, counts


def _sum(
    keys: tuple[Integers, Integers],
    left: tuple[Integers | Floats, ...],
    right: tuple[Integers | Floats, ...],
    sign: int,
) -> tuple[Integers, tuple[Integers | Floats, ...]]:
    """Add columns, or take the right ones away, by key."""
    union = distinct(np.concatenate(keys))
    places = [np.searchsorted(union, each) for each in keys]

    def added(mine: Integers | Floats, theirs: Integers | Floats) -> Integers | Floats:
        both = np.zeros((2, len(union)), dtype=mine.dtype)
        both[0, places[0]], both[1, places[1]] = mine, theirs
        total: Integers | Floats = both[0] + sign * both[1]
        return total

    return union, tuple(added(*pair) for pair in zip(left, right, strict=True))
