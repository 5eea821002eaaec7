"""Fractribution: what a path converts less without one of its touches.

Source: google/fractribution (fractribution.py). With p the conversion rate of journeys of exactly a
path (0 if no journey took it), touch i of a converting path gets max(p(path) - p(path without i),
0), divided by the sum over its touches; where all are 0, the last touch gets everything, as does
the only touch of a path. Paths are transformed first: see `PathTransform`.

Every conversion counts with its own value. (The original overwrites the revenue of a path that its
input names twice; rows of one path are one path here.) Estimand: differences of observed rates. It
is descriptive.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Floats, Integers
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.table import CODE, PathTable, tabulate_paths
from services.attribution.domain.windows import expand

NEVER_TAKEN = -1


@dataclass(frozen=True, slots=True)
class PathLinks:
    """The paths that someone converted on, and what is left of each without one of its touches.

    `paths` (K,) are rows of the table of paths, `offsets` (K + 1,) bound the touches of each, and
    `codes` are their channels. `without` is the row of the path that is left when that touch is
    taken out, or NEVER_TAKEN.
    """

    paths: Integers
    offsets: Integers
    codes: Codes
    without: Integers

    def weights(self, rates: Floats) -> Floats:
        """Return the weight of each touch, by the conversion rate of each path of the table."""
        lengths = np.diff(self.offsets)
        if not len(lengths):
            return np.zeros(0)
        left = np.where(self.without == NEVER_TAKEN, 0.0, rates[self.without])
        gains = np.maximum(np.repeat(rates[self.paths], lengths) - left, 0.0)
        gains[np.repeat(lengths == 1, lengths)] = 0.0
        totals = np.add.reduceat(gains, self.offsets[:-1])
        gains[self.offsets[1:][totals <= 0] - 1] = 1.0
        weights: Floats = gains / np.repeat(np.where(totals > 0, totals, 1.0), lengths)
        return weights


def fractribution_weights(journeys: Journeys) -> Floats:
    """Return the weight of each touch of the converting journeys; those of a journey sum to 1."""
    table = tabulate_paths(journeys)
    links = link_paths(table)
    of_path = links.weights(table.conversions / table.journeys)
    place = np.searchsorted(links.paths, table.of_journey[: journeys.converting])
    touches, _ = expand(links.offsets[place], links.offsets[place + 1])
    weights: Floats = of_path[touches]
    return weights


def link_paths(table: PathTable) -> PathLinks:
    """Find what is left of each path that someone converted on without one of its touches."""
    step = CODE.itemsize
    paths = np.flatnonzero(table.conversions)
    texts = table.texts()
    place = {path: row for row, path in enumerate(texts)}
    sequences = [texts[row] for row in paths.tolist()]
    without = [
        place.get(path[:begin] + path[begin + step :], NEVER_TAKEN)
        for path in sequences
        for begin in range(0, len(path), step)
    ]
    lengths = [len(path) // step for path in sequences]
    return PathLinks(
        paths=paths,
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        codes=np.frombuffer(b"".join(sequences), dtype=CODE).astype(np.int32),
        without=np.array(without, dtype=np.int64),
    )
