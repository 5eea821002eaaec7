"""Sums at the end of each day, from what changed on it."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import replace

import ibis
from ibis import ir

from services.results.adapters.lake.columns import Layout
from services.results.adapters.lake.engine import MICROSECONDS_PER_DAY, rows_of, stored
from services.results.adapters.lake.groups import added
from services.results.adapters.lake.parts import Nature, Part
from services.results.adapters.lake.sums import EXACT, Key, Row, Wanted, by_key, cell_of, sums_by
from services.results.adapters.lake.values import Reading, number_of
from services.results.domain.daily import Day
from services.results.domain.exact import Sums
from services.results.domain.measure import Aggregation, Measure, MetricKind
from services.results.domain.observation import Question

EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_KINDS = frozenset((MetricKind.PROPORTION, MetricKind.MEAN, MetricKind.RATIO))
_ADDITIVE = frozenset((Aggregation.SUM, Aggregation.COUNT, Aggregation.DISTINCT_DAYS))


def adds_up(measure: Measure) -> bool:
    """Whether the number of a unit follows from that of the day before and the day's events."""
    sources = [measure.source, *measure.covariates]
    if measure.denominator is not None:
        sources.append(measure.denominator)
    return (
        measure.kind in _KINDS
        and not measure.complete_only
        and (measure.cap is None or measure.cap.percentile is None)
        and all(source.aggregation in _ADDITIVE for source in sources)
    )


def additive(question: Question) -> Question:
    """The question with those measures alone."""
    return replace(question, measures=tuple(filter(adds_up, question.measures)))


def unit_days(joined: ir.Table, reading: Reading) -> ir.Table:
    """One row a unit and day on which its numbers may have changed: unit_key, first_us, arm, day,
    next_day (of its next row, null for the last), and the numbers x_0, x_1, ... as they stood at
    the end of the day. What was before the exposure counts from the day of the exposure on.
    """
    day = ibis.greatest(joined.us, joined.first_us) // MICROSECONDS_PER_DAY
    dated = joined.mutate(day=day)
    gains = {f"x_{n}": number_of(dated, part, reading) for n, part in enumerate(reading.parts)}
    changes = stored(
        "changes", dated.group_by("unit_key", "first_us", "arm", "day").aggregate(**gains)
    )
    of_unit = ibis.window(group_by="unit_key", order_by="day")
    so_far = ibis.cumulative_window(group_by="unit_key", order_by="day")
    numbers = {
        f"x_{n}": _so_far(changes[f"x_{n}"], part, so_far) for n, part in enumerate(reading.parts)
    }
    return changes.select(
        "unit_key", "first_us", "arm", "day", next_day=changes.day.lead().over(of_unit), **numbers
    )


def _so_far(
    gain: ir.NumericColumn, part: Part, window: ibis.expr.builders.WindowBuilder
) -> ir.Column:
    if part.nature is Nature.FLAG:
        return gain.max().over(window)
    # The window may add in any order, so it adds whole numbers.
    return gain.cast(EXACT).sum().over(window).cast("float64")


def new_units(units: ir.Table) -> dict[Key, Row]:
    """How many units were exposed first on each day, by day and arm."""
    counted = units.filter(units.arm.notnull())
    dated = counted.mutate(day=counted.first_us // MICROSECONDS_PER_DAY)
    rows = rows_of(dated.group_by("day", "arm").aggregate(units=dated.count()))
    return by_key(rows, ("day", "arm"))


def changes_of(rows: ir.Table, wanted: Wanted) -> dict[Key, Row]:
    """By how much the sums changed on each day, by day and arm."""
    come = sums_by(rows, ("day", "arm"), wanted)
    replaced = sums_by(rows.filter(rows.next_day.notnull()), ("next_day", "arm"), wanted)
    gone = [
        (key, {name: -(value or 0) for name, value in row.items()}) for key, row in replaced.items()
    ]
    return added([*come.items(), *gone])


def days_of(
    exposed: Mapping[Key, Row],
    changes: Mapping[Key, Row],
    question: Question,
    layouts: tuple[Layout, ...],
) -> Iterator[Day]:
    """Every day, from the first exposure on; `layouts` are those of the measures that add up."""
    days = sorted({day for day, _ in (*exposed, *changes)})
    arms = range(len(question.plan.arms))
    so_far: dict[Key, Row] = {}
    for day in range(days[0], days[-1] + 1) if days else ():
        today = [
            ((arm,), table[day, arm])
            for table in (exposed, changes)
            for arm in arms
            if (day, arm) in table
        ]
        so_far = added([*so_far.items(), *today])
        units = tuple(int(so_far.get((arm,), {}).get("units", 0)) for arm in arms)
        yield Day(_date(day), units, tuple(_sums(so_far, units, question, layouts)))


def _sums(
    so_far: Mapping[Key, Row],
    units: tuple[int, ...],
    question: Question,
    layouts: tuple[Layout, ...],
) -> Iterator[Sums | None]:
    m = 0
    for measure in question.measures:
        if not adds_up(measure):
            yield None
            continue
        layout = layouts[m]
        cells = tuple(
            cell_of(_with_sums(so_far.get((arm,))), m, measure, layout, count)
            for arm, count in enumerate(units)
        )
        yield Sums(tuple(column.scale.final for column in layout.columns), (cells,))
        m += 1


def _with_sums(row: Row | None) -> Row | None:
    """The row, unless there were no events yet."""
    return row if row is not None and any(name.startswith("sum_") for name in row) else None


def _date(day: int) -> dt.date:
    return dt.date.fromordinal(EPOCH_DAY + day)
