"""The equations of absorbing chains: against dense solutions, and where walks go round for long."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from services.attribution.domain.arrays import Flags, Floats, Integers
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import chain_removal_effects, count_chain
from services.attribution.domain.markov.absorbing import (
    ACCEPTED_ERROR,
    Solution,
    solve,
    solve_all,
    system_of,
)
from services.attribution.domain.markov.layers import find_layers
from services.attribution.domain.markov.walks import Walks, walks

UNTIMED = settings(deadline=None)


@st.composite
def chains(draw: st.DrawFn) -> tuple[Floats, int]:
    """Moves of a chain that every walk leaves, (S, S), and a seed; sparse ones and dense ones."""
    states, seed = draw(st.integers(1, 40)), draw(st.integers(0, 2**32 - 1))
    edges = draw(st.integers(0, 12))
    generator = np.random.default_rng(seed)
    moves = np.zeros((states, states))
    for _ in range(edges):
        there = generator.integers(0, states, states)
        moves[np.arange(states), there] += generator.random(states)
    np.fill_diagonal(moves, 0.0)
    # Some states lead nowhere, and the others end a walk in one of a hundred steps or more.
    moves[generator.random(states) < 0.2] = 0.0
    totals = moves.sum(axis=1, keepdims=True)
    leaves = generator.uniform(0.01, 1.0, (states, 1))
    return np.where(totals > 0, moves / np.maximum(totals, 1e-300), 0.0) * (1 - leaves), seed


def solved(moves: Floats, start: Floats, closed: Flags, rhs: Floats) -> Solution:
    """Solve as the effects do, with states numbered as they were."""
    visits: Floats = np.linalg.solve(np.eye(len(moves)) - moves.T, start).astype(np.float64)
    system = system_of(sparse.csr_array(moves), visits)
    order = system.layers.order
    found = solve(system, np.flatnonzero(closed[order]), rhs[order])
    values = np.empty_like(rhs)
    values[order] = found.values
    return Solution(values, found.errors)


def by_force(moves: Floats, closed: Flags, rhs: Floats) -> Floats:
    columns = [
        np.linalg.solve(np.eye(len(moves)) - moves * ~shut[:, None], right)
        for shut, right in zip(closed.T, rhs.T, strict=True)
    ]
    return np.stack(columns, axis=1)


@UNTIMED
@given(chains())
def test_every_column_is_solved_to_its_bound(chain: tuple[Floats, int]) -> None:
    moves, seed = chain
    generator = np.random.default_rng(seed)
    start = generator.random(len(moves))
    start /= start.sum()
    closed = generator.random((len(moves), 5)) < 0.2
    rhs = generator.random(closed.shape) * 10.0 ** generator.integers(-12, 12, 5)

    found = solved(moves, start, closed, rhs)
    expected = by_force(moves, closed, rhs)

    largest = rhs.max(axis=0)
    np.testing.assert_allclose(found.values / largest, expected / largest, rtol=1e-9, atol=1e-10)
    off = np.abs(start @ (found.values - expected))
    rounding = 1e-13 * (start @ np.abs(expected))
    assert (off <= found.errors + rounding).all()
    assert (found.errors <= ACCEPTED_ERROR * (start @ np.abs(expected))).all()


@UNTIMED
@given(chains())
def test_layers_are_solved_one_after_another(chain: tuple[Floats, int]) -> None:
    moves, _ = chain
    layers = find_layers(sparse.csr_array(moves))

    assert sorted(layers.order.tolist()) == list(range(len(moves)))
    leads = moves[layers.order][:, layers.order] != 0
    for part in (*layers.before, *layers.after):
        assert not leads[part, part.start :].any()
    assert not leads[layers.core, layers.core.stop :].any()


@pytest.mark.parametrize("stays", [0.9, 0.999, 1 - 1e-6, 1 - 1e-9])
def test_walks_that_go_round_for_long(stays: float) -> None:
    """A cycle of three states that is left at one of them alone, for conversion."""
    moves = np.array([[0, 1, 0], [0, 0, 1], [stays, 0, 0]])
    ends = np.array([[0.0], [0.0], [1 - stays]])
    start = np.array([1.0, 0.0, 0.0])

    found = solved(moves, start, np.zeros((3, 1), dtype=np.bool_), ends)

    # Exactly one, but for the rounding of 1 - stays, which the many rounds magnify.
    assert found.values == pytest.approx(np.ones((3, 1)), abs=1e-15 / (1 - stays) + 1e-12)
    assert found.errors[0] < 1e-9


def test_a_chain_as_deep_as_it_has_states() -> None:
    depth = 10_000
    rows = np.arange(depth - 1)
    moves = sparse.csr_array((np.full(depth - 1, 1.0), (rows, rows + 1)), shape=(depth, depth))
    ends = np.zeros((depth, 1))
    ends[-1] = 0.25

    found = solve_all(system_of(moves, np.ones(depth)), ends)

    np.testing.assert_allclose(found.values, 0.25, rtol=1e-12)
    assert found.errors[0] < 1e-12


@pytest.mark.parametrize("returns", [0.0, 0.9], ids=["a line", "a ring"])
def test_a_small_core_that_sweeps_do_not_settle_needs_no_gradients(returns: float) -> None:
    """A line or a ring of more states than layers are taken, each of one channel, as of a robot
    that touched them in turn: every channel is a column, and needs as many sweeps as states.
    """
    states = 700
    moves = np.diag(np.full(states - 1, 0.999), 1)
    moves[-1, 0] = returns
    start = np.zeros(states)
    start[0] = 1.0
    closed = np.eye(states, dtype=np.bool_)
    closed[0] = False
    rhs = np.where(closed, 0.7, 0.0)
    visits: Floats = np.linalg.solve(np.eye(states) - moves.T, start).astype(np.float64)
    system = system_of(sparse.csr_array(moves), visits)
    assert system.thin
    order = system.layers.order
    found = solve(system, np.flatnonzero(closed[order]), rhs[order])

    place = np.argsort(order)
    expected = 0.7 * 0.999 ** np.arange(1, states)
    np.testing.assert_allclose(found.values[place[0], 1:], expected, rtol=1e-12)
    assert (found.errors[1:] <= 1e-12 * expected).all()


def test_no_right_side_is_no_work_and_no_error() -> None:
    moves = sparse.csr_array(np.array([[0.0, 0.5], [0.5, 0.0]]))

    found = solve_all(system_of(moves, np.ones(2)), np.zeros((2, 3)))

    assert not found.values.any()
    assert not found.errors.any()


def journeys_of(codes: Integers, lengths: Integers, converting: int, channels: int) -> Journeys:
    offsets, touches = np.concatenate([[0], np.cumsum(lengths)]), np.arange(len(codes))
    return Journeys(
        channels=tuple(f"c{number:03d}" for number in range(channels)),
        offsets=offsets,
        codes=codes.astype(np.int32),
        times=touches,
        touch_rows=touches,
        units=np.arange(len(lengths)),
        converting=converting,
        conversion_rows=np.arange(converting),
        conversion_times=offsets[1 : converting + 1],
        values=np.ones(converting),
        direct_rows=np.zeros(0, dtype=np.int64),
        direct_values=np.zeros(0),
    )


def converted(chain: Walks, removed: int) -> float:
    """Follow all walks step by step, those that meet the channel no further, until all ended."""
    here = chain.start
    kept = (chain.touches() != removed).all(axis=1)
    total = 0.0
    while here.sum() > 1e-15:
        here = here * kept
        total += float(here @ chain.converts)
        here = here @ chain.moves
    return total


def test_long_paths_over_many_channels_equal_removal_by_force() -> None:
    """Among short paths, most states of long ones are met once, and all far from an end."""
    channels, generator = 120, np.random.default_rng(5)
    lengths = np.concatenate([[10_000, 10_000], 1 + generator.poisson(3, 2_000)])
    codes = generator.integers(0, channels, int(lengths.sum()))
    converting, others = count_chain(journeys_of(codes, lengths, 100, channels), 2)
    counts = converting + others

    found = chain_removal_effects(counts)

    assert found.error_bound < 1e-9
    chain = walks(counts)
    everything = converted(chain, -2)
    for channel in (0, 17, channels - 1):
        expected = 1 - converted(chain, channel) / everything
        assert found.effects[channel] == pytest.approx(expected, abs=1e-11)
