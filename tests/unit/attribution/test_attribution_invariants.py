"""What holds for every model whatever the journeys are, on random ones.

Held elsewhere: shards and days merge (totals, shapley, markov_orders), ordered parts of the Shapley
game sum to it (shapley), an order as long as the longest path (markov_orders), touches outside
their windows (visibility), and orders of arrival (contract, same_bytes).
"""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.domain.credits import model_weights
from services.attribution.domain.data_driven import data_weights
from services.attribution.domain.journey_statistics import measure
from services.attribution.domain.journeys import DAY_US, Journeys
from services.attribution.domain.milestones import NOT_REACHED, JourneyMilestones
from services.attribution.domain.models import (
    AdditiveHazard,
    BaggedLogistic,
    ByPosition,
    CountFrom,
    Custom,
    DataModel,
    DecayAge,
    FirstTouch,
    Fractribution,
    LastNonDirect,
    LastTouch,
    LearnedShapley,
    Linear,
    LinearOver,
    Markov,
    Model,
    OrderedShapley,
    Output,
    Participation,
    PositionVariant,
    Probabilistic,
    RankDecay,
    SameTouch,
    Shapley,
    TimeDecay,
    TwoTouchRule,
    divides_conversions,
    inverse_j_shaped,
    j_shaped,
    u_shaped,
    w_shaped,
    z_shaped,
)
from services.attribution.domain.shapley import Game
from services.attribution.domain.totals import ModelTotals, model_totals
from tests.unit.attribution.journey_cases import PATHS, Paths, events_of_paths, journeys_of_paths

CHANNELS = ("A", "B", "C", "D")
BAGGED = BaggedLogistic(rounds=4)
RULES: list[Model] = [
    FirstTouch(),
    LastTouch(),
    LastNonDirect(frozenset({"direct"})),
    *(Linear(over) for over in LinearOver),
    *(
        shape(rule, variant)
        for shape in (j_shaped, inverse_j_shaped)
        for rule in TwoTouchRule
        for variant in PositionVariant
    ),
    u_shaped(),
    Custom(10, 70, 20),
    Custom(0, 1, 0),
    *(ByPosition((0.0, 3.0), end, beyond) for end in CountFrom for beyond in (0.0, 1.0)),
    *(TimeDecay(2 * DAY_US, age) for age in DecayAge),
    RankDecay(),
    w_shaped(),
    z_shaped(),
    SameTouch(DAY_US),
    SameTouch(),
    Participation(),
]
EXACT: list[Model] = [
    *RULES,
    *(Markov(alone, order) for alone in (False, True) for order in (1, 2, 3)),
    *(Shapley(game) for game in (Game.SIMPLIFIED, Game.EXACT_SET_RATE, Game.SUBSET_RATE)),
    OrderedShapley(3),
    Probabilistic(),
    Fractribution(),
    AdditiveHazard(),
]
# Draws of rows and columns are of places: other names and more rows are other draws.
EVERY: list[Model] = [*EXACT, BAGGED, LearnedShapley(BAGGED)]


def milestones_of(journeys: Journeys) -> JourneyMilestones:
    """The lead before the second touch, the opportunity before the last, of those that have one."""
    lengths = np.diff(journeys.converting_offsets)
    second = np.where(lengths > 1, 1, NOT_REACHED)
    return JourneyMilestones(("lead", "opportunity"), np.stack([second, lengths - 1], axis=1))


def tables_of(
    paths: Paths, model: Model, channels: Sequence[str] = CHANNELS
) -> tuple[ModelTotals, ...]:
    touches, _ = events_of_paths(paths, channels)
    journeys = journeys_of_paths(paths, channels)
    statistics = measure(touches, journeys, [model], -(2**62), milestones_of(journeys))
    return model_totals(model, statistics, journeys)


def credited(table: ModelTotals) -> dict[str, list[float]]:
    return {row.channel: [row.conversions, row.value] for row in table.channels}


def weights_of(model: Model, journeys: Journeys) -> np.ndarray:
    if isinstance(model, DataModel):
        return data_weights(model, journeys)
    return model_weights(model, journeys, milestones_of(journeys))


def near(amounts: list[float]) -> object:
    return pytest.approx(amounts, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("model", EVERY, ids=str)
@settings(max_examples=20, deadline=None)
@given(paths=PATHS)
def test_credits_sum_to_the_conversions_and_those_of_a_conversion_to_one(
    model: Model, paths: Paths
) -> None:
    journeys = journeys_of_paths(paths, CHANNELS)
    for table in tables_of(paths, model):
        whole = sum(row.conversions for row in table.channels) + table.uncredited
        if table.additive:
            assert whole == pytest.approx(journeys.converting, abs=1e-9)
        else:
            assert table.output is Output.PARTICIPATION
            assert whole >= journeys.converting - 1e-9
    if not divides_conversions(model) or not journeys.converting:
        return
    sums = np.add.reduceat(weights_of(model, journeys), journeys.converting_offsets[:-1])
    if isinstance(model, Participation):
        distinct = [len({*path.split(">")}) for path, value in paths if value is not None]
        np.testing.assert_allclose(sums, distinct)
    elif isinstance(model, SameTouch):
        # The last touch is a day before the conversion.
        np.testing.assert_allclose(sums, 1.0 if model.within_us else 0.0)
    else:
        np.testing.assert_allclose(sums, 1, atol=1e-9)


@pytest.mark.parametrize("model", EXACT, ids=str)
@settings(max_examples=20, deadline=None)
@given(paths=PATHS, names=st.permutations(CHANNELS))
def test_other_names_are_other_names_of_the_same_credit(
    model: Model, paths: Paths, names: Sequence[str]
) -> None:
    other = str.maketrans("ABCD", "".join(names))
    renamed: Paths = [(path.translate(other), value) for path, value in paths]
    for before, after in zip(tables_of(paths, model), tables_of(renamed, model), strict=True):
        found = credited(after)
        for channel, amounts in credited(before).items():
            assert found[channel.translate(other)] == near(amounts)


@pytest.mark.parametrize("model", EXACT, ids=str)
@settings(max_examples=20, deadline=None)
@given(paths=PATHS, times=st.integers(2, 4))
def test_the_same_journeys_again_are_so_many_times_the_credit(
    model: Model, paths: Paths, times: int
) -> None:
    for once, often in zip(tables_of(paths, model), tables_of(paths * times, model), strict=True):
        found = credited(often)
        for channel, amounts in credited(once).items():
            assert found[channel] == near([times * amount for amount in amounts])
        effects = [row.removal_effect for row in often.channels]
        assert effects == pytest.approx([row.removal_effect for row in once.channels])


@pytest.mark.parametrize("model", EXACT, ids=str)
@settings(max_examples=20, deadline=None)
@given(paths=PATHS, unused=st.sampled_from(["0", "Bb", "Z"]))
def test_a_channel_that_nobody_met_changes_nothing_and_gets_nothing(
    model: Model, paths: Paths, unused: str
) -> None:
    more = sorted([*CHANNELS, unused])
    for few, many in zip(tables_of(paths, model), tables_of(paths, model, more), strict=True):
        found = credited(many)
        assert found.pop(unused) == [0.0, 0.0]
        assert found == {channel: near(amounts) for channel, amounts in credited(few).items()}


@pytest.mark.parametrize("model", [*EXACT, BAGGED], ids=str)
@settings(max_examples=20, deadline=None)
@given(paths=PATHS)
def test_a_channel_that_never_converts_gets_nothing(model: Model, paths: Paths) -> None:
    """But in a chain, where it leads to channels that convert after others."""
    of_d: Paths = [(path, None if "D" in path else value) for path, value in paths]
    for table in tables_of(of_d, model):
        if table.output is not Output.MARKOV_REMOVAL_SHARE:
            assert credited(table)["D"] == near([0.0, 0.0])
