"""The credit of single conversions by the removal effects of their channels."""

import numpy as np

from services.attribution.domain.arrays import Codes, Floats, Integers


def path_credit(codes: Codes, offsets: Integers, effects: Floats) -> Floats:
    """Return weights of touches: RE_c over the sum of RE of the distinct channels of the journey.

    The part of a channel is divided equally among its touches in the journey. Where every channel
    of a journey has effect 0 (it was scored with the effects of other journeys), its distinct
    channels share equally.
    """
    if not len(codes):
        return np.zeros(0)
    lengths = np.diff(offsets)
    journey = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    cells, cell_of_touch, touches_in_cell = np.unique(
        journey * len(effects) + codes, return_inverse=True, return_counts=True
    )
    cell_journey, cell_channel = np.divmod(cells, len(effects))
    raw = effects[cell_channel]
    totals = np.bincount(cell_journey, weights=raw, minlength=len(lengths))
    powerless = totals[cell_journey] <= 0
    raw = np.where(powerless, 1.0, raw)
    totals = np.bincount(cell_journey, weights=raw, minlength=len(lengths))
    per_touch = raw / totals[cell_journey] / touches_in_cell
    weights: Floats = per_touch[cell_of_touch]
    return weights
