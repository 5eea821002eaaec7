"""Where the milestones of converting journeys stand, and the weights that they give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Floats, Integers, frozen_integers
from services.attribution.domain.models import FullPath
from shared.errors import invalid

NOT_REACHED = -1


@dataclass(frozen=True, slots=True)
class JourneyMilestones:
    """The touch before each milestone of each converting journey.

    `positions` has shape (converting journeys, milestones): the place of the touch in its
    journey, counted from 0, or NOT_REACHED where the milestone was not reached, or before any
    touch.
    """

    names: tuple[str, ...]
    positions: Integers

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", frozen_integers(self.positions))
        if self.positions.ndim != 2 or self.positions.shape[1] != len(self.names):
            raise invalid("milestones", self.positions.shape, "one column for each name")

    def columns(self, names: Sequence[str]) -> Integers:
        """The positions of these milestones, in their order."""
        missing = [name for name in names if name not in self.names]
        if missing:
            raise invalid(
                "full_path.milestones", missing, f"those of the journeys: {[*self.names]}"
            )
        columns: Integers = self.positions[:, [self.names.index(name) for name in names]]
        return columns


def full_path(offsets: Integers, model: FullPath, milestones: JourneyMilestones) -> Floats:
    """Weigh first touch, last touch, those before milestones, and the others; see `FullPath`."""
    lengths = np.diff(offsets)
    positions = milestones.columns(model.names)
    if positions.shape[0] != len(lengths):
        raise invalid("milestones", len(positions), f"a row for each of {len(lengths)} journeys")
    if (positions >= lengths[:, None]).any() or (positions < NOT_REACHED).any():
        raise invalid("milestones", "a position off its journey", "positions of touches, or -1")
    fixed = np.zeros(int(offsets[-1]))
    anchored = np.zeros(len(fixed), dtype=np.bool_)
    places = [(offsets[:-1], model.first), (offsets[1:] - 1, model.last)]
    for column, milestone in enumerate(model.milestones):
        reached = positions[:, column] != NOT_REACHED
        places.append(((offsets[:-1] + positions[:, column])[reached], milestone.weight))
    for rows, weight in places:
        fixed[rows] += weight
        anchored[rows] |= weight > 0
    if not len(fixed):
        return fixed
    others = lengths - np.add.reduceat(anchored.astype(np.int64), offsets[:-1])
    share = np.repeat(model.others / np.maximum(others, 1), lengths)
    raw = np.where(anchored, fixed, share)
    weights: Floats = raw / np.repeat(np.add.reduceat(raw, offsets[:-1]), lengths)
    return weights
