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
    """Moments of each cell of a batch from rows (r, ..., k) and the flat index (r) of their cells.

    Axes of the rows between the first and the last, for instance metrics, become the last axes
    of the batch: every row has them all. Raises ValueError for an index outside the batch or a
    number of indexes other than of rows.
    """
    matrix = np.asarray(rows, dtype=np.float64)
    index = _checked(matrix, cells, batch)
    size, more = math.prod(batch), matrix.shape[1:]
    units = np.zeros((size, *more[:-1]))
    mean, co_moment = np.zeros((size, *more)), np.zeros((size, *more, more[-1]))
    for cell, members in _members(index):
        part = Moments.from_rows(np.moveaxis(matrix[members], 0, -2))
        units[cell], mean[cell], co_moment[cell] = part.units, part.mean, part.co_moment
    return Moments(
        units.reshape((*batch, *more[:-1])),
        mean.reshape(*batch, *more),
        co_moment.reshape(*batch, *more, more[-1]),
    )


def add(moments: Moments, rows: ArrayLike, cells: ArrayLike = ()) -> Moments:
    """Moments after units joined: rows as in `grouped`, and the flat cell (r) of each."""
    return merge(moments, _part(moments, rows, cells))


def remove(moments: Moments, rows: ArrayLike, cells: ArrayLike = ()) -> Moments:
    """Moments after units left, given by the values with which they had been counted."""
    return without(moments, _part(moments, rows, cells))


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

    `before` and `after` hold the old and new rows of the same units in the same order, as in
    `grouped`. With values measured from the old mean of the cell and d = after - before, the
    co-moment grows by the sum of before d' + d before' + d d', less (sum d)(sum d)' / units:
    Welford (1962), equation II, for a changed instead of a new value. Costs O(r k^2), whatever
    `units`. Raises ValueError when more units change in a cell than it has.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if old.shape != new.shape:
        raise ValueError(f"before has shape {old.shape} and after {new.shape}; they must agree")
    batch = _leading(moments, old)
    index = _checked(old, _or_only(old, cells), batch)
    size, more = math.prod(batch), old.shape[1:]
    units, means = moments.units.reshape((size, *more[:-1])), moments.mean.reshape(size, *more)
    counts = np.bincount(index, minlength=size).reshape(size, *(1 for _ in more[:-1]))
    if np.any(counts > units):
        raise ValueError(f"more units change than the cells have; they have {moments.units}")
    drift, growth = np.zeros_like(means), np.zeros((*means.shape, more[-1]))
    starts, changes = old - means[index], new - old
    for cell, members in _members(index):
        start, change = (np.moveaxis(part[members], 0, -2) for part in (starts, changes))
        # (s + d/2) d' + d (s + d/2)' is all three terms at once, and symmetric.
        half = np.swapaxes(start + change / 2.0, -1, -2) @ change
        drift[cell], growth[cell] = change.sum(axis=-2), half + np.swapaxes(half, -1, -2)
    share = drift / np.maximum(units, 1.0)[..., None]
    growth -= drift[..., :, None] * share[..., None, :]
    return Moments(
        moments.units,
        (means + share).reshape(moments.mean.shape),
        _not_negative(moments.co_moment + growth.reshape(moments.co_moment.shape)),
    )


def _part(moments: Moments, rows: ArrayLike, cells: ArrayLike) -> Moments:
    matrix = np.asarray(rows, dtype=np.float64)
    return grouped(matrix, _or_only(matrix, cells), _leading(moments, matrix))


def _leading(moments: Moments, rows: FloatArray) -> tuple[int, ...]:
    """The axes of the batch that the cells of the rows count; the rows have the others."""
    shared = max(rows.ndim - 2, 0)
    batch = moments.units.shape
    own, kept = batch[: len(batch) - shared], batch[len(batch) - shared :]
    if rows.shape[1:] != (*kept, moments.columns):
        raise ValueError(
            f"rows has shape {rows.shape}; with a batch of {batch} and {moments.columns} columns "
            f"it must end in {(*kept, moments.columns)}"
        )
    return own


def _or_only(rows: FloatArray, cells: ArrayLike) -> ArrayLike:
    """Cells as given, or the only cell of a batch without axes."""
    return cells if np.size(cells) else np.zeros(rows.shape[:1], dtype=np.intp)


def _checked(rows: FloatArray, cells: ArrayLike, batch: tuple[int, ...]) -> Cells:
    index, size = np.asarray(cells, dtype=np.intp), math.prod(batch)
    if rows.ndim < 2 or index.shape != rows.shape[:1]:
        raise ValueError(
            f"rows has shape {rows.shape} and cells {index.shape}; allowed are (r, ..., k) and (r,)"
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
