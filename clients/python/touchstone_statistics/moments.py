"""Centred moments of several columns over the units of an arm: all that the statistics need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from touchstone_statistics.gaps import FloatArray, quotient


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, mean vector and centred co-moment matrix of k columns.

    `units` has any batch shape B (for instance arms), `mean` has shape B + (k,) and `co_moment`
    shape B + (k, k), where `co_moment[i, j]` is the sum over units of
    (x_i - mean_i)(x_j - mean_j). Nothing is stored as a raw sum of squares: with a mean of 1e9
    and a standard deviation of 1 raw sums lose every digit of the variance.
    An arm without units has zero everywhere and is the neutral element of `merge`.
    """

    units: FloatArray
    mean: FloatArray
    co_moment: FloatArray

    def __post_init__(self) -> None:
        batch, columns = self.units.shape, self.mean.shape[-1]
        if self.mean.shape != (*batch, columns):
            raise ValueError(
                f"mean has shape {self.mean.shape}; with units of shape {batch} it must be "
                f"{(*batch, columns)}"
            )
        if self.co_moment.shape != (*batch, columns, columns):
            raise ValueError(
                f"co_moment has shape {self.co_moment.shape}; with {columns} columns it must be "
                f"{(*batch, columns, columns)}"
            )

    @classmethod
    def of(cls, units: ArrayLike, mean: ArrayLike, co_moment: ArrayLike) -> Self:
        """Moments from anything that numpy turns into arrays of float64."""
        return cls(
            np.asarray(units, dtype=np.float64),
            np.asarray(mean, dtype=np.float64),
            np.asarray(co_moment, dtype=np.float64),
        )

    @classmethod
    def from_rows(cls, rows: ArrayLike) -> Self:
        """Moments of rows B + (units, k), a row for each unit, in two passes."""
        matrix = np.atleast_2d(np.asarray(rows, dtype=np.float64))
        batch, count = matrix.shape[:-2], matrix.shape[-2]
        if count == 0:
            return cls.empty(batch, matrix.shape[-1])
        mean = matrix.mean(axis=-2)
        centred = matrix - mean[..., None, :]
        # The residual sum corrects the rounding of the first pass (Chan, Golub, LeVeque 1983).
        residual = centred.mean(axis=-2)
        centred -= residual[..., None, :]
        units = np.full(batch, float(count))
        return cls(units, mean + residual, np.swapaxes(centred, -1, -2) @ centred)

    @classmethod
    def from_sums(cls, units: ArrayLike, sums: ArrayLike, co_moment: ArrayLike) -> Self:
        """Moments from counts (B), column sums (B + (k,)) and centred co-moments (B + (k, k)).

        Raises ValueError for a negative or infinite count, and for sums of no units.
        """
        count = np.asarray(units, dtype=np.float64)
        total = np.asarray(sums, dtype=np.float64)
        if not np.all((count >= 0) & np.isfinite(count)):
            raise ValueError(f"units are {count}; each must be finite and not negative")
        if np.any((count == 0)[..., None] & (total != 0)):
            raise ValueError(f"sums are {total} with units {count}; no units add up to zero")
        return cls.of(count, quotient(total, count[..., None], 0.0), co_moment)

    @classmethod
    def empty(cls, batch: tuple[int, ...], columns: int) -> Self:
        """Moments of no units at all."""
        return cls(
            np.zeros(batch), np.zeros((*batch, columns)), np.zeros((*batch, columns, columns))
        )

    @property
    def columns(self) -> int:
        return int(self.mean.shape[-1])

    def __getitem__(self, index: Any) -> Self:
        """A part of the batch, for instance one arm."""
        return type(self).of(self.units[index], self.mean[index], self.co_moment[index])

    def select(self, columns: Sequence[int]) -> Self:
        """The moments of some of the columns, in the order asked for."""
        index = np.asarray(columns, dtype=np.intp)
        return type(self)(
            self.units, self.mean[..., index], self.co_moment[..., index[:, None], index]
        )

    def move_axis(self, source: int, destination: int) -> Self:
        """The same moments with one axis of the batch moved, as `numpy.moveaxis` moves it."""
        places = range(self.units.ndim)
        start, end = places[source], places[destination]
        return type(self)(
            np.moveaxis(self.units, start, end),
            np.moveaxis(self.mean, start, end),
            np.moveaxis(self.co_moment, start, end),
        )

    def total(self, axis: int = -1) -> Self:
        """Moments of the union of all parts along one axis of the batch.

        Source: Chan, Golub and LeVeque (1983), equation 2.1 for many parts at once: the co-moment
        within the parts and that between their means. Nothing cancels: all terms are squares.
        """
        place = range(self.units.ndim)[axis]
        units = self.units.sum(axis=place)
        share = quotient(self.units, np.expand_dims(units, place), 0.0)[..., None]
        # Shares are taken of deviations from a part that has units, so that equal means stay equal.
        origin = np.take_along_axis(
            self.mean, np.argmax(self.units > 0, axis=place, keepdims=True)[..., None], axis=place
        )
        shift = (share * (self.mean - origin)).sum(axis=place, keepdims=True)
        mean = np.where(units[..., None] > 0, (origin + shift).squeeze(place), 0.0)
        apart = np.where(share > 0, self.mean - np.expand_dims(mean, place), 0.0)
        between = self.units[..., None, None] * apart[..., :, None] * apart[..., None, :]
        return type(self)(units, mean, (self.co_moment + between).sum(axis=place))

    def pooled_within(self, axis: int = -1) -> FloatArray:
        """Covariance within the parts along one axis (arms), pooled: zero where it is unknown.

        The sum of the centred co-moments over the sum of `units - 1`, unbiased when the parts
        share a covariance. Differences between the parts' means do not enter, so a treatment
        effect cannot.
        """
        place = range(self.units.ndim)[axis]
        dof = np.maximum(self.units - 1.0, 0.0).sum(axis=place)
        return np.asarray(self.co_moment.sum(axis=place) / np.maximum(dof, 1.0)[..., None, None])

    @property
    def covariance(self) -> FloatArray:
        """Sample covariance (ddof 1); zero where fewer than two units make it unknown."""
        dof = np.maximum(self.units - 1.0, 1.0)
        return np.asarray(self.co_moment / dof[..., None, None])


def merge(left: Moments, right: Moments) -> Moments:
    """Moments of the union of two disjoint sets of units.

    Source: Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance",
    equations 2.1a and 2.1b, in the matrix form of Pébay (2008). Batch shapes broadcast.
    """
    units = left.units + right.units
    share = quotient(right.units, units, 0.0)
    shift = right.mean - left.mean
    # An empty side has a meaningless mean of zero; its shift must not enter.
    shift = np.where((left.units > 0)[..., None], shift, 0.0)
    start = np.where((left.units > 0)[..., None], left.mean, right.mean)
    mean = start + shift * share[..., None]
    outer = shift[..., :, None] * shift[..., None, :]
    weight = (left.units * share)[..., None, None]
    return Moments(units, mean, left.co_moment + right.co_moment + outer * weight)
