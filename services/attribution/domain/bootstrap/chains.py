"""Tallies of the steps that Markov models of an order above 1 count."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Floats, Integers, distinct
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov.chain import (
    ChainCounts,
    first_and_last_states,
    window_keys,
)


@dataclass(frozen=True, slots=True)
class ChainTally:
    """The windows and ends of journeys at one order, over `windows` and `states` that were seen."""

    order: int
    channels: int
    windows: Integers
    states: Integers
    rows: sparse.csr_array

    def read(self, totals: Floats) -> ChainCounts:
        """See Tally. What no journey of the replicate has is left out."""
        steps, ends = totals[: len(self.windows)], totals[len(self.windows) :].reshape(4, -1)
        walked, used = steps > 0, ends[:3].any(axis=0)
        start, converted, null = (_counts(each[used]) for each in ends[:3])
        return ChainCounts(
            order=self.order,
            channels=self.channels,
            windows=self.windows[walked],
            steps=_counts(steps[walked]),
            states=self.states[used],
            start=start,
            converted=converted,
            null=null,
            value=ends[3, used],
        )


def tally_chain(
    journeys: Journeys, order: int, *, ignore_non_converting: bool = False
) -> ChainTally:
    """Tally the steps of each journey at this order, as `count_chain` counts them."""
    channels = len(journeys.channels)
    counted = journeys.converting if ignore_non_converting else len(journeys)
    offsets = journeys.offsets[: counted + 1]
    codes = journeys.codes[: offsets[-1]]
    rows, keys = window_keys(codes, offsets, order, channels + 1)
    first, last = first_and_last_states(codes, offsets, order, channels + 1)
    windows, of_row = np.unique(keys, return_inverse=True)
    states = distinct(np.concatenate([first, last]))
    everyone = np.arange(counted, dtype=np.int64)
    at_first, at_last = np.searchsorted(states, first), np.searchsorted(states, last)
    converted = everyone < journeys.converting
    own = everyone[: journeys.converting]
    behind = len(windows) + np.arange(4) * len(states)
    journey = np.concatenate(
        [np.searchsorted(offsets, rows, side="right") - 1, everyone, everyone, own]
    )
    columns = np.concatenate(
        [
            of_row,
            behind[0] + at_first,
            np.where(converted, behind[1], behind[2]) + at_last,
            behind[3] + at_last[: len(own)],
        ]
    )
    amounts = np.concatenate([np.ones(len(rows) + 2 * counted), journeys.values])
    shape = (len(journeys), len(windows) + 4 * len(states))
    table = sparse.csr_array(sparse.coo_array((amounts, (journey, columns)), shape=shape))
    return ChainTally(order, channels, windows, states, table)


def _counts(totals: Floats) -> Integers:
    counts: Integers = np.rint(totals).astype(np.int64)
    return counts
