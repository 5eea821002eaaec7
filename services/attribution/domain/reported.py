"""What may be told of channels: those that too few units met are added up, and counted."""

from dataclasses import dataclass, replace

import numpy as np

from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.bootstrap.intervals import Intervals
from services.attribution.domain.bootstrap.models import Resampled, TableIntervals
from services.attribution.domain.economics import cost_per, known, over_cost
from services.attribution.domain.journey_statistics import ChannelCounts, journeys_holding
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.paths.suppression import CellUnits, count_units
from services.attribution.domain.totals import ChannelTotals, ModelTotals

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ChannelSpans:
    """The intervals of what a channel gets, None where a figure has none or it has no end.

    Costs are taken as they were: those of credit per cost are the same percentiles.
    """

    conversions: Span
    value: Span
    share: Span
    cost_per_conversion: Span | None
    return_on_spend: Span | None
    removal_effect: Span | None
    conversions_std_err: float


@dataclass(frozen=True, slots=True)
class ReportedChannel:
    """What a channel gets, and how far that would move with other units."""

    totals: ChannelTotals
    spans: ChannelSpans | None


@dataclass(frozen=True, slots=True)
class ReportedTable:
    """A table of credits as it is told: the channels, those with few units, and its replicates."""

    table: ModelTotals
    channels: tuple[ReportedChannel, ...]
    suppressed: ReportedChannel | None
    resampled: Resampled | None


@dataclass(frozen=True, slots=True)
class HiddenChannels:
    """Which channels are not told of alone.

    `units` counts the units that met each channel (C,), and `hidden` (C,) says which are not told
    of. `together` is their row of counts, one entry each, and `units_together` who met any; where
    even these are too few, it is `withheld`.
    """

    min_units: int
    units: tuple[int, ...]
    hidden: Flags
    units_together: int
    together: ChannelCounts | None
    withheld: bool


def hide_channels(journeys: Journeys, counts: ChannelCounts, min_units: int) -> HiddenChannels:
    """Find the channels that fewer than `min_units` units met within a journey."""
    cells = _cells(journeys, min_units)
    hidden = cells.suppressed
    together = None
    if hidden.any() and not cells.withheld:
        together = _together(journeys, counts, hidden)
    return HiddenChannels(
        min_units,
        tuple(cells.units.tolist()),
        hidden,
        cells.suppressed_units,
        together,
        cells.withheld,
    )


def reported_tables(
    tables: tuple[ModelTotals, ...],
    resampled: Resampled | None,
    hidden: HiddenChannels,
    costs: Floats,
) -> tuple[ReportedTable, ...]:
    """Return the tables of one model with their intervals, and hidden channels added up."""
    intervals: tuple[TableIntervals | None, ...] = (None,) * len(tables)
    if resampled is not None and resampled.tables:
        intervals = resampled.tables
    return tuple(
        _reported(table, resampled, found, hidden, costs)
        for table, found in zip(tables, intervals, strict=True)
    )


def _reported(
    table: ModelTotals,
    resampled: Resampled | None,
    intervals: TableIntervals | None,
    hidden: HiddenChannels,
    costs: Floats,
) -> ReportedTable:
    rows = [
        ReportedChannel(channel, _spans(intervals, place, float(costs[place]), channel))
        for place, channel in enumerate(table.channels)
    ]
    suppressed = None
    if hidden.together is not None:
        cost = float(hidden.together.costs[0])
        own = [row.totals for row, few in zip(rows, hidden.hidden, strict=True) if few]
        merged = _merged(own, cost)
        suppressed = ReportedChannel(merged, _spans(intervals, len(rows), cost, merged))
    told = tuple(row for row, few in zip(rows, hidden.hidden, strict=True) if not few)
    return ReportedTable(table, told, suppressed, resampled)


def _spans(
    found: TableIntervals | None, place: int, cost: float, totals: ChannelTotals
) -> ChannelSpans | None:
    if found is None:
        return None
    low, high = conversions = _span(found.conversions, place)
    value = _span(found.values, place)
    known = totals.removal_effect is not None and found.effects is not None
    return ChannelSpans(
        conversions=conversions,
        value=value,
        share=_span(found.shares, place),
        cost_per_conversion=(cost / high, cost / low) if cost > 0 and low > 0 else None,
        return_on_spend=(value[0] / cost, value[1] / cost) if cost > 0 else None,
        removal_effect=_span(found.effects, place) if known and found.effects else None,
        conversions_std_err=float(found.conversions.std_err[place]),
    )


def _span(found: Intervals, place: int) -> Span:
    return float(found.ci_low[place]), float(found.ci_high[place])


def _merged(rows: list[ChannelTotals], cost: float) -> ChannelTotals:
    """The credits of several channels as those of one without a name."""
    conversions, value = (float(sum(each)) for each in zip(*_amounts(rows), strict=True))
    places = zip(*(row.positions for row in rows), strict=True)
    return replace(
        rows[0],
        channel="",
        conversions=conversions,
        value=value,
        share=_sum_of_shares(rows),
        cost_per_conversion=known(cost_per(cost, conversions)),
        return_on_spend=known(over_cost(value, cost)),
        removal_effect=None,
        positions=tuple(
            (sum(bought for bought, _ in place), sum(worth for _, worth in place))
            for place in places
        ),
        sampling_std_err=None,
    )


def _sum_of_shares(rows: list[ChannelTotals]) -> float | None:
    """Undefined where there are no conversions: then no row has one."""
    shares = [row.share for row in rows if row.share is not None]
    return float(sum(shares)) if shares else None


def _amounts(rows: list[ChannelTotals]) -> list[tuple[float, float]]:
    return [(row.conversions, row.value) for row in rows]


def _cells(journeys: Journeys, min_units: int) -> CellUnits:
    units = np.repeat(journeys.units, np.diff(journeys.offsets))
    return count_units(journeys.codes.astype(np.int64), units, len(journeys.channels), min_units)


def _together(journeys: Journeys, counts: ChannelCounts, hidden: Flags) -> ChannelCounts:
    """Count the hidden channels as one; a journey that holds several of them counts once."""
    codes = np.where(hidden[journeys.codes], 0, 1).astype(np.int32)
    cut = int(journeys.offsets[journeys.converting])
    return ChannelCounts(
        touches=counts.touches[hidden].sum(keepdims=True),
        costs=counts.costs[hidden].sum(keepdims=True),
        without_cost=counts.without_cost[hidden].sum(keepdims=True),
        journeys=journeys_holding(codes, journeys.offsets, 2)[:1],
        converting=journeys_holding(codes[:cut], journeys.converting_offsets, 2)[:1],
    )
