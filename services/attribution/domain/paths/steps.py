"""The steps of journeys between channels, from the start to conversion or to nothing.

Products disagree on whether a channel may follow itself; here it is a parameter. Markov models
merge consecutive touches of one channel, so their matrix is the one without self-loops.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from services.attribution.domain.arrays import Integers
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.suppression import count_units
from services.attribution.domain.paths.transforms import PathTransform, transform_paths


class Mark(Enum):
    """A state that is no channel: where journeys begin, and how they end."""

    START = "start"
    CONVERSION = "conversion"
    NULL = "null"


State = str | Mark
"""A channel, or a mark."""


@dataclass(frozen=True, slots=True)
class Step:
    """How often `target` came next after `source`, and its part of all steps from `source`."""

    source: State
    target: State
    units: int
    count: int
    probability: float


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps that occurred, those of one source together, its most frequent target first.

    A step with fewer units than the minimum is left out, and so are others where it would follow
    from all steps from, or to, a state. `suppressed_steps` counts such kinds of steps, and
    `suppressed_count` how often they occurred: None where that may not be said.
    """

    steps: tuple[Step, ...]
    suppressed_steps: int
    suppressed_count: int | None


def count_steps(journeys: Journeys, *, self_loops: bool, min_units: int = 1) -> Steps:
    """Count the steps of all journeys."""
    if not self_loops:
        journeys = transform_paths(journeys, PathTransform.EXPOSURE)
    states: tuple[State, ...] = (Mark.START, *journeys.channels, Mark.CONVERSION, Mark.NULL)
    keys, units = _keys(journeys, len(states))
    kinds, counts = np.unique(keys, return_counts=True)
    sources, targets = np.divmod(kinds, len(states))
    lines = (sources, targets)
    held = count_units(np.searchsorted(kinds, keys), units, len(kinds), min_units, lines)
    leaving = np.bincount(sources, weights=counts, minlength=len(states))
    order = np.lexsort((targets, -counts, sources))
    few = held.suppressed
    return Steps(
        steps=tuple(
            Step(
                source=states[sources[row]],
                target=states[targets[row]],
                units=int(held.units[row]),
                count=int(counts[row]),
                probability=float(counts[row] / leaving[sources[row]]),
            )
            for row in order.tolist()
            if held.reported[row]
        ),
        suppressed_steps=int(few.sum()),
        suppressed_count=None if held.withheld else int(counts[few].sum()),
    )


def _keys(journeys: Journeys, states: int) -> tuple[Integers, Integers]:
    """Return source * states + target of every step, and its unit."""
    codes = journeys.codes.astype(np.int64) + 1
    lengths = np.diff(journeys.offsets)
    inside = np.ones(len(codes), dtype=np.bool_)
    inside[journeys.offsets[:-1]] = False
    followers = np.flatnonzero(inside)
    ends = np.where(journeys.converted, states - 2, states - 1)
    keys = np.concatenate(
        [
            codes[journeys.offsets[:-1]],
            codes[followers - 1] * states + codes[followers],
            codes[journeys.offsets[1:] - 1] * states + ends,
        ]
    )
    of_touch = np.repeat(journeys.units, lengths)
    return keys, np.concatenate([journeys.units, of_touch[followers], journeys.units])
