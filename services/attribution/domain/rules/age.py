"""Weights by the time of a touch.

Time decay with half-life H: w_i proportional to 2^(-(T - t_i)/H), for touches at t_i before a
conversion at T, normalised in the journey; another factor d than a half is d^((T - t_i)/H).
Definitions of the trade, not estimates.
"""

import math

import numpy as np

from services.attribution.domain.arrays import Floats, Integers
from services.attribution.domain.models import DecayAge, SameTouch, TimeDecay


def time_decay(
    offsets: Integers, times: Integers, model: TimeDecay, conversion_times: Integers | None = None
) -> Floats:
    """Weigh each touch by the factor to the power of age/H, normalised within its journey.

    An exact age is counted from the last touch: what a touch lost between t_n and T is shared by
    the whole journey and cancels. `conversion_times` are needed where whole half-lives are counted
    from the conversion. Of every journey the smallest age is taken off first, so that none can
    underflow to a sum of zero.
    """
    lengths = np.diff(offsets)
    if not len(lengths):
        return np.zeros(0)
    origins = times[offsets[1:] - 1]
    if model.age is DecayAge.WHOLE_FROM_CONVERSION and conversion_times is not None:
        origins = conversion_times
    elapsed = np.repeat(origins, lengths) - times
    if model.age is DecayAge.EXACT:
        ages: Floats = elapsed / model.half_life_us
    else:
        ages = (elapsed // model.half_life_us).astype(np.float64)
    youngest = np.minimum.reduceat(ages, offsets[:-1])
    halvings = -math.log2(model.factor)
    raw: Floats = np.exp2(halvings * (np.repeat(youngest, lengths) - ages))
    weights: Floats = raw / np.repeat(np.add.reduceat(raw, offsets[:-1]), lengths)
    return weights


def same_touch(
    offsets: Integers, times: Integers, model: SameTouch, conversion_times: Integers
) -> Floats:
    """Share the conversion among the touches of its instant; a journey without one sums to 0."""
    lengths = np.diff(offsets)
    if not len(lengths):
        return np.zeros(0)
    with_it = np.repeat(conversion_times, lengths) - times <= model.within_us
    counts = np.add.reduceat(with_it.astype(np.int64), offsets[:-1])
    weights: Floats = with_it / np.repeat(np.maximum(counts, 1), lengths)
    return weights
