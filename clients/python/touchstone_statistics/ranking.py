"""The chance of each of several independent beliefs to be the best of them."""

import numpy as np

from touchstone_statistics.belief import Belief
from touchstone_statistics.gaps import BoolArray, FloatArray

SIMILAR = 1.5
"""Rivals at most this much narrower than an arm are smooth at the distance of its nodes."""
MARKS = np.array([-8.0, -5.0, -3.0, -1.5, 0.0, 1.5, 3.0, 5.0, 8.0])


def best_of(arms: Belief, increase_is_better: bool = True) -> FloatArray:
    """Chance of each arm to have the highest value (the lowest, if that is better).

    Arms are on the last axis and independent; the chances add up to 1 over it. For each arm the
    integral of its density times the chances of all others to be below (above) it: Gauss and
    Hermite's idea without the normality, and without a seed. Source: Miller (2014), "Formulas for
    Bayesian A/B testing", in closed form for integer shapes; here for any.
    """
    *batch, count = arms.mean.shape
    rows = arms.flat(arms.mean.shape)
    index = np.arange(rows.mean.size).reshape(-1, count)
    chance = np.empty((index.shape[0], count))
    for arm in range(count):
        chance[:, arm] = _chance(rows, index, arm, increase_is_better)
    return np.asarray((chance / chance.sum(axis=1, keepdims=True)).reshape(*batch, count))


def _chance(rows: Belief, index: np.ndarray, arm: int, increase: bool) -> FloatArray:
    rivals = np.delete(index, arm, axis=1)
    if rivals.shape[1] == 0:
        return np.ones(index.shape[0])
    similar: BoolArray = np.asarray(
        rows.spread[index[:, arm]] <= SIMILAR * rows.spread[rivals].min(axis=1)
    )
    chance = np.empty(index.shape[0])
    for cells, split in ((similar, False), (~similar, True)):
        if not cells.any():
            continue
        mine, others = rows[index[cells, arm]], rivals[cells]
        if split:
            centre, width = rows.mean[others][..., None], rows.std_dev[others][..., None]
            places = (centre + width * MARKS).reshape(len(others), -1)
            points, weights = mine.split_nodes(places)
        else:
            points, weights = mine.nodes()
        for rival in others.T:
            other = rows[rival]
            weights = weights * (other.below(points) if increase else other.above(points))
        chance[cells] = weights.sum(axis=1)
    return chance
