"""The models that learn from all journeys: their tables, and the credits of touches."""

import numpy as np
import pytest
from hypothesis import given, settings

from services.attribution.domain.channel_sets import count_sets
from services.attribution.domain.data_driven import data_credits, data_weights
from services.attribution.domain.journey_statistics import measure
from services.attribution.domain.journeys import JourneyRules, build_journeys
from services.attribution.domain.models import (
    AdditiveHazard,
    BaggedLogistic,
    DataModel,
    Fractribution,
    Markov,
    Output,
    Probabilistic,
    Shapley,
)
from services.attribution.domain.shapley import Game
from services.attribution.domain.shapley.additive import simplified
from services.attribution.domain.shapley.rates import rate_game
from services.attribution.domain.totals import model_totals
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import (
    PATHS,
    Paths,
    events_of_paths,
    journeys_of_paths,
)

DIVIDING: list[DataModel] = [
    Shapley(),
    Shapley(Game.EXACT_SET_RATE),
    Shapley(Game.SUBSET_RATE),
    BaggedLogistic(rounds=5),
    Fractribution(),
    AdditiveHazard(),
]
EVERY = [*DIVIDING, Probabilistic()]


@pytest.mark.parametrize("model", DIVIDING, ids=str)
@settings(max_examples=40, deadline=None)
@given(paths=PATHS)
def test_each_conversion_is_divided_once(model: DataModel, paths: Paths) -> None:
    journeys = journeys_of_paths(paths)
    weights = data_weights(model, journeys)

    if journeys.converting:
        sums = np.add.reduceat(weights, journeys.converting_offsets[:-1])
        np.testing.assert_allclose(sums, 1, atol=1e-9)


@pytest.mark.parametrize("model", EVERY, ids=str)
@settings(max_examples=40, deadline=None)
@given(paths=PATHS)
def test_tables_hand_out_all_conversions_but_what_they_leave(
    model: DataModel, paths: Paths
) -> None:
    touches, conversions = events_of_paths(paths)
    journeys = build_journeys(touches, conversions, JourneyRules())
    statistics = measure(touches, journeys, [model], -(2**62))

    (table,) = model_totals(model, statistics, journeys)

    credited = sum(channel.conversions for channel in table.channels)
    assert credited + table.uncredited == pytest.approx(journeys.converting, abs=1e-9)
    assert table.additive


PATHS_OF_HAND: Paths = [("A", 1.0), ("A>B", 3.0), ("B", None), ("A>B>A", 5.0), ("A", None)]


def test_the_simplified_game_and_the_rates_are_those_of_the_sets() -> None:
    journeys = journeys_of_paths(PATHS_OF_HAND)
    histogram = count_sets(journeys)
    for model, expected in (
        (Shapley(), simplified(histogram)),
        (Shapley(Game.SUBSET_RATE), rate_game(Game.SUBSET_RATE, histogram).credits),
        (Shapley(Game.EXACT_SET_RATE), rate_game(Game.EXACT_SET_RATE, histogram).credits),
    ):
        found = data_credits(model, journeys)
        np.testing.assert_allclose(found.conversions, expected.conversions)
        np.testing.assert_allclose(found.values, expected.values)


def test_a_channels_part_is_shared_by_its_touches() -> None:
    weights = data_weights(Shapley(), journeys_of_paths(PATHS_OF_HAND))
    assert weights.tolist() == [1.0, 0.5, 0.5, 0.25, 0.5, 0.25]


def test_the_same_seed_gives_the_same_credits_and_another_seed_others() -> None:
    journeys = journeys_of_paths(PATHS_OF_HAND * 20)
    one, again, other = (
        data_credits(BaggedLogistic(rounds=4, seed=seed), journeys) for seed in (1, 1, 2)
    )
    assert one.conversions.tolist() == again.conversions.tolist()
    assert one.conversions.tolist() != other.conversions.tolist()


def test_a_model_that_divides_no_conversion_has_no_credits_of_touches() -> None:
    with pytest.raises(DomainError, match="divides each conversion"):
        data_weights(Probabilistic(), journeys_of_paths(PATHS_OF_HAND))


def test_markov_of_a_higher_order_has_its_own_removal_effects() -> None:
    touches, conversions = events_of_paths(PATHS_OF_HAND * 3)
    journeys = build_journeys(touches, conversions, JourneyRules())
    models = [Markov(order=1), Markov(order=3)]
    statistics = measure(touches, journeys, models, -(2**62))
    tables = [model_totals(model, statistics, journeys) for model in models]

    # From the longest path on the removal effect is the share of conversions with the channel.
    effects = [channel.removal_effect for channel in tables[1][0].channels]
    assert effects == pytest.approx([1.0, 2 / 3])
    assert tables[0][0].output is tables[1][0].output is Output.MARKOV_REMOVAL_SHARE
