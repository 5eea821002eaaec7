"""Rule models: weights of the touches of each converting journey.

Every function takes the offsets of journeys in compressed rows (see `Journeys`) and returns one
weight a touch; the weights of a journey sum to 1. With n touches at times t_1 <= ... <= t_n and
the conversion at T:

* first touch: w_1 = 1; last touch: w_n = 1; linear: w_i = 1/n.
* position with f, m = 1 - f - l, l: n = 1 gives 1; n = 2 follows `TwoTouchRule`; from n = 3 on the
  ends get f and l, and each of the others m/(n - 2). U-shaped is f = l = .4.
* time decay with half-life H: w_i proportional to 2^(-(T - t_i)/H), normalised in the journey.

These are definitions that the trade uses, not estimates: they assume nothing, and identify no
causal effect.
"""

import numpy as np

from services.attribution.domain.arrays import Floats, Integers
from services.attribution.domain.models import (
    FirstTouch,
    LastTouch,
    Linear,
    Position,
    RuleModel,
    TimeDecay,
    TwoTouchRule,
)


def touch_weights(model: RuleModel, offsets: Integers, times: Integers) -> Floats:
    """Return the weight of each touch under `model`; `times` are those of the touches."""
    match model:
        case FirstTouch():
            return first_touch(offsets)
        case LastTouch():
            return last_touch(offsets)
        case Linear():
            return linear(offsets)
        case Position():
            return position(offsets, model)
        case TimeDecay():
            return time_decay(offsets, times, model)


def first_touch(offsets: Integers) -> Floats:
    """Give everything to the first touch."""
    weights = np.zeros(int(offsets[-1]))
    weights[offsets[:-1]] = 1.0
    return weights


def last_touch(offsets: Integers) -> Floats:
    """Give everything to the last touch."""
    weights = np.zeros(int(offsets[-1]))
    weights[offsets[1:] - 1] = 1.0
    return weights


def linear(offsets: Integers) -> Floats:
    """Give every touch the same weight."""
    lengths = np.diff(offsets)
    return np.repeat(1.0 / lengths, lengths)


def position(offsets: Integers, model: Position) -> Floats:
    """Weigh the first, the middle and the last touches."""
    lengths = np.diff(offsets)
    weights = np.repeat(model.middle / np.maximum(lengths - 2, 1), lengths)
    if_two_first, if_two_last = _ends_of_two(model)
    two = lengths == 2
    weights[offsets[:-1]] = np.where(two, if_two_first, model.first)
    weights[offsets[1:] - 1] = np.where(two, if_two_last, model.last)
    weights[offsets[:-1][lengths == 1]] = 1.0
    return weights


def time_decay(offsets: Integers, times: Integers, model: TimeDecay) -> Floats:
    """Weigh each touch by 2^(-(T - t)/H), normalised within its journey.

    The age is counted from the last touch: the factor 2^(-(T - t_n)/H) is shared by the whole
    journey and cancels, and without it no journey can underflow to a sum of zero.
    """
    lengths = np.diff(offsets)
    if not len(lengths):
        return np.zeros(0)
    ages = np.repeat(times[offsets[1:] - 1], lengths) - times
    raw: Floats = np.exp2(-ages / model.half_life_us)
    totals = np.add.reduceat(raw, offsets[:-1])
    weights: Floats = raw / np.repeat(totals, lengths)
    return weights


def _ends_of_two(model: Position) -> tuple[float, float]:
    if model.two_touch_rule is TwoTouchRule.SPLIT_MIDDLE:
        half = model.middle / 2
        return model.first + half, model.last + half
    ends = model.first + model.last
    return model.first / ends, model.last / ends
