"""Markov chains of any order: against brute force, in their limits, and merged from shards."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.domain.credits import model_weights
from services.attribution.domain.events import Conversions, Touches
from services.attribution.domain.journeys import JourneyRules, Journeys, build_journeys
from services.attribution.domain.markov import (
    ChainCounts,
    chain_removal_effects,
    count_chain,
    count_transitions,
    joint_removal_effect,
    largest_order,
    removal_effects,
    sequence_removal_effect,
    transition_matrix,
)
from services.attribution.domain.models import Markov
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import PATHS, Paths, journeys_of_paths

NAMES = "ABCD"
UNTIMED = settings(deadline=None)
"""How long one example takes says how busy the machine is."""
ORDERS = st.integers(1, 4)
State = tuple[str, ...]


def chain_of(paths: Paths, order: int, channels: Sequence[str] = NAMES) -> ChainCounts:
    converting, others = count_chain(journeys_of_paths(paths, channels), order)
    return converting + others


def states_of(path: str, order: int) -> list[State]:
    """Windows of `order` touches, those in a row that are equal being one."""
    steps = path.split(">")
    windows = [tuple(steps[at : at + order]) for at in range(max(1, len(steps) - order + 1))]
    return [here for at, here in enumerate(windows) if not at or here != windows[at - 1]]


def lost(
    paths: Paths, order: int, gone: Callable[[State], bool], worth: Callable[[float], float]
) -> float:
    """What is lost, by solving the chain with and without the states that are gone."""
    moves: Counter[tuple[State, State]] = Counter()
    leaving: Counter[State] = Counter()
    start: Counter[State] = Counter()
    gained: defaultdict[State, float] = defaultdict(float)
    for path, value in paths:
        states = states_of(path, order)
        moves.update(pairwise(states))
        leaving.update(states)
        start[states[0]] += 1
        if value is not None:
            gained[states[-1]] += worth(value)
    names = sorted(leaving)
    place = {name: at for at, name in enumerate(names)}

    def expected(closed: Callable[[State], bool]) -> float:
        Q, b = np.zeros((len(names),) * 2), np.zeros(len(names))
        for (here, there), count in moves.items():
            if not closed(here):
                Q[place[here], place[there]] = count / leaving[here]
        for here, gain in gained.items():
            if not closed(here):
                b[place[here]] = gain / leaving[here]
        chances = np.linalg.solve(np.eye(len(names)) - Q, b)
        return float(sum(count * chances[place[name]] for name, count in start.items()))

    everything = expected(lambda _: False)
    return 1 - expected(gone) / everything if everything else 0.0


@UNTIMED
@given(PATHS, ORDERS)
def test_effects_equal_removal_by_force(paths: Paths, order: int) -> None:
    found = chain_removal_effects(chain_of(paths, order))

    expected = [lost(paths, order, lambda s, c=c: c in s, lambda _: 1.0) for c in NAMES]  # type: ignore[misc]
    np.testing.assert_allclose(found.effects, expected, atol=1e-11)
    assert found.error_bound < 1e-9
    if found.value_effects is not None:
        values = [lost(paths, order, lambda s, c=c: c in s, lambda v: v) for c in NAMES]  # type: ignore[misc]
        np.testing.assert_allclose(found.value_effects, values, atol=1e-11)


@UNTIMED
@given(PATHS)
def test_order_one_equals_the_closed_form(paths: Paths) -> None:
    converting, others = count_transitions(journeys_of_paths(paths, NAMES))
    closed, solved = removal_effects(converting + others), chain_removal_effects(chain_of(paths, 1))

    np.testing.assert_allclose(solved.effects, closed.effects, rtol=1e-10)
    assert (solved.value_effects is None) == (closed.value_effects is None)
    if solved.value_effects is not None and closed.value_effects is not None:
        np.testing.assert_allclose(solved.value_effects, closed.value_effects, rtol=1e-10)
    assert solved.conversion_rate == pytest.approx(closed.conversion_rate)
    if converting.converted.any():
        assert solved.unreachable.tolist() == closed.unreachable.tolist()


@UNTIMED
@given(PATHS)
def test_an_order_as_long_as_the_longest_path_gives_the_share_of_conversions(paths: Paths) -> None:
    bought = [path for path, value in paths if value is not None]

    found = chain_removal_effects(chain_of(paths, 6)).effects

    expected = [sum(c in path for path in bought) / max(len(bought), 1) for c in NAMES]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@UNTIMED
@given(PATHS, ORDERS)
def test_repeating_every_journey_leaves_effects(paths: Paths, order: int) -> None:
    once = chain_removal_effects(chain_of(paths, order))
    thrice = chain_removal_effects(chain_of(paths * 3, order))

    np.testing.assert_allclose(once.effects, thrice.effects, atol=1e-12)


@UNTIMED
@given(PATHS, ORDERS)
def test_renaming_channels_permutes_effects(paths: Paths, order: int) -> None:
    swapped = [(path.translate(str.maketrans("ABCD", "DCBA")), value) for path, value in paths]

    forward = chain_removal_effects(chain_of(paths, order)).effects
    backward = chain_removal_effects(chain_of(swapped, order)).effects

    np.testing.assert_allclose(forward, backward[::-1], atol=1e-12)


@UNTIMED
@given(PATHS, ORDERS)
def test_an_unused_channel_changes_nothing(paths: Paths, order: int) -> None:
    beside = chain_removal_effects(chain_of(paths, order, [*NAMES, "unused"]))
    without = chain_removal_effects(chain_of(paths, order))

    np.testing.assert_allclose(beside.effects[:4], without.effects, atol=1e-13)
    assert beside.effects[4] == 0
    assert beside.unreachable[4]


@UNTIMED
@given(PATHS, PATHS, ORDERS)
def test_shards_merge_and_expire(left: Paths, right: Paths, order: int) -> None:
    one, other, both = chain_of(left, order), chain_of(right, order), chain_of(left + right, order)

    for found, expected in ((one + other, both), (other + one, both), (both - other, one)):
        for field in fields(ChainCounts):
            np.testing.assert_array_equal(
                getattr(found, field.name), getattr(expected, field.name), err_msg=field.name
            )


def test_counts_of_other_orders_do_not_add() -> None:
    with pytest.raises(DomainError, match="order"):
        chain_of([("A", 1.0)], 2) + chain_of([("A", 1.0)], 1)


@UNTIMED
@given(PATHS, ORDERS)
def test_path_credits_sum_to_one_at_every_order(paths: Paths, order: int) -> None:
    journeys = journeys_of_paths(paths, NAMES)

    weights = model_weights(Markov(order=order), journeys)

    if journeys.converting:
        sums = np.add.reduceat(weights, journeys.converting_offsets[:-1])
        np.testing.assert_allclose(sums, 1.0, atol=1e-12)


def test_order_two_by_hand() -> None:
    # A>B>C converts, B>C does not: order 1 cannot tell them from C on, order 2 can.
    paths: Paths = [("A>B>C", 1.0), ("B>C", None)]

    assert chain_removal_effects(chain_of(paths, 1)).effects[:3] == pytest.approx([0.5, 1, 1])
    assert chain_removal_effects(chain_of(paths, 2)).effects[:3] == pytest.approx([0.5, 1, 1])
    assert chain_removal_effects(chain_of(paths, 3)).effects[:3] == pytest.approx([1, 1, 1])


@UNTIMED
@given(PATHS, ORDERS, st.sampled_from(NAMES))
def test_a_sequence_of_one_channel_is_the_channel(paths: Paths, order: int, channel: str) -> None:
    counts, code = chain_of(paths, order), NAMES.index(channel)

    found = sequence_removal_effect(counts, [code])

    assert found == pytest.approx(chain_removal_effects(counts).effects[code], abs=1e-12)
    assert joint_removal_effect(counts, [code]) == pytest.approx(found, abs=1e-12)


@UNTIMED
@given(PATHS, st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
def test_a_sequence_at_the_longest_order_is_the_share_of_paths_that_hold_it(
    paths: Paths, sequence: list[str]
) -> None:
    bought = [path for path, value in paths if value is not None]

    found = sequence_removal_effect(chain_of(paths, 6), [NAMES.index(c) for c in sequence])

    holding = sum(">".join(sequence) in path for path in bought)
    assert found == pytest.approx(holding / max(len(bought), 1), abs=1e-12)


@UNTIMED
@given(PATHS, st.integers(2, 4), st.lists(st.sampled_from(NAMES), min_size=2, max_size=2))
def test_a_sequence_within_the_order_equals_removal_by_force(
    paths: Paths, order: int, pair: list[str]
) -> None:
    def holds(state: State) -> bool:
        return tuple(pair) in [*pairwise(state)]

    found = sequence_removal_effect(chain_of(paths, order), [NAMES.index(c) for c in pair])

    assert found == pytest.approx(lost(paths, order, holds, lambda _: 1.0), abs=1e-11)


def test_a_sequence_longer_than_the_order_by_hand() -> None:
    # Start at A or B evenly; A leads to B (3 of 4) or converts; B leads to A (2 of 5) or converts.
    counts = chain_of([("A>B>A>B", 1.0), ("B>A", 1.0), ("A>B", 1.0), ("B", 1.0)], 1)
    # p = 1 everywhere, so the effect is the chance to see B, A, B: from B 2/5 * 3/4 at once, and
    # after A > B the same again: y_A = 3/4 y_B; y_B = 2/5 * 3/4.
    y_b = 2 / 5 * 3 / 4

    found = sequence_removal_effect(counts, [1, 0, 1])

    assert found == pytest.approx(1 / 2 * (3 / 4 * y_b) + 1 / 2 * y_b)


@pytest.mark.parametrize("sequence", [[], [0, 0], [4], [-1], [0, 1] * 11])
def test_a_sequence_that_no_walk_can_show_is_refused(sequence: list[int]) -> None:
    with pytest.raises(DomainError, match="sequence"):
        sequence_removal_effect(chain_of([("A>B", 1.0)], 1), sequence)


def test_the_joint_effect_of_channels_by_hand() -> None:
    counts = chain_of([("A", 1.0), ("B", 1.0), ("C", 1.0), ("A>B", 1.0)], 6)

    assert joint_removal_effect(counts, [0, 1]) == pytest.approx(3 / 4)
    assert joint_removal_effect(counts, []) == 0


def test_the_transition_matrix_with_and_without_self_loops() -> None:
    counts = chain_of([("A>A>B", 1.0), ("A", None)], 1)

    merged, kept = transition_matrix(counts), transition_matrix(counts, self_loops=True)

    assert merged.touches.tolist() == [[0], [1]]
    assert merged.steps.toarray().tolist() == [[0, 0.5], [0, 0]]
    assert merged.null.tolist() == [0.5, 0]
    assert kept.steps.toarray() == pytest.approx(np.array([[1 / 3, 1 / 3], [0, 0]]))
    assert kept.null == pytest.approx([1 / 3, 0])
    assert kept.visits.tolist() == [3, 1]


@UNTIMED
@given(PATHS, ORDERS, st.booleans())
def test_the_rows_of_the_transition_matrix_sum_to_one(
    paths: Paths, order: int, self_loops: bool
) -> None:
    matrix = transition_matrix(chain_of(paths, order), self_loops=self_loops)

    rows = matrix.steps.sum(axis=1) + matrix.converted + matrix.null
    np.testing.assert_allclose(rows, 1.0, atol=1e-12)
    assert matrix.start.sum() == pytest.approx(1)


def test_orders_that_no_integer_can_spell_are_refused() -> None:
    assert largest_order(15) == 14
    assert largest_order(500) == 6
    assert largest_order(0) == largest_order(1) == 61
    with pytest.raises(DomainError, match="1 to 5 over 1000 channels"):
        count_chain(journeys_of_paths([("A", 1.0)], [f"c{n}" for n in range(999)] + ["A"]), 6)
    with pytest.raises(DomainError, match="order"):
        Markov(order=11)


def journeys_of_codes(
    codes: np.ndarray, lengths: np.ndarray, bought: np.ndarray, channels: int
) -> Journeys:
    total = int(lengths.sum())
    units = np.repeat(np.arange(len(lengths)), lengths)
    times = np.arange(total)
    names = tuple(f"c{number:03d}" for number in range(channels))
    touches = Touches(names, units, times, codes.astype(np.int32), np.full(total, np.nan))
    last = np.cumsum(lengths) - 1
    conversions = Conversions(bought, times[last[bought]], np.ones(len(bought)))
    return build_journeys(touches, conversions, JourneyRules(max_touches=10_000))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_paths_of_ten_thousand_touches(order: int) -> None:
    generator = np.random.default_rng(3)
    lengths = np.full(20, 10_000)
    codes = generator.integers(0, 8, lengths.sum())
    journeys = journeys_of_codes(codes, lengths, np.arange(10), 8)

    converting, others = count_chain(journeys, order)
    found = chain_removal_effects(converting + others)

    # So long a walk meets every channel.
    assert found.effects == pytest.approx(np.ones(8), abs=0.02)
    assert found.error_bound < 1e-9
    assert found.conversion_rate == 0.5


def test_one_conversion_among_five_hundred_channels_is_not_lost() -> None:
    generator = np.random.default_rng(4)
    lengths = 1 + generator.poisson(2, 5_000)
    codes = generator.integers(0, 499, lengths.sum())
    codes[0] = 499  # a channel in one journey alone, which converts
    bought = np.concatenate([[0], 1 + np.flatnonzero(generator.random(4_999) < 0.05)])
    journeys = journeys_of_codes(codes, lengths, bought, 500)

    first, rest = count_transitions(journeys)
    closed = removal_effects(first + rest).effects
    for order in (1, 2):
        converting, others = count_chain(journeys, order)
        found = chain_removal_effects(converting + others)
        assert found.error_bound < 1e-9
        # A walk meets it once in 5,000, and converts from there with a chance of at most 1.
        assert 0.2 / 5_000 < found.effects[499] <= (1 + 1e-9) / len(bought)
        if order == 1:
            np.testing.assert_allclose(found.effects, closed, rtol=1e-9)
