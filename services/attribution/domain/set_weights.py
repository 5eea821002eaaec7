"""Weights of touches under models that see only the set of channels of a journey."""

from collections.abc import Callable

import numpy as np

from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.channel_sets import cells_of, index_sets, members_of
from services.attribution.domain.journeys import Journeys

SetShares = Callable[[Flags], Floats]
"""From sets of channels (S, C) to how a conversion is divided among them (S, C)."""


def set_weights(journeys: Journeys, shares: SetShares) -> Floats:
    """Return the weight of each touch of the converting journeys; those of a journey sum to 1.

    A channel's part is shared equally by its touches. Where the shares of a set do not sum to above
    0 (the model was fitted to other journeys), its channels share equally.
    """
    index = index_sets(journeys)
    members = members_of(index.words, len(journeys.channels))
    parts = shares(members) * members
    total = parts.sum(axis=1, keepdims=True)
    equal = members / np.maximum(members.sum(axis=1, keepdims=True), 1)
    parts = np.where(total > 0, parts / np.where(total > 0, total, 1.0), equal)
    cells = cells_of(journeys.converting_codes, journeys.converting_offsets, len(journeys.channels))
    of_cell = parts[index.of_journey[cells.journeys], cells.channels] / cells.touches
    weights: Floats = of_cell[cells.of_touch]
    return weights
