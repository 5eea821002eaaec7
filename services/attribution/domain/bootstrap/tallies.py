"""What is weighed: sparse tables from journeys to the additive statistics of models.

A tally has a row a journey and a column a statistic. The weighted sum of its rows is the statistic
of a replicate; `read` turns such a sum into what the models take.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Floats, Integers
from services.attribution.domain.channel_sets import SetHistogram, Words, index_sets
from services.attribution.domain.credits import ChannelCredits, touch_values
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import TransitionCounts
from services.attribution.domain.paths.transforms import PathTransform, transform_paths

S_co = TypeVar("S_co", covariant=True)


class Tally(Protocol[S_co]):
    """Additive statistics of each journey."""

    @property
    def rows(self) -> sparse.csr_array:
        """Statistics by journey, of shape (journeys, K)."""
        ...

    def read(self, totals: Floats) -> S_co:
        """The statistic that the K weighted sums make up."""
        ...


@dataclass(frozen=True, slots=True)
class CreditTally:
    """Credits by channel of a model whose weights of touches do not depend on other journeys."""

    rows: sparse.csr_array

    def read(self, totals: Floats) -> ChannelCredits:
        """See Tally."""
        channels = len(totals) // 2
        return ChannelCredits(totals[:channels], totals[channels:])


@dataclass(frozen=True, slots=True)
class SetTally:
    """Journeys, conversions and value by set of channels."""

    channels: tuple[str, ...]
    words: Words
    rows: sparse.csr_array

    def read(self, totals: Floats) -> SetHistogram:
        """See Tally."""
        journeys, conversions, values = totals.reshape(3, -1)
        return SetHistogram(
            channels=self.channels,
            words=self.words,
            journeys=_counts(journeys),
            conversions=_counts(conversions),
            values=values,
        )


@dataclass(frozen=True, slots=True)
class StepTally:
    """The steps that an order-1 Markov model counts, of all journeys or the converting ones."""

    channels: int
    rows: sparse.csr_array

    def read(self, totals: Floats) -> TransitionCounts:
        """See Tally."""
        width = self.channels
        edges, steps = totals[: 4 * width].reshape(4, width), totals[4 * width :]
        return TransitionCounts(
            start=_counts(edges[0]),
            steps=_counts(steps).reshape(width, width),
            converted=_counts(edges[1]),
            null=_counts(edges[2]),
            value=edges[3],
        )


def tally_credits(weights: Floats, journeys: Journeys) -> CreditTally:
    """Tally the weights of the touches of the converting journeys, and the value they carry."""
    channels = len(journeys.channels)
    lengths = np.diff(journeys.converting_offsets)
    owners = np.repeat(np.arange(journeys.converting, dtype=np.int64), lengths)
    codes = journeys.converting_codes.astype(np.int64)
    columns = np.concatenate([codes, codes + channels])
    amounts = np.concatenate([weights, touch_values(weights, journeys)])
    return CreditTally(_sparse(np.tile(owners, 2), columns, amounts, (len(journeys), 2 * channels)))


def tally_sets(journeys: Journeys) -> SetTally:
    """Tally the set of distinct channels of each journey."""
    index = index_sets(journeys)
    sets, everyone = len(index.words), np.arange(len(journeys), dtype=np.int64)
    converting = everyone[: journeys.converting]
    own = index.of_journey[: journeys.converting]
    rows = np.concatenate([everyone, converting, converting])
    columns = np.concatenate([index.of_journey, own + sets, own + 2 * sets])
    amounts = np.concatenate([np.ones(len(everyone) + len(own)), journeys.values])
    return SetTally(
        journeys.channels, index.words, _sparse(rows, columns, amounts, (len(journeys), 3 * sets))
    )


def tally_steps(journeys: Journeys, *, ignore_non_converting: bool = False) -> StepTally:
    """Tally the steps of each journey; consecutive touches of one channel are one visit."""
    visits = transform_paths(journeys, PathTransform.EXPOSURE)
    channels, count = len(visits.channels), len(visits)
    codes = visits.codes.astype(np.int64)
    everyone = np.arange(count, dtype=np.int64)
    owners = np.repeat(everyone, np.diff(visits.offsets))
    inside = np.ones(len(codes), dtype=np.bool_)
    inside[visits.offsets[:-1]] = False
    later = np.flatnonzero(inside)
    last = codes[visits.offsets[1:] - 1]
    converting = everyone[: visits.converting]
    ends = np.where(visits.converted, channels, 2 * channels)
    rows = np.concatenate([everyone, everyone, converting, owners[later]])
    columns = np.concatenate(
        [
            codes[visits.offsets[:-1]],
            ends + last,
            3 * channels + last[: visits.converting],
            4 * channels + codes[later - 1] * channels + codes[later],
        ]
    )
    amounts = np.concatenate([np.ones(2 * count), visits.values, np.ones(len(later))])
    if ignore_non_converting:
        kept = rows < visits.converting
        rows, columns, amounts = rows[kept], columns[kept], amounts[kept]
    width = channels * (channels + 4)
    return StepTally(channels, _sparse(rows, columns, amounts, (count, width)))


def _sparse(
    rows: Integers, columns: Integers, amounts: Floats, shape: tuple[int, int]
) -> sparse.csr_array:
    return sparse.csr_array(sparse.coo_array((amounts, (rows, columns)), shape=shape))


def _counts(totals: Floats) -> Integers:
    counts: Integers = np.rint(totals).astype(np.int64)
    return counts
