"""Moments kept up to date by difference: units that arrive, change or leave, without a rescan.

The order of changes does not matter and neither does their grouping, up to rounding: each change
adds an error of about 1e-16 of the largest co-moment that the cell has ever had. So moments that
once held a value a million times their later spread should be rebuilt when it has left.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from touchstone_statistics.gaps import FloatArray, quotient
from touchstone_statistics.moments import Moments, merge

Cells = NDArray[np.intp]
"""Flat index (C order) of each row's cell in the batch."""


def grouped(rows: ArrayLike, cells: ArrayLike, batch: tuple[int, ...]) -> Moments:
    """Moments of each cell of a batch from rows (r, k) and the flat index (r) of their cells.

    Raises ValueError for an index outside the batch or a number of indexes other than of rows.
    """
    matrix = np.asarray(rows, dtype=np.float64)
    index = _checked(matrix, cells, batch)
    size, columns = math.prod(batch), matrix.shape[1]
    units = np.bincount(index, minlength=size).astype(np.float64)
    mean, co_moment = np.zeros((size, columns)), np.zeros((size, columns, columns))
    for cell, members in _members(index):
        part = Moments.from_rows(matrix[members])
        mean[cell], co_moment[cell] = part.mean, part.co_moment
    return Moments(
        units.reshape(batch),
        mean.reshape(*batch, columns),
        co_moment.reshape(*batch, columns, columns),
    )


def add(moments: Moments, rows: ArrayLike, cells: ArrayLike = ()) -> Moments:
    """Moments after units joined: rows (r, k), and the flat cell (r) of each in a batch."""
    return merge(moments, grouped(rows, _or_only(rows, cells), moments.units.shape))


def remove(moments: Moments, rows: ArrayLike, cells: ArrayLike = ()) -> Moments:
    """Moments after units left, given by the values with which they had been counted."""
    return without(moments, grouped(rows, _or_only(rows, cells), moments.units.shape))


def without(whole: Moments, part: Moments) -> Moments:
    """Moments of what is left of `whole` when `part` leaves: the inverse of `merge`.

    Source: Chan, Golub and LeVeque (1983), equations 2.1a and 2.1b solved for one of the parts.
    A variance that rounding would make negative is zero. Raises ValueError when more units leave
    a cell than it has.
    """
    units = whole.units - part.units
    if np.any(units < 0):
        raise ValueError(
            f"{part.units[units < 0]} units leave cells of {whole.units[units < 0]}; "
            "no more can leave than there are"
        )
    left = (units > 0)[..., None]
    shift = np.where((part.units > 0)[..., None], part.mean - whole.mean, 0.0)
    odds = quotient(part.units, units, 0.0)
    mean = np.where(left, whole.mean - shift * odds[..., None], 0.0)
    outer = shift[..., :, None] * shift[..., None, :]
    weight = (whole.units * odds)[..., None, None]
    co_moment = whole.co_moment - part.co_moment - outer * weight
    return Moments(units, mean, np.where(left[..., None], _not_negative(co_moment), 0.0))


def replace(
    moments: Moments, before: ArrayLike, after: ArrayLike, cells: ArrayLike = ()
) -> Moments:
    """Moments after units changed their values but not their cells.

    `before` and `after` hold the old and new rows (r, k) of the same units in the same order.
    With values measured from the old mean of the cell and d = after - before, the co-moment
    grows by the sum of before d' + d before' + d d', less (sum d)(sum d)' / units: Welford
    (1962), equation II, for a changed instead of a new value. Costs O(r k^2), whatever `units`.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    index = _checked(old, _or_only(old, cells), moments.units.shape)
    if old.shape != new.shape:
        raise ValueError(f"before has shape {old.shape} and after {new.shape}; they must agree")
    if np.any(np.bincount(index, minlength=moments.units.size) > moments.units.ravel()):
        raise ValueError(f"more units change than the cells have; they have {moments.units}")
    batch, columns = moments.units.shape, moments.columns
    means = moments.mean.reshape(-1, columns)
    drift, growth = np.zeros_like(means), np.zeros((len(means), columns, columns))
    for cell, members in _members(index):
        start, change = old[members] - means[cell], (new - old)[members]
        # (s + d/2) d' + d (s + d/2)' is all three terms at once, and symmetric.
        half = (start + change / 2.0).T @ change
        drift[cell], growth[cell] = change.sum(axis=0), half + half.T
    share = quotient(drift, np.maximum(moments.units.reshape(-1, 1), 1.0), 0.0)
    growth -= drift[:, :, None] * share[:, None, :]
    return Moments(
        moments.units,
        (means + share).reshape(*batch, columns),
        _not_negative(moments.co_moment + growth.reshape(*batch, columns, columns)),
    )


def _or_only(rows: ArrayLike, cells: ArrayLike) -> ArrayLike:
    """Cells as given, or the only cell of a batch without axes."""
    return cells if np.size(cells) else np.zeros(len(np.asarray(rows)), dtype=np.intp)


def _checked(rows: FloatArray, cells: ArrayLike, batch: tuple[int, ...]) -> Cells:
    index, size = np.asarray(cells, dtype=np.intp), math.prod(batch)
    if rows.ndim != 2 or index.shape != rows.shape[:1]:
        raise ValueError(
            f"rows has shape {rows.shape} and cells {index.shape}; allowed are (r, k) and (r,)"
        )
    if index.size and not 0 <= index.min() <= index.max() < size:
        raise ValueError(f"cells are {index.min()} to {index.max()}; allowed is 0 to {size - 1}")
    return index


def _members(index: Cells) -> Iterator[tuple[int, Cells]]:
    """Each cell that has rows, with their places."""
    order = np.argsort(index, kind="stable")
    present, starts = np.unique(index[order], return_index=True)
    ends = np.append(starts, index.size)[1:]
    for cell, start, end in zip(present, starts, ends, strict=True):
        yield int(cell), order[start:end]


def _not_negative(co_moment: FloatArray) -> FloatArray:
    """Rounding below zero on the diagonal becomes zero."""
    diagonal = np.eye(co_moment.shape[-1], dtype=np.bool_)
    return np.where(diagonal, np.maximum(co_moment, 0.0), co_moment)
