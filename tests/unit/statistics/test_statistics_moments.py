"""Moments: exact counts, no cancellation, and a merge that does not depend on the grouping."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from touchstone_statistics.moments import Moments, merge

finite = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def parts() -> st.SearchStrategy[list[np.ndarray]]:
    rows = st.integers(0, 6).flatmap(lambda n: arrays(np.float64, (n, 2), elements=finite))
    return st.lists(rows, min_size=3, max_size=3)


def assert_same(left: Moments, right: Moments, scale: float) -> None:
    np.testing.assert_array_equal(left.units, right.units)
    np.testing.assert_allclose(left.mean, right.mean, rtol=1e-10, atol=1e-10 * scale)
    np.testing.assert_allclose(left.co_moment, right.co_moment, rtol=1e-9, atol=1e-9 * scale**2)


def test_rows_match_numpy() -> None:
    rows = np.random.default_rng(1).normal(size=(500, 3)) * [1, 10, 100] + [0, 5, -7]
    moments = Moments.from_rows(rows)
    assert moments.units == 500
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T), rtol=1e-12)
    batch = Moments.from_rows(rows.reshape(5, 2, 50, 3))
    assert batch.units.shape == (5, 2)
    np.testing.assert_allclose(batch.covariance[3, 1], np.cov(rows[350:400].T), rtol=1e-12)


def test_a_mean_of_a_billion_keeps_the_variance() -> None:
    rng = np.random.default_rng(2)
    spread = rng.normal(size=(100_000, 1))
    left, right = np.split(spread + 1e9, 2)
    merged = merge(Moments.from_rows(left), Moments.from_rows(right))
    assert merged.covariance[0, 0] == pytest.approx(spread.var(ddof=1), rel=1e-6)


@given(parts())
def test_merge_is_associative_and_commutative(rows: list[np.ndarray]) -> None:
    a, b, c = (Moments.from_rows(part) for part in rows)
    scale = 1.0 + max(float(np.abs(part).max(initial=0)) for part in rows)
    assert_same(merge(merge(a, b), c), merge(a, merge(b, c)), scale)
    assert_same(merge(a, b), merge(b, a), scale)


@given(parts())
def test_merge_equals_all_rows_at_once(rows: list[np.ndarray]) -> None:
    a, b, c = (Moments.from_rows(part) for part in rows)
    together = np.concatenate(rows)
    scale = 1.0 + float(np.abs(together).max(initial=0))
    assert_same(merge(merge(a, b), c), Moments.from_rows(together), scale)


def test_no_units_is_the_neutral_element_of_a_batch() -> None:
    arm = Moments.from_rows([[1.0, 2.0], [3.0, 5.0]])
    stacked = Moments.of([2, 0], [arm.mean, np.zeros(2)], [arm.co_moment, np.zeros((2, 2))])
    merged = merge(Moments.empty((2,), 2), stacked)
    np.testing.assert_array_equal(merged.mean, stacked.mean)
    np.testing.assert_array_equal(merged.co_moment, stacked.co_moment)


@given(parts())
def test_a_total_over_an_axis_equals_all_rows_at_once(rows: list[np.ndarray]) -> None:
    each = [Moments.from_rows(part) for part in rows]
    stacked = Moments.of(
        [m.units for m in each], [m.mean for m in each], [m.co_moment for m in each]
    )
    scale = 1.0 + max(float(np.abs(part).max(initial=0)) for part in rows)
    assert_same(stacked.total(), Moments.from_rows(np.concatenate(rows)), scale)


def test_a_total_takes_the_axis_that_is_named() -> None:
    rows = np.random.default_rng(3).normal(1e6, 1.0, size=(2, 3, 50, 2))
    cells = [[Moments.from_rows(cell) for cell in line] for line in rows]
    batch = Moments.of(
        [[m.units for m in line] for line in cells],
        [[m.mean for m in line] for line in cells],
        [[m.co_moment for m in line] for line in cells],
    )
    first, last = batch.total(0), batch.total(-1)
    assert_same(first[1], Moments.from_rows(rows[:, 1].reshape(-1, 2)), 3.0)
    assert_same(last[1], Moments.from_rows(rows[1].reshape(-1, 2)), 3.0)


def test_the_pooled_covariance_ignores_differences_between_arms() -> None:
    rng = np.random.default_rng(4)
    arms = [rng.normal(size=(n, 2)) for n in (30, 80)]
    apart = [Moments.from_rows(arm + shift) for arm, shift in zip(arms, (0, 50), strict=True)]
    both = Moments.of(
        [m.units for m in apart], [m.mean for m in apart], [m.co_moment for m in apart]
    )
    expected = (29 * np.cov(arms[0].T) + 79 * np.cov(arms[1].T)) / 108
    np.testing.assert_allclose(both.pooled_within(), expected, rtol=1e-10)


def test_columns_are_selected_in_the_order_asked_for() -> None:
    rows = np.random.default_rng(5).normal(size=(20, 4))
    some = Moments.from_rows(rows).select([3, 1])
    np.testing.assert_allclose(some.mean, rows[:, [3, 1]].mean(axis=0))
    np.testing.assert_allclose(some.covariance, np.cov(rows[:, [3, 1]].T))


def test_an_axis_of_the_batch_moves_and_the_columns_stay() -> None:
    batch = Moments.from_rows(np.random.default_rng(6).normal(size=(2, 3, 4, 9, 2)))
    moved = batch.move_axis(-1, 0)
    assert moved.units.shape == (4, 2, 3)
    np.testing.assert_array_equal(moved.mean[1], batch.mean[:, :, 1])
    np.testing.assert_array_equal(moved.co_moment[3], batch.co_moment[:, :, 3])


def test_sums_become_means() -> None:
    moments = Moments.from_sums([4, 0], [[10.0], [0.0]], [[[5.0]], [[0.0]]])
    np.testing.assert_array_equal(moments.mean, [[2.5], [0.0]])
    with pytest.raises(ValueError, match="no units add up to zero"):
        Moments.from_sums([0], [[1.0]], [[[0.0]]])
    with pytest.raises(ValueError, match="not negative"):
        Moments.from_sums([-1], [[1.0]], [[[0.0]]])


@pytest.mark.parametrize(
    ("mean", "co_moment", "message"),
    [([[1.0]], np.zeros((2, 1, 1)), "mean has shape"), ([[1.0], [2.0]], [[0.0]], "co_moment has")],
)
def test_shapes_that_do_not_fit_are_refused(mean: object, co_moment: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Moments.of([1, 2], mean, co_moment)  # type: ignore[arg-type]
