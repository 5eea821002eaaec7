"""The Markov models: by hand, against removal by force, and in their limits."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given

from services.attribution.domain.credits import path_weights, removal_share_credits
from services.attribution.domain.markov import (
    TransitionCounts,
    count_transitions,
    path_credit,
    removal_effects,
)
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import (
    PATHS,
    Paths,
    journeys_of_paths,
)

BY_HAND: Paths = [("A>B", 10.0), ("A", None), ("B", 20.0), ("B", None)]


def all_transitions(paths: Paths, channels: Sequence[str] | None = None) -> TransitionCounts:
    converting, others = count_transitions(journeys_of_paths(paths, channels))
    return converting + others


def removal_by_force(counts: TransitionCounts, ends: np.ndarray) -> np.ndarray:
    """Send each channel to null in turn and solve the whole chain again."""
    leaving = np.maximum(counts.steps.sum(axis=1) + counts.converted + counts.null, 1)
    Q, b = counts.steps / leaving[:, None], ends / leaving
    start = counts.start / counts.start.sum()
    everyone = start @ np.linalg.solve(np.eye(len(b)) - Q, b)
    effects = []
    for channel in range(len(b)):
        cut_Q, cut_b = Q.copy(), b.copy()
        cut_Q[channel], cut_b[channel] = 0, 0
        left = start @ np.linalg.solve(np.eye(len(b)) - cut_Q, cut_b)
        effects.append(1 - left / everyone)
    return np.array(effects)


def test_by_hand() -> None:
    # p_B = 2/3; p_A = 1/2 p_B = 1/3; p_0 = 1/2. Without A 1/3 is left, without B nothing.
    effects = removal_effects(all_transitions(BY_HAND))

    assert effects.conversion_rate == pytest.approx(1 / 2)
    assert effects.effects == pytest.approx([1 / 3, 1])
    credits_ = removal_share_credits(effects, 2, 30.0)
    assert credits_.conversions == pytest.approx([0.5, 1.5])
    assert credits_.values == pytest.approx([7.5, 22.5])


def test_value_by_hand() -> None:
    # Value is worth v_A = 6/2 = 3 at A and v_B = 30/2 = 15 at B; A leads to B half of the time.
    paths: Paths = [("A", 6.0), ("A>B", 30.0), ("B", 0.0)]
    effects = removal_effects(all_transitions(paths))

    # Expected value: from A 3 + 15/2 = 10.5, from B 15; start 2/3 and 1/3: 12.
    assert effects.value_effects == pytest.approx([(2 / 3) * 10.5 / 12, (2 / 3) * 15 / 12])


def test_consecutive_touches_of_a_channel_are_one_visit() -> None:
    merged = all_transitions([("A>A>B>B>B", 1.0), ("A>B", None)])

    assert merged.steps.tolist() == [[0, 2], [0, 0]]
    assert merged.start.tolist() == [2, 0]


def test_journeys_without_conversion_are_counted_apart() -> None:
    converting, others = count_transitions(journeys_of_paths(BY_HAND))

    assert converting.converted.tolist() == [0, 2]
    assert converting.null.tolist() == [0, 0]
    assert converting.value.tolist() == [0.0, 30.0]
    assert others.null.tolist() == [1, 1]
    assert others.converted.tolist() == [0, 0]


def test_without_null_journeys_every_walk_converts() -> None:
    converting, _ = count_transitions(journeys_of_paths(BY_HAND))

    effects = removal_effects(converting)

    assert effects.conversion_rate == pytest.approx(1)
    assert effects.effects == pytest.approx([1 / 2, 1])


@given(PATHS)
def test_the_closed_form_equals_removal_by_force(paths: Paths) -> None:
    counts = all_transitions(paths, channels=("A", "B", "C", "D"))
    effects = removal_effects(counts)
    if not counts.converted.any():
        assert not effects.effects.any()
        return

    np.testing.assert_allclose(
        effects.effects, removal_by_force(counts, counts.converted), atol=1e-12
    )
    if counts.value.sum() > 0:
        assert effects.value_effects is not None
        np.testing.assert_allclose(
            effects.value_effects, removal_by_force(counts, counts.value), atol=1e-12
        )
    else:
        assert effects.value_effects is None


@given(PATHS)
def test_single_touch_journeys_give_the_share_of_conversions(paths: Paths) -> None:
    """Order 1 is then at least the longest path, so RE is the share that holds the channel."""
    single = [(path[0], value) for path, value in paths]
    counts = all_transitions(single, channels=("A", "B", "C", "D"))
    total = counts.converted.sum()

    expected = counts.converted / total if total else np.zeros(4)
    np.testing.assert_allclose(removal_effects(counts).effects, expected, atol=1e-12)


@given(PATHS)
def test_renaming_channels_permutes_effects(paths: Paths) -> None:
    forward = removal_effects(all_transitions(paths, ("A", "B", "C", "D"))).effects
    swapped = [(path.translate(str.maketrans("ABCD", "DCBA")), value) for path, value in paths]
    backward = removal_effects(all_transitions(swapped, ("A", "B", "C", "D"))).effects

    np.testing.assert_allclose(forward, backward[::-1], atol=1e-12)


@given(PATHS)
def test_repeating_every_journey_leaves_effects(paths: Paths) -> None:
    once = removal_effects(all_transitions(paths, ("A", "B", "C", "D")))
    thrice = removal_effects(all_transitions(paths * 3, ("A", "B", "C", "D")))

    np.testing.assert_allclose(once.effects, thrice.effects, atol=1e-12)


def test_an_unused_channel_changes_nothing_and_is_reported() -> None:
    without = removal_effects(all_transitions(BY_HAND))
    beside = removal_effects(all_transitions(BY_HAND, ("A", "B", "unused")))

    assert beside.effects[:2].tolist() == without.effects.tolist()
    assert beside.effects[2] == 0
    assert beside.unreachable.tolist() == [False, False, True]


def test_states_off_every_path_are_dropped_rather_than_singular() -> None:
    # C loops with D and never ends; E has no way in.
    steps = np.zeros((5, 5), dtype=np.int64)
    steps[0, 1] = steps[0, 2] = 1
    steps[2, 3] = steps[3, 2] = 5
    counts = TransitionCounts(
        start=np.array([2, 0, 0, 0, 0]),
        steps=steps,
        converted=np.array([0, 1, 0, 0, 4]),
        null=np.zeros(5, dtype=np.int64),
        value=np.zeros(5),
    )

    effects = removal_effects(counts)

    assert effects.unreachable.tolist() == [False, False, True, True, True]
    assert effects.conversion_rate == pytest.approx(1 / 2)
    assert effects.effects == pytest.approx([1, 1, 0, 0, 0])


def test_refunds_leave_the_effects_on_value_undefined() -> None:
    effects = removal_effects(all_transitions([("A", 10.0), ("B", -1.0)]))

    assert effects.value_effects is None
    credits_ = removal_share_credits(effects, 2, 9.0)
    assert credits_.values == pytest.approx([4.5, 4.5])


def test_no_journey_gives_no_effect() -> None:
    counts = all_transitions([("A", None)])

    effects = removal_effects(counts)

    assert effects.effects.tolist() == [0.0]
    assert effects.shares.tolist() == [0.0]
    assert effects.conversion_rate == 0


def test_counts_over_other_channels_do_not_add() -> None:
    with pytest.raises(DomainError, match="same channels"):
        all_transitions(BY_HAND) + all_transitions([("A", 1.0)])


def test_path_credit_by_hand() -> None:
    # A>B>A with effects 1 and 1/2: A gets 2/3, a third for each of its touches.
    weights = path_credit(np.array([0, 1, 0, 1]), np.array([0, 3, 4]), np.array([1.0, 0.5]))

    assert weights == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])


def test_path_credit_of_powerless_channels_is_equal() -> None:
    weights = path_credit(np.array([0, 1, 1]), np.array([0, 3]), np.zeros(2))

    assert weights == pytest.approx([0.5, 0.25, 0.25])


@given(PATHS)
def test_path_credits_sum_to_one_a_conversion(paths: Paths) -> None:
    journeys = journeys_of_paths(paths, ("A", "B", "C", "D"))
    converting, others = count_transitions(journeys)
    effects = removal_effects(converting + others)

    weights = path_weights(journeys, effects.effects)

    if journeys.converting:
        sums = np.add.reduceat(weights, journeys.converting_offsets[:-1])
        np.testing.assert_allclose(sums, 1.0, atol=1e-12)
    assert (weights >= 0).all()
