"""Fractribution: what a path converts less without one of its touches.

Source: google/fractribution (fractribution.py). With p the conversion rate of journeys of exactly a
path (0 if no journey took it), touch i of a converting path gets max(p(path) - p(path without i),
0), divided by the sum over its touches; where all are 0, the last touch gets everything, as does
the only touch of a path. Paths are transformed first: see `PathTransform`.

Every conversion counts with its own value. (The original overwrites the revenue of a path that its
input names twice; rows of one path are one path here.) Estimand: differences of observed rates. It
is descriptive.
"""

import numpy as np

from services.attribution.domain.arrays import Floats
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.table import CODE, PathTable, tabulate_paths


def fractribution_weights(journeys: Journeys) -> Floats:
    """Return the weight of each touch of the converting journeys; those of a journey sum to 1."""
    table = tabulate_paths(journeys)
    rates = table.conversions / table.journeys
    place = {path: row for row, path in enumerate(table.paths)}
    of_path = {
        row: _path_weights(table, rates, place, row)
        for row in np.flatnonzero(table.conversions).tolist()
    }
    converting = table.of_journey[: journeys.converting].tolist()
    return np.concatenate([np.zeros(0), *(of_path[row] for row in converting)])


def _path_weights(table: PathTable, rates: Floats, place: dict[bytes, int], row: int) -> Floats:
    path, step = table.paths[row], CODE.itemsize
    touches = len(path) // step
    gains = np.zeros(touches)
    if touches > 1:
        for touch in range(touches):
            rest = place.get(path[: touch * step] + path[(touch + 1) * step :])
            gains[touch] = max(rates[row] - (0.0 if rest is None else rates[rest]), 0.0)
    total = gains.sum()
    if total > 0:
        weights: Floats = gains / total
        return weights
    gains[-1] = 1.0
    return gains
