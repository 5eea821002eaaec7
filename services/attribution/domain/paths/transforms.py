"""Transforms of paths, as fractribution and dbt-snowplow-attribution name them.

* UNIQUE: every touch stays.
* EXPOSURE: of consecutive touches of one channel the first stays.
* FIRST: of all touches of one channel in a journey the first stays.
* FREQUENCY: as FIRST, and the channel says how often it stood there: `ads(2)`.
"""

from dataclasses import replace
from enum import Enum

import numpy as np

from services.attribution.domain.arrays import Codes, Flags, Integers
from services.attribution.domain.channel_sets import cells_of
from services.attribution.domain.journeys import Journeys


class PathTransform(Enum):
    """Which touches of a journey stay, and under which name."""

    UNIQUE = "unique"
    EXPOSURE = "exposure"
    FIRST = "first"
    FREQUENCY = "frequency"


def transform_paths(journeys: Journeys, transform: PathTransform) -> Journeys:
    """Return the journeys with fewer touches; conversions, values and units are untouched."""
    match transform:
        case PathTransform.UNIQUE:
            return journeys
        case PathTransform.EXPOSURE:
            return _keeping(journeys, _begins_run(journeys))
        case PathTransform.FIRST:
            return _keeping(journeys, _first_of_channel(journeys))
        case PathTransform.FREQUENCY:
            return _keeping(_counted(journeys), _first_of_channel(journeys))


def _begins_run(journeys: Journeys) -> Flags:
    begins = np.ones(len(journeys.codes), dtype=np.bool_)
    begins[1:] = journeys.codes[1:] != journeys.codes[:-1]
    begins[journeys.offsets[:-1]] = True
    return begins


def _first_of_channel(journeys: Journeys) -> Flags:
    cells = cells_of(journeys.codes, journeys.offsets, len(journeys.channels))
    first = np.full(len(cells.touches), len(journeys.codes), dtype=np.int64)
    np.minimum.at(first, cells.of_touch, np.arange(len(journeys.codes), dtype=np.int64))
    flags = np.zeros(len(journeys.codes), dtype=np.bool_)
    flags[first] = True
    return flags


def _counted(journeys: Journeys) -> Journeys:
    """Name each touch by its channel and how often that stands in the journey."""
    cells = cells_of(journeys.codes, journeys.offsets, len(journeys.channels))
    width = int(cells.touches.max(initial=0)) + 1
    keys, place = np.unique(cells.channels * width + cells.touches, return_inverse=True)
    names = [f"{journeys.channels[key // width]}({key % width})" for key in keys.tolist()]
    order = sorted(range(len(names)), key=names.__getitem__)
    rank: Integers = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    codes: Codes = rank[place][cells.of_touch].astype(np.int32)
    return replace(journeys, channels=tuple(names[row] for row in order), codes=codes)


def _keeping(journeys: Journeys, kept: Flags) -> Journeys:
    before = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    return replace(
        journeys,
        offsets=before[journeys.offsets],
        codes=journeys.codes[kept],
        times=journeys.times[kept],
        touch_rows=journeys.touch_rows[kept],
    )
