"""What is weighed: sparse tables from journeys to the additive statistics of models.

A tally has a row a journey and a column a statistic. The weighted sum of its rows is the statistic
of a replicate; `read` turns such a sum into what the models take.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from scipy import sparse

from services.attribution.domain.arrays import Floats, Integers, distinct
from services.attribution.domain.channel_sets import (
    SetHistogram,
    Words,
    cells_of,
    index_sets,
)
from services.attribution.domain.credits import ChannelCredits, touch_values
from services.attribution.domain.fractribution import NEVER_TAKEN, PathLinks, link_paths
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import TransitionCounts
from services.attribution.domain.paths.table import tabulate_paths
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
class JourneyTally:
    """How often each journey counts, for a model that is fitted anew to all of them."""

    rows: sparse.csr_array

    def read(self, totals: Floats) -> Floats:
        """See Tally."""
        return totals


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


@dataclass(frozen=True, slots=True)
class SizeTally:
    """Conversions that saw a touch, and their value."""

    rows: sparse.csr_array

    def read(self, totals: Floats) -> tuple[float, float]:
        """See Tally."""
        return float(totals[0]), float(totals[1])


@dataclass(frozen=True, slots=True)
class DividedSets:
    """Conversions and value (S,) by set of channels, and the members of the sets as cells."""

    channels: int
    sets: Integers
    members: Integers
    conversions: Floats
    values: Floats

    def divided_by(self, effects: Floats) -> ChannelCredits:
        """Divide each conversion by the effects of its channels; equally where all are 0."""
        raw = effects[self.members]
        total = np.bincount(self.sets, weights=raw, minlength=len(self.conversions))
        raw = np.where(total[self.sets] > 0, raw, 1.0)
        total = np.bincount(self.sets, weights=raw, minlength=len(self.conversions))
        parts = raw / total[self.sets]
        conversions, values = (
            np.bincount(
                self.members, weights=parts * amount[self.sets], minlength=self.channels
            ).astype(np.float64)
            for amount in (self.conversions, self.values)
        )
        return ChannelCredits(conversions, values)


@dataclass(frozen=True, slots=True)
class DividedSetTally:
    """Conversions and value by set of channels, of the converting journeys alone."""

    channels: int
    sets: Integers
    members: Integers
    rows: sparse.csr_array

    def read(self, totals: Floats) -> DividedSets:
        """See Tally."""
        conversions, values = totals.reshape(2, -1)
        return DividedSets(self.channels, self.sets, self.members, conversions, values)


@dataclass(frozen=True, slots=True)
class PathTally:
    """Journeys, conversions and value by path, as far as fractribution asks for them."""

    channels: int
    links: PathLinks
    rows: sparse.csr_array

    def read(self, totals: Floats) -> ChannelCredits:
        """See Tally. The credits are those of fractribution."""
        journeys, conversions, values = totals.reshape(3, -1)
        rates = conversions / np.maximum(journeys, 1)
        weights = self.links.weights(rates)
        lengths = np.diff(self.links.offsets)
        bought, carried = (
            np.bincount(
                self.links.codes,
                weights=weights * np.repeat(amount[self.links.paths], lengths),
                minlength=self.channels,
            ).astype(np.float64)
            for amount in (conversions, values)
        )
        return ChannelCredits(bought, carried)


def tally_credits(weights: Floats, journeys: Journeys) -> CreditTally:
    """Tally the weights of the touches of the converting journeys, and the value they carry."""
    channels = len(journeys.channels)
    lengths = np.diff(journeys.converting_offsets)
    owners = np.repeat(np.arange(journeys.converting, dtype=np.int64), lengths)
    codes = journeys.converting_codes.astype(np.int64)
    columns = np.concatenate([codes, codes + channels])
    amounts = np.concatenate([weights, touch_values(weights, journeys)])
    rows = _sparse(np.tile(owners, 2), columns, amounts, (len(journeys), 2 * channels))
    rows.eliminate_zeros()
    return CreditTally(rows)


def tally_size(journeys: Journeys) -> SizeTally:
    """Tally the conversions that saw a touch, and their value."""
    own = np.arange(journeys.converting, dtype=np.int64)
    amounts = np.concatenate([np.ones(len(own)), journeys.values])
    columns = np.repeat(np.arange(2), len(own))
    return SizeTally(_sparse(np.tile(own, 2), columns, amounts, (len(journeys), 2)))


def tally_divided_sets(journeys: Journeys) -> DividedSetTally:
    """Tally the set of distinct channels of each converting journey."""
    index = index_sets(journeys)
    own = index.of_journey[: journeys.converting]
    used, first, place = np.unique(own, return_index=True, return_inverse=True)
    cells = cells_of(journeys.converting_codes, journeys.converting_offsets, len(journeys.channels))
    shown = np.zeros(journeys.converting, dtype=np.bool_)
    shown[first] = True
    kept = shown[cells.journeys]
    everyone = np.arange(journeys.converting, dtype=np.int64)
    rows = _sparse(
        np.tile(everyone, 2),
        np.concatenate([place, place + len(used)]),
        np.concatenate([np.ones(len(own)), journeys.values]),
        (len(journeys), 2 * len(used)),
    )
    sets = place[cells.journeys[kept]]
    return DividedSetTally(len(journeys.channels), sets, cells.channels[kept], rows)


def tally_paths(journeys: Journeys) -> PathTally:
    """Tally the journeys, conversions and value of the paths that fractribution looks at."""
    table = tabulate_paths(journeys)
    links = link_paths(table)
    asked = distinct(np.concatenate([links.paths, links.without[links.without != NEVER_TAKEN]]))
    place = np.full(len(table) + 1, NEVER_TAKEN, dtype=np.int64)
    place[asked] = np.arange(len(asked))
    compact = PathLinks(place[links.paths], links.offsets, links.codes, place[links.without])
    of_journey = place[table.of_journey]
    looked_at = np.flatnonzero(of_journey != NEVER_TAKEN)
    own = np.arange(journeys.converting, dtype=np.int64)
    bought = of_journey[: journeys.converting]
    rows = _sparse(
        np.concatenate([looked_at, own, own]),
        np.concatenate([of_journey[looked_at], bought + len(asked), bought + 2 * len(asked)]),
        np.concatenate([np.ones(len(looked_at) + len(own)), journeys.values]),
        (len(journeys), 3 * len(asked)),
    )
    return PathTally(len(journeys.channels), compact, rows)


def tally_journeys(journeys: Journeys) -> JourneyTally:
    """Tally every journey by itself."""
    return JourneyTally(sparse.csr_array(sparse.identity(len(journeys), format="csr")))


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
