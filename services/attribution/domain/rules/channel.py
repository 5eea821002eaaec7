"""Weights by the channels of a journey.

`codes` are the channel codes of the touches, `offsets` bound the journeys. All but participation
sum to 1 in a journey. Definitions of the trade, not estimates.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Flags, Floats, Integers


def last_non_direct(offsets: Integers, direct: Flags) -> Floats:
    """Give everything to the last touch that is not direct, else to the last.

    `direct` has one entry a touch.
    """
    candidates = np.where(direct, -1, np.arange(len(direct), dtype=np.int64))
    chosen = offsets[1:] - 1
    if len(chosen):
        last = np.maximum.reduceat(candidates, offsets[:-1])
        chosen = np.where(last >= 0, last, chosen)
    weights = np.zeros(len(direct))
    weights[chosen] = 1.0
    return weights


def linear_over_channels(offsets: Integers, codes: Codes, channels: int) -> Floats:
    """Give every distinct channel of a journey the same, and its touches equal parts of it."""
    lengths = np.diff(offsets)
    cells = _cells(offsets, codes, channels)
    distinct = np.bincount(cells.journeys, minlength=len(lengths))
    weights: Floats = 1.0 / (np.repeat(distinct, lengths) * cells.touches)
    return weights


def linear_over_runs(offsets: Integers, codes: Codes) -> Floats:
    """Give every run of touches of one channel the same, and its touches equal parts of it."""
    lengths = np.diff(offsets)
    if not len(codes):
        return np.zeros(0)
    begins = np.ones(len(codes), dtype=np.bool_)
    begins[1:] = codes[1:] != codes[:-1]
    begins[offsets[:-1]] = True
    run = np.cumsum(begins) - 1
    sizes = np.bincount(run)
    runs = np.add.reduceat(begins.astype(np.int64), offsets[:-1])
    weights: Floats = 1.0 / (np.repeat(runs, lengths) * sizes[run])
    return weights


def participation(offsets: Integers, codes: Codes, channels: int) -> Floats:
    """Give every distinct channel of a journey 1, and its touches equal parts of it.

    The weights of a journey sum to the number of its channels.
    """
    weights: Floats = 1.0 / _cells(offsets, codes, channels).touches
    return weights


@dataclass(frozen=True, slots=True)
class _Cells:
    """The journey of each pair of journey and channel; and, by touch, the touches of its pair."""

    journeys: Integers
    touches: Integers


def _cells(offsets: Integers, codes: Codes, channels: int) -> _Cells:
    lengths = np.diff(offsets)
    journey = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    cells, cell_of_touch, counts = np.unique(
        journey * channels + codes, return_inverse=True, return_counts=True
    )
    return _Cells(cells // max(channels, 1), counts[cell_of_touch])
