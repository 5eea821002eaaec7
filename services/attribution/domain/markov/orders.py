"""How well chains of each order tell journeys that convert, and which order to take.

The penalised area is that of ChannelAttribution (Altomare), 1 - (1 - AUC)(n - 1)/(n - S - 1) for n
journeys and S states, here on journeys that the chain has not seen, and with the states that it
has (ChannelAttribution penalises by the number of unordered k-tuples of channels instead).
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import scipy  # its statistics load when they are first used: they take most of a second

from services.attribution.domain.arrays import Flags, Floats, Integers
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov.absorbing import system_of
from services.attribution.domain.markov.chain import (
    ChainCounts,
    count_chain,
    first_and_last_states,
)
from services.attribution.domain.markov.removal import chances_of
from services.attribution.domain.markov.walks import walks
from shared.errors import invalid

LEAST_CHANCE = 1e-15


class Chance(Enum):
    """What a chain says of a journey whose last state is known.

    AT_END: that a journey which ends there has converted; calibrated for journeys that are over,
    and what ChannelAttribution compares orders by. EVENTUALLY: that a walk from there converts,
    now or after further touches; for journeys that may go on.
    """

    AT_END = "at_end"
    EVENTUALLY = "eventually"


@dataclass(frozen=True, slots=True)
class OrderFit:
    """What held-out journeys say of one order.

    `auc` is None where all of them converted or none did; `penalised_auc` also where there are too
    few journeys for so many states. `log_loss` is in nats a journey. `unseen` journeys end in a
    state that the chain has not seen, and were told by their last touches alone.
    """

    order: int
    states: int
    auc: float | None
    penalised_auc: float | None
    log_loss: float
    unseen: int


@dataclass(frozen=True, slots=True)
class OrderChoice:
    """The fits of orders 1 to k, and the order with the largest penalised area.

    Equal ones give the lower order, and without any area order 1 is chosen.
    """

    fits: tuple[OrderFit, ...]
    order: int


def select_order(
    training: Journeys,
    held_out: Journeys,
    max_order: int,
    chance: Chance = Chance.AT_END,
    prior_journeys: float = 1.0,
) -> OrderChoice:
    """Fit chains to `training` and judge them by `held_out`, which must know the same channels.

    The chance of a state is drawn toward that of the same journeys at the next lower order, and
    at order 1 toward the overall rate, with the weight of `prior_journeys`. A state that was not
    seen has that of the lower order.
    """
    if training.channels != held_out.channels:
        raise invalid("held_out.channels", held_out.channels, f"{training.channels}")
    if not len(training) or not len(held_out):
        raise invalid("journeys", 0, "journeys to fit and journeys held out")
    if not prior_journeys >= 0:
        raise invalid("prior_journeys", prior_journeys, "a number that is not negative")
    chances = np.full(len(held_out), training.converting / len(training))
    fits = []
    for order in range(1, max_order + 1):
        converting, others = count_chain(training, order)
        chances, states, unseen = _predict(
            converting + others, held_out, (chance, prior_journeys), chances
        )
        auc = area_under_curve(chances, held_out.converted)
        fits.append(
            OrderFit(
                order,
                states,
                auc,
                penalised(auc, len(held_out), states),
                _log_loss(chances, held_out.converted),
                unseen,
            )
        )
    best = max(fits, key=lambda fit: (fit.penalised_auc or 0.0, -fit.order))
    return OrderChoice(tuple(fits), best.order)


def last_state_chances(
    counts: ChainCounts, journeys: Journeys, chance: Chance = Chance.AT_END
) -> Floats:
    """Return the chance of each journey by its last state; the overall rate if that is unseen."""
    converted = int(counts.converted.sum())
    overall = np.full(len(journeys), converted / max(counts.journeys, 1))
    return _predict(counts, journeys, (chance, 0.0), overall)[0]


def area_under_curve(chances: Floats, converted: Flags) -> float | None:
    """Return the chance that a journey that converted scores above one that did not.

    Ties count half (Mann and Whitney 1947). None where there is nothing to compare.
    """
    positives = int(np.count_nonzero(converted))
    negatives = len(converted) - positives
    if not positives or not negatives:
        return None
    ranks = scipy.stats.rankdata(chances)
    return float(
        (ranks[converted].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    )


def penalised(auc: float | None, journeys: int, states: int) -> float | None:
    """Return 1 - (1 - AUC)(n - 1)/(n - S - 1), None where n does not exceed S + 1."""
    if auc is None or journeys <= states + 1:
        return None
    return 1 - (1 - auc) * (journeys - 1) / (journeys - states - 1)


def _predict(
    counts: ChainCounts, journeys: Journeys, rule: tuple[Chance, float], lower: Floats
) -> tuple[Floats, int, int]:
    """The chance of each journey, how many states the chain has, and how many were unseen."""
    chance, prior = rule
    chain = walks(counts)
    _, last = first_and_last_states(journeys.codes, journeys.offsets, counts.order, counts.base)
    if chance is Chance.EVENTUALLY:
        system = system_of(chain.moves, chain.visits)
        keys, own = chain.keys, np.clip(chances_of(system, chain.converts)[0], 0.0, 1.0)
        weights: Integers = np.rint(chain.visits * counts.journeys).astype(np.int64)
    else:
        weights = counts.converted + counts.null
        ended = weights > 0
        keys, weights = counts.states[ended], weights[ended]
        own = counts.converted[ended] / weights
    if not len(keys):
        return lower, 0, len(journeys)
    at = np.minimum(np.searchsorted(keys, last), len(keys) - 1)
    seen = keys[at] == last
    weight = np.where(seen, weights[at], 0)
    mixed = (own[at] * weight + lower * prior) / np.where(seen, weight + prior, 1.0)
    return np.where(seen, mixed, lower), len(chain.keys), int(np.count_nonzero(~seen))


def _log_loss(chances: Floats, converted: Flags) -> float:
    right = np.where(converted, chances, 1.0 - chances)
    return float(-np.log(np.maximum(right, LEAST_CHANCE)).mean())
