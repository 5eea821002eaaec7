"""Transforms of paths, as fractribution and dbt-snowplow-attribution name them.

* UNIQUE: every touch stays.
* EXPOSURE: of consecutive touches of one channel the first stays; EXPOSURE_LAST: the last.
* FIRST: of all touches of one channel in a journey the first stays; LAST: the last.
* FREQUENCY: as FIRST, and the channel says how often it stood there: `ads(2)`.
* REMOVE_IF_NOT_ALL: touches of some channels leave journeys that hold others.
* REMOVE_IF_LAST_AND_NOT_ALL: they leave the end of journeys that hold others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from services.attribution.domain.arrays import Codes, Flags, Integers
from services.attribution.domain.channel_sets import Cells, cells_of
from services.attribution.domain.events import Touches
from services.attribution.domain.journeys import Journeys


class PathTransform(Enum):
    """Which touches of a journey stay, and under which name."""

    UNIQUE = "unique"
    EXPOSURE = "exposure"
    EXPOSURE_LAST = "exposure_last"
    FIRST = "first"
    LAST = "last"
    FREQUENCY = "frequency"
    REMOVE_IF_NOT_ALL = "remove_if_not_all"
    REMOVE_IF_LAST_AND_NOT_ALL = "remove_if_last_and_not_all"

    @property
    def removes(self) -> bool:
        """Whether it is told which channels leave."""
        return self in (
            PathTransform.REMOVE_IF_NOT_ALL,
            PathTransform.REMOVE_IF_LAST_AND_NOT_ALL,
        )


@dataclass(frozen=True, slots=True)
class TransformStep:
    """A transform, and the channels that it removes if it removes any."""

    transform: PathTransform
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transformed:
    """Journeys after transforms, and what they were before.

    `whole` holds every touch still; what left a journey is named as what stayed of its channel
    there, so costs stay where they were. `touches` are those that the journeys were cut from, each
    named as in the first journey that holds it.
    """

    journeys: Journeys
    whole: Journeys
    touches: Touches


def transformed(
    touches: Touches, journeys: Journeys, steps: Sequence[TransformStep]
) -> Transformed:
    """Apply the steps in their order to journeys that were cut from `touches`."""
    whole = journeys
    for step in steps:
        if step.transform is PathTransform.FREQUENCY:
            whole, journeys = _counted(whole, journeys)
            journeys = _keeping(journeys, _first_of_channel(journeys))
        else:
            journeys = transform_paths(journeys, step.transform, step.channels)
    if whole.channels != touches.channels:
        codes: Codes = np.zeros(len(touches), dtype=np.int32)
        codes[whole.touch_rows[::-1]] = whole.codes[::-1]
        touches = replace(touches, channels=whole.channels, codes=codes)
    return Transformed(journeys, whole, touches)


def transform_paths(
    journeys: Journeys, transform: PathTransform, channels: Sequence[str] = ()
) -> Journeys:
    """Return the journeys with fewer touches; conversions, values and units are untouched.

    No journey loses its last touch. `channels` are those that a transform removes.
    """
    if transform is PathTransform.FREQUENCY:
        journeys = _counted(journeys, journeys)[1]
    return _keeping(journeys, _kept(journeys, transform, channels))


def _kept(journeys: Journeys, transform: PathTransform, channels: Sequence[str]) -> Flags:
    match transform:
        case PathTransform.UNIQUE:
            return np.ones(len(journeys.codes), dtype=np.bool_)
        case PathTransform.EXPOSURE:
            return _begins_run(journeys)
        case PathTransform.EXPOSURE_LAST:
            return _ends_run(journeys)
        case PathTransform.FIRST | PathTransform.FREQUENCY:
            return _first_of_channel(journeys)
        case PathTransform.LAST:
            return _last_of_channel(journeys)
        case PathTransform.REMOVE_IF_NOT_ALL | PathTransform.REMOVE_IF_LAST_AND_NOT_ALL:
            return _not_removed(journeys, transform, channels)


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


def _ends_run(journeys: Journeys) -> Flags:
    ends = np.ones(len(journeys.codes), dtype=np.bool_)
    ends[:-1] = journeys.codes[1:] != journeys.codes[:-1]
    ends[journeys.offsets[1:] - 1] = True
    return ends


def _last_of_channel(journeys: Journeys) -> Flags:
    cells = cells_of(journeys.codes, journeys.offsets, len(journeys.channels))
    last = np.zeros(len(cells.touches), dtype=np.int64)
    np.maximum.at(last, cells.of_touch, np.arange(len(journeys.codes), dtype=np.int64))
    flags = np.zeros(len(journeys.codes), dtype=np.bool_)
    flags[last] = True
    return flags


def _not_removed(journeys: Journeys, transform: PathTransform, channels: Sequence[str]) -> Flags:
    named = [code for code, name in enumerate(journeys.channels) if name in set(channels)]
    stays = ~np.isin(journeys.codes, named)
    others = np.concatenate([[0], np.cumsum(stays, dtype=np.int64)])
    of_journey = np.repeat(np.arange(len(journeys), dtype=np.int64), np.diff(journeys.offsets))
    all_named = others[journeys.offsets[1:]] == others[journeys.offsets[:-1]]
    if transform is PathTransform.REMOVE_IF_LAST_AND_NOT_ALL:
        behind = others[journeys.offsets[1:]][of_journey] - others[:-1]
        stays = behind > 0
    kept: Flags = stays | all_named[of_journey]
    return kept


def _counted(whole: Journeys, journeys: Journeys) -> tuple[Journeys, Journeys]:
    """Name each touch of both by its channel and how often that stands in the journey now."""
    if not len(whole.codes):
        return whole, journeys
    channels = len(whole.channels)
    now = cells_of(journeys.codes, journeys.offsets, channels)
    then = cells_of(whole.codes, whole.offsets, channels)
    width = int(now.touches.max(initial=0)) + 1
    # Each cell that is left was there before, and cells are ordered by journey and channel.
    place = np.searchsorted(_cell_keys(then, channels), _cell_keys(now, channels))
    counts: Integers = np.zeros(len(then.touches), dtype=np.int64)
    counts[place] = now.touches
    keys, of_cell = np.unique(then.channels * width + counts, return_inverse=True)
    names = [f"{whole.channels[key // width]}({key % width})" for key in keys.tolist()]
    order = sorted(range(len(names)), key=names.__getitem__)
    rank: Integers = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    spelled = tuple(names[row] for row in order)
    codes = rank[of_cell].astype(np.int32)
    return (
        replace(whole, channels=spelled, codes=codes[then.of_touch]),
        replace(journeys, channels=spelled, codes=codes[place][now.of_touch]),
    )


def _cell_keys(cells: Cells, channels: int) -> Integers:
    return cells.journeys * channels + cells.channels


def _keeping(journeys: Journeys, kept: Flags) -> Journeys:
    before = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    return replace(
        journeys,
        offsets=before[journeys.offsets],
        codes=journeys.codes[kept],
        times=journeys.times[kept],
        touch_rows=journeys.touch_rows[kept],
    )
