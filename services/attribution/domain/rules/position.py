"""Weights by the place of a touch in its journey.

Every function takes the offsets of journeys in compressed rows (see `Journeys`) and returns one
weight a touch; the weights of a journey sum to 1. With n touches:

* first touch: w_1 = 1; last touch: w_n = 1; linear: w_i = 1/n; rank decay: w_i = 2i/(n(n + 1)).
* position with f, m = 1 - f - l, l: n = 1 gives 1; n = 2 follows `TwoTouchRule`; from n = 3 on
  `PositionVariant` says which touches get f, m and l.
* by position: the listed weights, divided by the sum of those that the journey has touches for.

These are definitions that the trade uses, not estimates: they assume nothing, and identify no
causal effect.
"""

import numpy as np

from services.attribution.domain.arrays import Floats, Integers
from services.attribution.domain.models import (
    ByPosition,
    CountFrom,
    Position,
    PositionVariant,
    TwoTouchRule,
)


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
    if model.variant is PositionVariant.PENULTIMATE:
        weights = _with_a_neighbour(offsets, lengths, model)
    else:
        weights = np.repeat(model.middle / np.maximum(lengths - 2, 1), lengths)
        weights[offsets[:-1]] = model.first
        weights[offsets[1:] - 1] = model.last
    if_two_first, if_two_last = _ends_of_two(model)
    two = lengths == 2
    weights[offsets[:-1][two]] = if_two_first
    weights[offsets[1:][two] - 1] = if_two_last
    weights[offsets[:-1][lengths == 1]] = 1.0
    return weights


def rank_decay(offsets: Integers) -> Floats:
    """Weigh touches in proportion to their rank, the first by 1."""
    lengths = np.diff(offsets)
    totals = lengths * (lengths + 1) // 2
    weights: Floats = (ranks(offsets) + 1) / np.repeat(totals, lengths)
    return weights


def by_position(offsets: Integers, model: ByPosition) -> Floats:
    """Weigh touches by a list of weights; see `ByPosition`."""
    lengths = np.diff(offsets)
    if not len(lengths):
        return np.zeros(0)
    places = ranks(offsets)
    if model.count_from is CountFrom.LAST:
        places = np.repeat(lengths, lengths) - 1 - places
    table = np.array([*model.weights, model.beyond])
    raw = table[np.minimum(places, len(model.weights))]
    totals = np.add.reduceat(raw, offsets[:-1])
    empty = np.repeat(totals <= 0, lengths)
    shares = raw / np.repeat(np.where(totals > 0, totals, 1.0), lengths)
    weights: Floats = np.where(empty, linear(offsets), shares)
    return weights


def ranks(offsets: Integers) -> Integers:
    """Return the place of each touch in its journey, counted from 0."""
    places: Integers = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
    return places


def _with_a_neighbour(offsets: Integers, lengths: Integers, model: Position) -> Floats:
    """The heavier end, its neighbour with the middle, and the rest, from three touches on."""
    lighter, heavier = sorted((model.first, model.last))
    weights = np.repeat(lighter / np.maximum(lengths - 2, 1), lengths)
    many = lengths >= 3
    if model.last > model.first:
        ends = offsets[1:][many] - 1
        neighbours = ends - 1
    else:
        ends = offsets[:-1][many]
        neighbours = ends + 1
    weights[ends] = heavier
    weights[neighbours] = model.middle
    return weights


def _ends_of_two(model: Position) -> tuple[float, float]:
    if model.two_touch_rule is TwoTouchRule.SPLIT_MIDDLE:
        half = model.middle / 2
        return model.first + half, model.last + half
    ends = model.first + model.last
    return model.first / ends, model.last / ends
