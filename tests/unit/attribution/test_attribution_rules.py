"""The rule models, by hand on small journeys."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain import rules
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.models import (
    FirstTouch,
    LastTouch,
    Linear,
    Position,
    RuleModel,
    TimeDecay,
    TwoTouchRule,
)
from shared.errors import Code, DomainError

OFFSETS = np.array([0, 1, 3, 6, 10])
TIMES = np.array([0, 0, 7, 0, 7, 14, 1, 2, 3, 4]) * DAY_US


def by_journey(weights: np.ndarray) -> list[list[float]]:
    return [
        [round(weight, 12) for weight in weights[begin:end].tolist()]
        for begin, end in pairwise(OFFSETS)
    ]


def test_first_last_and_linear() -> None:
    assert by_journey(rules.first_touch(OFFSETS)) == [[1], [1, 0], [1, 0, 0], [1, 0, 0, 0]]
    assert by_journey(rules.last_touch(OFFSETS)) == [[1], [0, 1], [0, 0, 1], [0, 0, 0, 1]]
    assert by_journey(rules.linear(OFFSETS))[3] == [0.25] * 4


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
    assert by_journey(rules.position(OFFSETS, model)) == [[1], two, three, four]


def test_time_decay_halves_each_half_life() -> None:
    weights = by_journey(rules.time_decay(OFFSETS, TIMES, TimeDecay(7 * DAY_US)))

    assert weights[0] == [1]
    assert weights[1] == pytest.approx([1 / 3, 2 / 3])
    assert weights[2] == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_time_decay_does_not_underflow_on_old_journeys() -> None:
    times = np.array([0, 1]) * DAY_US

    weights = rules.time_decay(np.array([0, 2]), times, TimeDecay(1))

    assert weights.tolist() == [0.0, 1.0]


@given(
    st.lists(st.integers(1, 8), max_size=10),
    st.sampled_from([FirstTouch(), LastTouch(), Linear(), Position(), TimeDecay()]),
)
def test_the_weights_of_a_journey_sum_to_one(lengths: list[int], model: RuleModel) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.arange(offsets[-1]) * DAY_US

    weights = rules.touch_weights(model, offsets, times)

    assert len(weights) == offsets[-1]
    for begin, end in pairwise(offsets):
        assert math.isclose(weights[begin:end].sum(), 1.0, abs_tol=1e-12)
        assert (weights[begin:end] >= 0).all()


@given(st.floats(0, 1))
def test_a_position_model_of_any_ends_sums_to_one(first: float) -> None:
    weights = rules.position(OFFSETS, Position(first, 1 - first if first < 1 else 0.0))

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
