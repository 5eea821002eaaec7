"""Moments by difference equal a rebuild, whatever the order of arrivals, changes and departures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_statistics.moments import Moments, merge
from touchstone_statistics.updating import add, grouped, remove, replace, without

BATCH = (2, 3)
COLUMNS = 2


def assert_same(left: Moments, right: Moments, scale: float) -> None:
    """To 1e-10 of the largest value and of the largest sum of squares."""
    np.testing.assert_array_equal(left.units, right.units)
    np.testing.assert_allclose(left.mean, right.mean, rtol=0, atol=1e-10 * scale)
    size = scale**2 * max(float(right.units.max(initial=0)), 1.0)
    np.testing.assert_allclose(left.co_moment, right.co_moment, rtol=0, atol=1e-10 * size)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1.0, 1e-6, 1e6]), st.sampled_from([0.0, 1.0, 1e4]))
def test_shuffled_changes_equal_a_rebuild(seed: int, spread: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    count = 60
    values = spread * (rng.normal(size=(count, COLUMNS)) + offset)
    cells = rng.integers(0, 6, count)
    current = {unit: (values[unit], cells[unit]) for unit in range(count)}
    moments = grouped(values, cells, BATCH)
    for _ in range(60):
        chosen = rng.choice(sorted(current), size=rng.integers(1, 5), replace=False)
        rows = np.array([current[unit][0] for unit in chosen])
        places = np.array([current[unit][1] for unit in chosen])
        fresh = spread * (rng.normal(size=rows.shape) + offset)
        match int(rng.integers(3)):
            case 0:  # late or retracted events change a total
                moments = replace(moments, rows, fresh, places)
            case 1:  # units that were seen in another variant move there
                moved = rng.integers(0, 6, len(chosen))
                moments = add(remove(moments, rows, places), fresh, moved)
                places = moved
            case _ if len(current) > 10:  # units are deleted
                moments = remove(moments, rows, places)
                for unit in chosen:
                    del current[unit]
                continue
            case _:
                continue
        current |= {u: (r, c) for u, r, c in zip(chosen, fresh, places, strict=True)}
    rest = list(current.values())
    rebuilt = grouped([row for row, _ in rest], [cell for _, cell in rest], BATCH)
    assert_same(moments, rebuilt, spread * (offset + 5.0))


def test_groups_are_the_moments_of_their_rows() -> None:
    rng = np.random.default_rng(1)
    rows, cells = rng.normal(size=(40, 3)), rng.integers(0, 5, 40)
    cells[cells == 2] = 4
    moments = grouped(rows, cells, (5,))
    for cell in range(5):
        alone = Moments.from_rows(rows[cells == cell].reshape(-1, 3))
        np.testing.assert_array_equal(moments[cell].units, alone.units)
        np.testing.assert_array_equal(moments[cell].mean, alone.mean)
        np.testing.assert_array_equal(moments[cell].co_moment, alone.co_moment)


def test_metrics_of_a_unit_change_together() -> None:
    rng = np.random.default_rng(2)
    rows, cells = rng.normal(3, 1, (30, 4, 2)), rng.integers(0, 6, 30)
    moments = grouped(rows, cells, BATCH)
    assert moments.units.shape == (*BATCH, 4)
    fresh = rows[:7] * 1.5
    changed = replace(moments, rows[:7], fresh, cells[:7])
    fewer = remove(changed, rows[7:9], cells[7:9])
    more = add(fewer, rows[7:9], cells[7:9])
    for metric in range(4):
        final = np.concatenate([fresh, rows[7:]])[:, metric]
        assert_same(more[:, :, metric], grouped(final, cells, BATCH), 10.0)


def test_one_unit_of_a_batch_without_axes() -> None:
    start = Moments.from_rows([[1.0], [4.0]])
    more = add(start, [[7.0]])
    assert (more.units, more.mean[0], more.co_moment[0, 0]) == pytest.approx((3, 4.0, 18.0))
    changed = replace(more, [[7.0]], [[1.0]])
    assert (changed.mean[0], changed.co_moment[0, 0]) == pytest.approx((2.0, 6.0))
    less = remove(changed, [[4.0]])
    assert (less.units, less.mean[0], less.co_moment[0, 0]) == pytest.approx((2, 1.0, 0.0))


def test_the_last_unit_leaves_nothing_behind() -> None:
    gone = remove(Moments.from_rows([[0.1, 1e9]]), [[0.1, 1e9]])
    assert gone.units == 0
    assert not gone.mean.any()
    assert not gone.co_moment.any()


def test_without_undoes_merge_for_cells_that_one_side_lacks() -> None:
    left = grouped([[1.0], [2.0], [9.0]], [0, 0, 2], (3,))
    right = grouped([[5.0], [6.0]], [1, 2], (3,))
    assert_same(without(merge(left, right), right), left, 10.0)


def test_no_change_changes_nothing() -> None:
    rows, cells = np.empty((0, 1)), np.empty(0, dtype=np.intp)
    start = grouped([[1.0], [2.0]], [0, 2], (3,))
    for same in (add(start, rows, cells), remove(start, rows, cells), replace(start, rows, rows)):
        assert_same(same, start, 1.0)
    assert not grouped(rows, cells, (3,)).units.any()


def test_a_variance_never_becomes_negative() -> None:
    rows = np.full((3, 1), 0.1)
    moments = Moments.from_rows(np.concatenate([rows, [[1e8]]]))
    assert remove(moments, [[1e8]]).co_moment[0, 0] >= 0.0


def test_senseless_changes_are_refused() -> None:
    one = Moments.from_rows([[1.0]])
    with pytest.raises(ValueError, match="no more can leave"):
        remove(one, [[1.0], [2.0]])
    with pytest.raises(ValueError, match="more units change"):
        replace(one, [[1.0], [2.0]], [[1.0], [3.0]])
    with pytest.raises(ValueError, match="they must agree"):
        replace(one, [[1.0]], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="must end in"):
        add(one, [1.0])
    with pytest.raises(ValueError, match="must end in"):
        replace(one, [[1.0, 2.0]], [[1.0, 3.0]])
    with pytest.raises(ValueError, match=r"allowed are \(r, ..., k\)"):
        grouped([[1.0]], [0, 1], (2,))
    with pytest.raises(ValueError, match="allowed is 0 to 1"):
        grouped([[1.0]], [2], (2,))
