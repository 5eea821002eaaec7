"""The journeys of the units of a test, from their first exposure on, and their credit."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.attribution.application.calibration_links import SwitchedGroup
from services.attribution.application.calibration_ports import (
    ExposedUnits,
    ExposureQuery,
    Exposures,
    MeasuredEvents,
)
from services.attribution.application.get_attribution import attribution_of
from services.attribution.application.questions import CutJourneys, Question, cut_journeys
from services.attribution.application.stream_credits import touch_weights
from services.attribution.domain.arrays import Flags, Floats, Integers
from services.attribution.domain.credits import credits_by_channel
from services.attribution.domain.events import Conversions, Facets, MilestoneEvents, Touches
from services.attribution.domain.journeys import BEGINNING_OF_TIME_US, Journeys
from services.attribution.domain.lift import Cell, CreditError, credit_error
from services.attribution.domain.models import Linear, Output, divides_conversions
from services.attribution.domain.totals import ModelTotals
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents, JourneyLog

Reading = Callable[[EventQuery], JourneyEvents]
_Asked = tuple[tuple[SwitchedGroup, ...], tuple[SwitchedGroup, ...], MeasuredEvents]


Credit = Mapping[str, tuple[float, float]]
"""Conversions and their value by channel."""

Channels = frozenset[str]
Groups = tuple[frozenset[SwitchedGroup], frozenset[SwitchedGroup]]
"""Where a channel was on, and where it was off."""


@dataclass(frozen=True, slots=True)
class GroupCredit:
    """What a result credits for the conversions of the units of a group.

    `errors` are those of the credit of some channels together, of conversions and of values: the
    variance of the sum over the units, as a sample of more, and its covariance with the sum of what
    they converted.
    """

    by_channel: Credit
    errors: Mapping[Channels, tuple[CreditError, CreditError]]


@dataclass(frozen=True, slots=True)
class Credited:
    """What results credit where the channel of a test was on, and where it was off.

    In the order of the results; none where a group has no unit. `repeated`: some unit converted
    more than once. `currencies` are those of the journeys.
    """

    on: tuple[GroupCredit, ...]
    off: tuple[GroupCredit, ...]
    units_on: int
    units_off: int
    cell: Cell | None = None
    repeated: bool = False
    currencies: tuple[str, ...] = ()


class CreditedCells:
    """The credit of tested units by the rules of a report, all out of one reading of the log.

    `question` is that of the report, at the cut of the tests. Only its own time does not count:
    credited are the conversions that the metric counts, so that the same are set against each
    other. A conversion from before the exposure explains touches, and is not credited. Models
    learn from everybody since the first exposure, as they do in a report. `together` are the
    channels whose credit is added up, by the groups that switched them.
    """

    def __init__(
        self,
        question: Question,
        log: JourneyLog,
        limits: AttributionLimits,
        exposures: Exposures,
        variants: tuple[SwitchedGroup, ...],
        together: Mapping[Groups, Collection[Channels]],
    ) -> None:
        definition = question.definition
        self._question = replace(question, definition=replace(definition, start_us=0, end_us=None))
        self._log, self._limits, self._variants = log, limits, variants
        self._together = together
        self._exposed: ExposedUnits = exposures.read(
            ExposureQuery(
                question.project,
                definition.unit_type,
                definition.stitching,
                question.as_of,
                variants,
            )
        )
        self._read: JourneyEvents | None = None
        self._done: dict[_Asked, Credited] = {}

    @property
    def identity_version(self) -> str:
        """The policy and the links between ids that journeys used; empty where none was read."""
        return "" if self._read is None else self._read.identity_version

    def credited(
        self,
        on: tuple[SwitchedGroup, ...],
        off: tuple[SwitchedGroup, ...],
        measured: MeasuredEvents,
    ) -> Credited:
        """Credit the conversions that the metric counts, of both groups apart."""
        # Conversions and their values are credited at once.
        counted = replace(measured, by_value=False, capped=False, currency="")
        asked = (on, off, counted)
        if asked not in self._done:
            self._done[asked] = self._credited(on, off, counted)
        return self._done[asked]

    def _credited(
        self,
        on: tuple[SwitchedGroup, ...],
        off: tuple[SwitchedGroup, ...],
        measured: MeasuredEvents,
    ) -> Credited:
        places = (self._places(on), self._places(off))
        units_on, units_off = (self._units(group, measured) for group in places)
        if not units_on or not units_off:
            return Credited((), (), units_on, units_off)
        log = _TestedLog(self._reading, self._exposed, places, measured)
        cut = cut_journeys(self._question, log, self._limits, identified=False)
        tables = attribution_of(cut, self._question.models).tables
        groups = [
            Group(inside, units, log.counts, log.values)
            for inside, units in zip(log.groups, (units_on, units_off), strict=True)
        ]
        together = sorted(self._together.get((frozenset(on), frozenset(off)), ()), key=sorted)
        sides = [
            tuple(group_credit(table, cut, group, together) for table in tables) for group in groups
        ]
        cell = self._cell(sum(places, ()), units_on, log)
        currencies = cut.events.currencies
        return Credited(sides[0], sides[1], units_on, units_off, cell, log.repeated, currencies)

    def _places(self, variants: tuple[SwitchedGroup, ...]) -> tuple[int, ...]:
        return tuple(self._variants.index(variant) for variant in variants)

    def _units(self, places: tuple[int, ...], measured: MeasuredEvents) -> int:
        spans = self._exposed.spans(_latest(self._exposed, measured))
        return sum(spans[place].units for place in places)

    def _reading(self, query: EventQuery) -> JourneyEvents:
        """All events of the journeys: the query's times are counted from exposures on."""
        if self._read is None:
            start_us = self._exposed.start_us
            wide = replace(query, from_us=(start_us or 0) + (query.from_us or 0), until_us=None)
            self._read = self._log.read(wide)
        return self._read

    def _cell(self, places: tuple[int, ...], units: int, log: "_TestedLog") -> Cell:
        """From the first exposure to the last conversion that counts, or the last exposure."""
        spans = [self._exposed.spans(None)[place] for place in places]
        start_us = min(span.first_us for span in spans if span.units)
        end_us = max(span.last_us for span in spans)
        return Cell(start_us, max(end_us, log.last_us) + 1, units)


@dataclass(frozen=True, slots=True)
class Group:
    """The units of a group: flags by unit, how many there are (without events, too), and what each
    unit converted, by number and by value.
    """

    inside: Flags
    units: int
    counts: Floats
    values: Floats


def group_credit(
    table: ModelTotals, cut: CutJourneys, group: Group, together: Sequence[Channels]
) -> GroupCredit:
    """What a result credits for the conversions of the units of a group.

    That of a result that divides totals alone falls on conversions as far as their channel is
    credited for them by the model's own paths, or else by equal parts. The error is that of the
    units; what a model learned is taken as it is.
    """
    journeys = cut.journeys
    divides = divides_conversions(table.model)
    weights = touch_weights(table.model if divides else Linear(), cut)
    of_unit = group.inside[journeys.units[: journeys.converting]]
    kept = np.repeat(of_unit, np.diff(journeys.converting_offsets))
    own = credits_by_channel(weights * kept, journeys)
    scales = np.ones((2, len(journeys.channels)))
    if not divides or table.output is Output.MARKOV_REMOVAL_SHARE:
        whole = credits_by_channel(weights, journeys)
        totals = {each.channel: (each.conversions, each.value) for each in table.channels}
        given = np.array([totals[channel] for channel in journeys.channels]).reshape(-1, 2).T
        sums = np.stack([whole.conversions, whole.values])
        scales = np.divide(given, sums, out=np.zeros_like(given), where=sums > 0)
    columns = np.stack([own.conversions, own.values]) * scales
    rows = zip(*(column.tolist() for column in columns), strict=True)
    spread = _UnitCredit(journeys, weights * kept, scales, group)
    return GroupCredit(
        dict(zip(journeys.channels, rows, strict=True)),
        {channels: spread.errors(channels) for channels in together},
    )


@dataclass(frozen=True, slots=True)
class _UnitCredit:
    """Credit by touch of the units of a group, and by how much a result scales it."""

    journeys: Journeys
    weights: Floats
    scales: Floats
    group: Group

    def errors(self, channels: Channels) -> tuple[CreditError, CreditError]:
        """Of conversions and of values."""
        journeys, group = self.journeys, self.group
        named = np.array([channel in channels for channel in journeys.channels], dtype=np.bool_)
        codes = journeys.converting_codes
        touches = np.flatnonzero(named[codes] & (self.weights > 0))
        lengths = np.diff(journeys.converting_offsets)
        of = np.repeat(np.arange(journeys.converting), lengths)[touches]
        units = journeys.units[of]
        amounts = (self.weights[touches], self.weights[touches] * journeys.values[of])
        outcomes = (group.counts, group.values)
        count, value = (
            credit_error(
                _summed(units, scale[codes[touches]] * amount, len(outcome)),
                np.where(group.inside, outcome, 0.0),
                group.units,
            )
            for amount, scale, outcome in zip(amounts, self.scales, outcomes, strict=True)
        )
        return count, value


def _summed(units: Integers, amounts: Floats, count: int) -> Floats:
    """The sum of the amounts of each unit."""
    sums: Floats = np.bincount(units, amounts, count).astype(np.float64)
    return sums


class _TestedLog:
    """JourneyLog of everybody, where the time of tested units begins at their first exposure.

    That of the others begins at the first exposure of all.
    """

    def __init__(
        self,
        reading: Reading,
        exposed: ExposedUnits,
        places: tuple[tuple[int, ...], ...],
        measured: MeasuredEvents,
    ) -> None:
        self._reading, self._exposed, self._places = reading, exposed, places
        self._measured = measured
        self.groups: list[Flags] = []
        self.counts: Floats = np.zeros(0)
        self.values: Floats = np.zeros(0)
        self.repeated = False
        self.last_us = BEGINNING_OF_TIME_US

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See JourneyLog. What is read here was read before."""

    def read(self, query: EventQuery) -> JourneyEvents:
        """See JourneyLog."""
        events = self._reading(query)
        clock = self._clock(events)
        conversions = _converted(events.conversions, clock)
        tested = clock.inside[conversions.units]
        counted = tested & (conversions.times >= 0)
        times = conversions.times + clock.start_us[conversions.units]
        self.last_us = int(times[counted].max(initial=BEGINNING_OF_TIME_US))
        again = tested & _again(conversions)
        self.repeated = bool(again.any())
        if self._measured.once:
            conversions, counted = _conversion_rows(conversions, ~again), counted[~again]
        units, everybody = conversions.units[counted], len(clock.inside)
        self.counts = _summed(units, np.ones(len(units)), everybody)
        self.values = _summed(units, conversions.values[counted], everybody)
        return replace(
            events,
            touches=_touched(events.touches, clock),
            conversions=conversions,
            milestones=_passed(events.milestones, clock),
        )

    def _clock(self, events: JourneyEvents) -> "_Clock":
        rows = (events.touches.units, events.conversions.units)
        count = 1 + max(int(units.max(initial=-1)) for units in rows)
        latest_us = _latest(self._exposed, self._measured)
        start_us = np.full(count, self._exposed.start_us or 0, dtype=np.int64)
        self.groups = []
        for places in self._places:
            placed = self._exposed.placed(events.units, count, places)
            inside = placed.inside
            if latest_us is not None:
                inside = inside & (placed.first_us <= latest_us)
            start_us[inside] = placed.first_us[inside] + self._measured.delay_us
            self.groups.append(inside)
        window_us, delay_us = self._measured.window_us, self._measured.delay_us
        end_us = None if window_us is None else window_us - delay_us
        return _Clock(np.logical_or.reduce(self.groups), start_us, end_us)


def _latest(exposed: ExposedUnits, measured: MeasuredEvents) -> int | None:
    """Before when a unit had to be exposed to count; None where all do."""
    if not measured.complete_only or measured.window_us is None:
        return None
    return exposed.data_us - measured.window_us


@dataclass(frozen=True, slots=True)
class _Clock:
    """Time from the start of each unit on; of those inside up to and including `end_us`."""

    inside: Flags
    start_us: Integers
    end_us: int | None

    def of(self, units: Integers, times: Integers) -> tuple[Integers, Integers]:
        """The rows that are kept, and their times."""
        since = times - self.start_us[units]
        kept = np.ones(len(units), dtype=np.bool_)
        if self.end_us is not None:
            kept = ~self.inside[units] | (since <= self.end_us)
        rows = np.flatnonzero(kept)
        return rows, since[rows]


def _touched(touches: Touches, clock: _Clock) -> Touches:
    rows, times = clock.of(touches.units, touches.times)
    used, codes = np.unique(touches.codes[rows], return_inverse=True)
    facets = touches.facets
    if facets is not None:
        facets = Facets(
            facets.channels,
            facets.channel_codes[rows],
            facets.interactions,
            facets.interaction_codes[rows],
        )
    return Touches(
        channels=tuple(touches.channels[code] for code in used.tolist()),
        units=touches.units[rows],
        times=times,
        codes=codes.astype(np.int32).reshape(-1),
        costs=touches.costs[rows],
        facets=facets,
        matches=None if touches.matches is None else touches.matches[rows],
    )


def _converted(conversions: Conversions, clock: _Clock) -> Conversions:
    rows, times = clock.of(conversions.units, conversions.times)
    return replace(_conversion_rows(conversions, rows), times=times)


def _conversion_rows(conversions: Conversions, rows: Integers | Flags) -> Conversions:
    matches = conversions.matches
    return Conversions(
        units=conversions.units[rows],
        times=conversions.times[rows],
        values=conversions.values[rows],
        matches=None if matches is None else matches[rows],
    )


def _again(conversions: Conversions) -> Flags:
    """Whether a conversion that counts follows another one of its unit that does."""
    counted = np.flatnonzero(conversions.times >= 0)
    units = conversions.units[counted]
    again: Flags = np.zeros(len(conversions), dtype=np.bool_)
    again[counted[1:]] = units[1:] == units[:-1]
    return again


def _passed(milestones: MilestoneEvents, clock: _Clock) -> MilestoneEvents:
    rows, times = clock.of(milestones.units, milestones.times)
    return MilestoneEvents(milestones.names, milestones.units[rows], times, milestones.codes[rows])
