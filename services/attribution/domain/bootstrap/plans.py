"""What each model says of a replicate, read from tallies that models share.

Sufficient statistics are weighed and journeys are never cut again: credits of touches where the
weights of a journey depend on no other, and otherwise what the model is computed from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Floats
from services.attribution.domain.bootstrap.chains import tally_chain
from services.attribution.domain.bootstrap.tallies import (
    DividedSets,
    Tally,
    tally_credits,
    tally_divided_sets,
    tally_journeys,
    tally_paths,
    tally_sets,
    tally_size,
    tally_steps,
)
from services.attribution.domain.channel_sets import SetHistogram
from services.attribution.domain.credits import (
    ChannelCredits,
    credits_by_channel,
    removal_share_credits,
    rule_weights,
)
from services.attribution.domain.data_driven import (
    bagged_credits,
    hazard_weights,
    learned_credits,
    learned_game,
    shao_li_credits,
)
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import (
    RemovalEffects,
    chain_removal_effects,
    removal_effects,
)
from services.attribution.domain.milestones import JourneyMilestones
from services.attribution.domain.models import (
    AdditiveHazard,
    BaggedLogistic,
    Fractribution,
    LearnedShapley,
    Markov,
    Model,
    OrderedShapley,
    Probabilistic,
    Shapley,
)
from services.attribution.domain.shapley import Game, additive
from services.attribution.domain.shapley.rates import rate_game

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a table of a model says of one replicate; `effects` of Markov models alone."""

    credits: ChannelCredits
    effects: Floats | None = None


Reader = Callable[[Floats], tuple[Drawn, ...]]
"""From the weighted sums of all tallies to the tables of a model, in their order."""


class Tallies:
    """The tallies of some models over the same journeys, side by side, each kind once."""

    def __init__(self, journeys: Journeys, milestones: JourneyMilestones | None) -> None:
        self._journeys, self._milestones = journeys, milestones
        self._width = 0
        self._rows: list[sparse.csr_array] = []
        self._known: dict[object, Callable[[Floats], object]] = {}
        self.size = self._reads("size", lambda: tally_size(journeys))

    @property
    def rows(self) -> sparse.csr_array:
        """All statistics of each journey."""
        return sparse.csr_array(sparse.hstack(self._rows))

    def reader(self, model: Model) -> Reader:
        """Return how the tables of the model are read."""
        match model:
            case AdditiveHazard():
                every = self._reads("journeys", lambda: tally_journeys(self._journeys))
                return lambda sums: (Drawn(_of_journeys(every(sums), self._journeys)),)
            case Markov():
                return self._markov(model)
            case Shapley(Game.SIMPLIFIED) | OrderedShapley():
                return self._credits("additive", lambda: additive.touch_weights(self._journeys))
            case Fractribution():
                paths = self._reads("paths", lambda: tally_paths(self._journeys))
                return lambda sums: (Drawn(paths(sums)),)
            case Shapley() | Probabilistic() | BaggedLogistic() | LearnedShapley():
                sets = self._reads("sets", lambda: tally_sets(self._journeys))
                return lambda sums: (Drawn(_of_sets(model, sets(sums))),)
            case _:
                return self._credits(
                    model, lambda: rule_weights(model, self._journeys, self._milestones)
                )

    def _credits(self, key: object, weights: Callable[[], Floats]) -> Reader:
        found = self._reads(key, lambda: tally_credits(weights(), self._journeys))
        return lambda sums: (Drawn(found(sums)),)

    def _markov(self, model: Markov) -> Reader:
        effects = self._effects(model)
        sets = self._reads("divided sets", lambda: tally_divided_sets(self._journeys))

        def read(sums: Floats) -> tuple[Drawn, ...]:
            found = effects(sums)
            divided: DividedSets = sets(sums)
            conversions, value = self.size(sums)
            share = removal_share_credits(found, round(conversions), value)
            path = divided.divided_by(found.effects)
            return Drawn(share, found.effects), Drawn(path, found.effects)

        return read

    def _effects(self, model: Markov) -> Callable[[Floats], RemovalEffects]:
        alone = model.ignore_non_converting
        key = ("steps", model.order, alone)
        if model.order == 1:
            steps = self._reads(
                key, lambda: tally_steps(self._journeys, ignore_non_converting=alone)
            )
            return lambda sums: removal_effects(steps(sums))
        chain = self._reads(
            key, lambda: tally_chain(self._journeys, model.order, ignore_non_converting=alone)
        )
        return lambda sums: chain_removal_effects(chain(sums))

    def _reads(self, key: object, make: Callable[[], Tally[S]]) -> Callable[[Floats], S]:
        """Return how the tally is read out of all sums; it is made the first time."""
        if key not in self._known:
            tally = make()
            own = slice(self._width, self._width + tally.rows.shape[1])
            self._width = own.stop
            self._rows.append(tally.rows)
            self._known[key] = lambda sums: tally.read(sums[own])
        return self._known[key]  # type: ignore[return-value]  # a key is of one kind of tally


def _of_journeys(times: Floats, journeys: Journeys) -> ChannelCredits:
    """The additive hazard has no statistic smaller than the journeys: it is fitted anew."""
    return credits_by_channel(hazard_weights(journeys, times), journeys)


def _of_sets(
    model: Shapley | Probabilistic | BaggedLogistic | LearnedShapley, histogram: SetHistogram
) -> ChannelCredits:
    seen = histogram.journeys > 0
    histogram = SetHistogram(
        histogram.channels,
        histogram.words[seen],
        histogram.journeys[seen],
        histogram.conversions[seen],
        histogram.values[seen],
    )
    match model:
        case Shapley(game):
            return rate_game(game, histogram).credits
        case Probabilistic():
            return shao_li_credits(histogram)
        case BaggedLogistic():
            return bagged_credits(model, histogram)
        case LearnedShapley():
            return learned_credits(learned_game(model, histogram), histogram)


def figures(drawn: Drawn, conversions: float, hidden: Floats) -> Floats | None:
    """Return conversions, value, share and effects of channels as rows; None where undefined.

    A last column holds the sum over the `hidden` channels (C,); its effect is undefined, and 0.
    """
    if conversions <= 0:
        return None
    credits_ = drawn.credits
    rows = [credits_.conversions, credits_.values, credits_.conversions / conversions]
    if drawn.effects is not None:
        rows.append(drawn.effects)
    table = np.stack(rows)
    together = table @ hidden
    together[3:] = 0.0
    return np.concatenate([table, together[:, None]], axis=1)
