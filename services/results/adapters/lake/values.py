"""One row a unit that has events: its numbers, each out of the events of one span."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_

import ibis
from ibis import ir

from services.results.adapters.lake.engine import MICROSECONDS_PER_DAY, stored
from services.results.adapters.lake.events import Catalogue, values_of
from services.results.adapters.lake.parts import SECONDS_EXPONENT, Nature, Part, Span
from services.results.domain.measure import Aggregation, Source

SECOND_STEPS = math.ldexp(1e-6, -SECONDS_EXPONENT)
"""How many steps of time a microsecond has."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How events become numbers: the parts, where their events are found, and the exponent of the
    step in which the values of each source are counted.
    """

    parts: tuple[Part, ...]
    catalogue: Catalogue
    exponents: Mapping[Source, int]

    def exponent(self, source: Source) -> int:
        """That of the step in which the values of a source are counted."""
        return self.exponents.get(values_of(source), 0)

    def scale(self, source: Source) -> float:
        """Steps of one unit of value."""
        return math.ldexp(1.0, -self.exponent(source))


def joined_events(narrow: ir.Table, units: ir.Table, reading: Reading) -> ir.Table:
    """The events of units that are in an arm, from the earliest time that any part asks about:
    the columns of both, and `since`, the microseconds since the first exposure.
    """
    counted = units.filter(units.arm.notnull())
    joined = narrow.join(counted, "unit_key")
    joined = joined.mutate(since=joined.us - joined.first_us)
    earliest = min(part.span.low for part in reading.parts)
    return joined.filter(joined.since >= earliest)


def unit_values(joined: ir.Table, keys: tuple[str, ...], reading: Reading) -> ir.Table:
    """One row a unit with events: unit_key, first_us, arm, the further keys, and x_0, x_1, ... for
    the parts, in the steps of their events. A unit without events has no row and is 0 everywhere.
    """
    deep = [(n, part) for n, part in enumerate(reading.parts) if part.nature is Nature.DEPTH]
    numbers = {
        f"x_{n}": number_of(joined, part, reading)
        for n, part in enumerate(reading.parts)
        if part.nature is not Nature.DEPTH
    }
    values = joined.group_by("unit_key", "first_us", "arm", *keys).aggregate(**numbers)
    for n, part in deep:
        depth = _depth(joined, part, reading.catalogue).rename({"deep_unit": "unit_key"})
        found = values.left_join(depth, values.unit_key == depth.deep_unit)
        values = found.mutate(**{f"x_{n}": found.depth.fill_null(0)}).drop("deep_unit", "depth")
    return values


def number_of(joined: ir.Table, part: Part, reading: Reading) -> ir.Column:
    """The number that a part is, of a group of joined events; not of a funnel."""
    counts = reading.catalogue.is_of(joined, part.source) & within(joined, part.span)
    if part.nature is Nature.FLAG:
        return counts.any().cast("int8")
    if part.nature is Nature.SAVED:
        assert part.span.high is not None
        sooner = joined.since.min(where=counts) * SECOND_STEPS
        end = round(part.span.high * SECOND_STEPS)
        return (sooner.round() - end).cast("float64").fill_null(0.0)
    if part.source.aggregation is Aggregation.COUNT:
        return counts.sum().cast("float64")
    if part.source.aggregation is Aggregation.DISTINCT_DAYS:
        return (joined.us // MICROSECONDS_PER_DAY).nunique(where=counts).cast("float64")
    return _amount(joined, part.source, counts, reading)


def _amount(
    joined: ir.Table, source: Source, counts: ir.BooleanValue, reading: Reading
) -> ir.Column:
    """An aggregate of the values of events that have one; 0 without any."""
    valued = counts & reading.catalogue.has_value(joined, source)
    # Other events have other steps: their values may not fit these.
    whole = valued.ifelse(joined.value * reading.scale(source), None).round()
    # The exact sum is rounded once, by the cast: adding in another order changes nothing.
    total = whole.cast("int64").sum().cast("float64")
    found = {
        Aggregation.SUM: lambda: total,
        Aggregation.MEAN: lambda: total / valued.sum().nullif(0),
        Aggregation.MIN: whole.min,
        Aggregation.MAX: whole.max,
        # Of events at one instant the smallest comes first, so that the answer is one.
        Aggregation.FIRST: lambda: _in_time(joined, whole).min(where=valued)["value"],
        Aggregation.LAST: lambda: _in_time(joined, whole).max(where=valued)["value"],
    }[source.aggregation]()
    return found.fill_null(0.0)


def _in_time(joined: ir.Table, whole: ir.NumericColumn) -> ir.StructColumn:
    return ibis.struct({"us": joined.us, "value": whole})


def within(joined: ir.Table, span: Span) -> ir.BooleanValue:
    """Whether an event is in a span since the first exposure of its unit."""
    conditions = [joined.since >= span.low]
    if span.high is not None:
        conditions.append(joined.since <= span.high)
    return reduce(and_, conditions)


def _depth(joined: ir.Table, part: Part, catalogue: Catalogue) -> ir.Table:
    """How many steps each unit took, each at the earliest time not before the one before.

    To take each step as early as it can be leaves the most time for the rest, so no other choice
    of events gets further.
    """
    inside = joined.filter(within(joined, part.span))
    reached: list[ir.Table] = []
    for source in part.steps:
        events = inside.filter(catalogue.is_of(inside, source)).select("unit_key", "since")
        if reached:
            before = reached[-1].rename({"at_before": "since"})
            both = events.join(before, "unit_key")
            events = both.filter(both.since >= both.at_before)
        first = events.group_by("unit_key").aggregate(since=events.since.min())
        reached.append(stored("reached", first))
    steps = ibis.union(
        *(table.select("unit_key", depth=ibis.literal(n + 1)) for n, table in enumerate(reached))
    )
    return steps.group_by("unit_key").aggregate(depth=steps.depth.max().cast("float64"))
