"""The rule models, by hand on small journeys."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.journeys import DAY_US, Journeys
from services.attribution.domain.milestones import JourneyMilestones
from services.attribution.domain.models import (
    ByPosition,
    CountFrom,
    Custom,
    DecayAge,
    FirstTouch,
    LastNonDirect,
    LastTouch,
    Linear,
    LinearOver,
    Position,
    PositionVariant,
    RankDecay,
    RuleModel,
    SameTouch,
    TimeDecay,
    TwoTouchRule,
    inverse_j_shaped,
    j_shaped,
    w_shaped,
    z_shaped,
)
from services.attribution.domain.rules import position, touch_weights
from services.attribution.domain.rules.age import time_decay
from shared.errors import Code, DomainError
from tests.unit.attribution.journey_cases import PATHS, Paths, journeys_of_paths

ADDITIVE: list[RuleModel] = [
    FirstTouch(),
    LastTouch(),
    LastNonDirect(frozenset("BD")),
    *(Linear(over) for over in LinearOver),
    Position(),
    j_shaped(variant=PositionVariant.PENULTIMATE),
    inverse_j_shaped(TwoTouchRule.SPLIT_MIDDLE, PositionVariant.PENULTIMATE),
    *(TimeDecay(DAY_US, age) for age in DecayAge),
    RankDecay(),
    Custom(10, 70, 20),
    ByPosition((0.0, 1.0)),
    ByPosition((3.0, 2.0), CountFrom.LAST, beyond=1.0),
    w_shaped(),
    z_shaped(),
    SameTouch(DAY_US),
]
OFFSETS = np.array([0, 1, 3, 6, 10])
TIMES = np.array([0, 0, 7, 0, 7, 14, 1, 2, 3, 4]) * DAY_US


def every_milestone_at_the_first_touch(journeys: Journeys) -> JourneyMilestones:
    positions = np.zeros((journeys.converting, 2), dtype=np.int64)
    return JourneyMilestones(("lead", "opportunity"), positions)


def by_journey(weights: np.ndarray) -> list[list[float]]:
    return [
        [round(weight, 12) for weight in weights[begin:end].tolist()]
        for begin, end in pairwise(OFFSETS)
    ]


def test_first_last_and_linear() -> None:
    assert by_journey(position.first_touch(OFFSETS)) == [[1], [1, 0], [1, 0, 0], [1, 0, 0, 0]]
    assert by_journey(position.last_touch(OFFSETS)) == [[1], [0, 1], [0, 0, 1], [0, 0, 0, 1]]
    assert by_journey(position.linear(OFFSETS))[3] == [0.25] * 4


@pytest.mark.parametrize(
    ("model", "two", "three", "four"),
    [
        (Position(0.4, 0.4), [0.5, 0.5], [0.4, 0.2, 0.4], [0.4, 0.1, 0.1, 0.4]),
        (Position(0.2, 0.6), [0.25, 0.75], [0.2, 0.2, 0.6], [0.2, 0.1, 0.1, 0.6]),
        (
            Position(0.2, 0.6, TwoTouchRule.SPLIT_MIDDLE),
            [0.3, 0.7],
            [0.2, 0.2, 0.6],
            [0.2, 0.1, 0.1, 0.6],
        ),
        (
            Position(0.0, 0.0, TwoTouchRule.SPLIT_MIDDLE),
            [0.5, 0.5],
            [0.0, 1.0, 0.0],
            [0.0, 0.5, 0.5, 0.0],
        ),
        (Position(1.0, 0.0), [1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_position(model: Position, two: list[float], three: list[float], four: list[float]) -> None:
    assert by_journey(position.position(OFFSETS, model)) == [[1], two, three, four]


def test_time_decay_halves_each_half_life() -> None:
    weights = by_journey(time_decay(OFFSETS, TIMES, TimeDecay(7 * DAY_US)))

    assert weights[0] == [1]
    assert weights[1] == pytest.approx([1 / 3, 2 / 3])
    assert weights[2] == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_time_decay_does_not_underflow_on_old_journeys() -> None:
    times = np.array([0, 1]) * DAY_US

    weights = time_decay(np.array([0, 2]), times, TimeDecay(1))

    assert weights.tolist() == [0.0, 1.0]


@given(PATHS, st.sampled_from(ADDITIVE))
def test_the_weights_of_a_journey_sum_to_one(paths: Paths, model: RuleModel) -> None:
    journeys = journeys_of_paths(paths, "ABCD")
    weights = touch_weights(model, journeys, every_milestone_at_the_first_touch(journeys))

    assert (weights >= 0).all()
    for begin, end in pairwise(journeys.converting_offsets):
        assert math.isclose(weights[begin:end].sum(), 1.0, abs_tol=1e-12)


@given(st.floats(0, 1))
def test_a_position_model_of_any_ends_sums_to_one(first: float) -> None:
    weights = position.position(OFFSETS, Position(first, 1 - first if first < 1 else 0.0))

    assert [math.isclose(sum(journey), 1) for journey in by_journey(weights)] == [True] * 4


@pytest.mark.parametrize(
    ("first", "last"), [(-0.1, 0.5), (1.1, 0), (0.6, 0.5), (math.nan, 0.5), (0.0, 0.0)]
)
def test_position_refuses_weights_that_cannot_sum_to_one(first: float, last: float) -> None:
    with pytest.raises(DomainError) as refusal:
        Position(first, last)
    assert refusal.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("half_life_us", [0, -1, 367 * DAY_US])
def test_time_decay_refuses_a_half_life_out_of_range(half_life_us: int) -> None:
    with pytest.raises(DomainError, match="half_life"):
        TimeDecay(half_life_us)
