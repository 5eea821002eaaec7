"""What each data-driven model, fitted to some journeys, says of the conversion of others."""

from collections.abc import Callable, Sequence

import numpy as np

from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.channel_sets import count_sets, index_sets, members_of
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.learned.hazard import Stopping, fit_hazard
from services.attribution.domain.learned.logistic import Bagging, fit_bagged
from services.attribution.domain.learned.probabilistic import pair_rates
from services.attribution.domain.markov.chain import count_chain
from services.attribution.domain.markov.orders import last_state_chances
from services.attribution.domain.paths.table import tabulate_paths
from services.attribution.domain.shapley.lattice import require_few, zeta

Predictor = Callable[[Journeys, Journeys], Floats]
"""From journeys to fit and journeys held out to the chance of each of the latter."""


def markov(order: int) -> Predictor:
    """The chance of the last state of a journey in the chain of this order."""

    def predict(training: Journeys, held_out: Journeys) -> Floats:
        converting, others = count_chain(training, order)
        return last_state_chances(converting + others, held_out)

    return predict


def shao_li(training: Journeys, held_out: Journeys) -> Floats:
    """The mean rate of the pairs of channels of a journey, or the rate of its only channel."""
    return _by_set(held_out, pair_rates(count_sets(training)).predict)


def bagged_logistic(bagging: Bagging) -> Predictor:
    """The mean chance over the rounds of the regression."""

    def predict(training: Journeys, held_out: Journeys) -> Floats:
        return _by_set(held_out, fit_bagged(count_sets(training), bagging).predict)

    return predict


def subset_rate(training: Journeys, held_out: Journeys) -> Floats:
    """The worth of a journey's channels in the Shapley game SUBSET_RATE; the overall rate if new.

    At most 20 channels may be in use.
    """
    histogram = count_sets(training)
    used = histogram.members.any(axis=0)
    require_few(int(used.sum()))
    powers = np.where(used, 1 << (np.cumsum(used) - 1).clip(0), 0)
    bits, size = histogram.members @ powers, 1 << int(used.sum())
    counts = [
        zeta(np.bincount(bits, weights=each, minlength=size).astype(np.float64))
        for each in (histogram.conversions, histogram.journeys)
    ]
    overall = training.converting / max(len(training), 1)

    def rates(members: Flags) -> Floats:
        converted, seen = (count[members @ powers] for count in counts)
        chances: Floats = np.where(seen > 0, converted / np.where(seen > 0, seen, 1.0), overall)
        return chances

    return _by_set(held_out, rates)


def additive_hazard(observed_until_us: int, horizon_us: int, stopping: Stopping) -> Predictor:
    """The chance that the hazard of its touches gives a journey by the horizon."""

    def predict(training: Journeys, held_out: Journeys) -> Floats:
        return fit_hazard(training, observed_until_us, stopping).predict(held_out, horizon_us)

    return predict


def _by_set(journeys: Journeys, rates: Callable[[Flags], Floats]) -> Floats:
    index = index_sets(journeys)
    chances = np.clip(rates(members_of(index.words, len(journeys.channels))), 0.0, 1.0)
    spread: Floats = chances[index.of_journey]
    return spread


def exact_set(training: Journeys, held_out: Journeys) -> Floats:
    """The rate of journeys with exactly a journey's channels; the overall rate if new."""
    histogram = count_sets(training)
    seen = [words.tobytes() for words in histogram.words]
    asked = index_sets(held_out)
    rates = histogram.conversions / np.maximum(histogram.journeys, 1)
    found = _looked_up(seen, rates, [words.tobytes() for words in asked.words], training)
    spread: Floats = found[asked.of_journey]
    return spread


def exact_path(training: Journeys, held_out: Journeys) -> Floats:
    """The rate of journeys of exactly a journey's path; the overall rate if new."""
    known, asked = tabulate_paths(training), tabulate_paths(held_out)
    found = _looked_up(known.texts(), known.conversions / known.journeys, asked.texts(), training)
    spread: Floats = found[asked.of_journey]
    return spread


def _looked_up(
    keys: Sequence[bytes], rates: Floats, asked: Sequence[bytes], training: Journeys
) -> Floats:
    rate_of = dict(zip(keys, rates.tolist(), strict=True))
    overall = training.converting / max(len(training), 1)
    return np.array([rate_of.get(key, overall) for key in asked], dtype=np.float64)
