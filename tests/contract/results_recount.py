"""What results say of events, computed again one unit and one event at a time.

Nothing here is shared with the query but the specification of measures: numbers are exact
fractions, times are datetimes, and every unit is looked at alone.
"""

import datetime as dt
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from services.results.domain.measure import (
    Aggregation,
    Column,
    ColumnRole,
    Measure,
    MetricKind,
    Source,
)
from shared.filters.filter import AllOf, AnyOf, Comparison, Filter, Negated, Operator

Row = Mapping[str, Any]
DAY = dt.timedelta(days=1)
TICK = dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that counts, with what it was at its first exposure."""

    name: str
    arm: str
    first: dt.datetime
    at_first: Row


def units_of(exposures: Iterable[Row], arms: str, first_wins: bool = False) -> list[Unit]:
    """Units in arms; one that saw several variants is left out or is of its first."""
    seen: dict[str, list[Row]] = {}
    for row in exposures:
        if row["variant"] in arms:
            seen.setdefault(row["unit_id"], []).append(row)
    found = []
    for name, rows in seen.items():
        first = min(rows, key=lambda row: (row["event_time"], row["variant"]))
        if first_wins or len({row["variant"] for row in rows}) == 1:
            found.append(Unit(name, first["variant"], first["event_time"], first))
    return found


def fulfils(row: Row, condition: Filter | None) -> bool:
    """Whether an event fulfils a filter."""
    match condition:
        case None:
            return True
        case Comparison():
            return _compares(row, condition)
        case Negated(part):
            return not fulfils(row, part)
        case AllOf(parts):
            return all(fulfils(row, part) for part in parts)
        case AnyOf(parts):
            return any(fulfils(row, part) for part in parts)


def _compares(row: Row, comparison: Comparison) -> bool:
    field = comparison.field
    if field.startswith("properties."):
        value = json.loads(row.get("properties") or "{}").get(field.removeprefix("properties."))
    else:
        value = row.get(field)
    if comparison.operator is Operator.IS_SET:
        return value is not None
    return any(_one(comparison.operator, value, constant) for constant in comparison.values)


def _one(operator: Operator, value: Any, constant: Any) -> bool:
    if isinstance(constant, bool) or isinstance(value, bool):
        same = isinstance(constant, bool) and isinstance(value, bool)
    elif isinstance(constant, str):
        same = isinstance(value, str)
    else:
        same = isinstance(value, int | float)
    if not same:
        return False
    answer = {
        Operator.EQUAL: lambda: value == constant,
        Operator.IN: lambda: value == constant,
        Operator.LESS: lambda: value < constant,
        Operator.LESS_OR_EQUAL: lambda: value <= constant,
        Operator.GREATER: lambda: value > constant,
        Operator.GREATER_OR_EQUAL: lambda: value >= constant,
        Operator.CONTAINS: lambda: constant in value,
        Operator.STARTS_WITH: lambda: value.startswith(constant),
        Operator.ENDS_WITH: lambda: value.endswith(constant),
        Operator.MATCHES: lambda: re.search(constant, value) is not None,
    }[operator]()
    return bool(answer)


def _of_source(unit: Unit, events: Sequence[Row], source: Source) -> list[Row]:
    return [
        row
        for row in events
        if row["unit_id"] == unit.name
        and row["event_name"] == source.event_name
        and fulfils(row, source.filter)
    ]


def _aggregate(rows: Sequence[Row], source: Source) -> Fraction:
    if source.aggregation is Aggregation.COUNT:
        return Fraction(len(rows))
    if source.aggregation is Aggregation.DISTINCT_DAYS:
        return Fraction(len({row["event_time"].date() for row in rows}))
    valued = [
        (row["event_time"], Fraction(row["value"]))
        for row in rows
        if row.get("value") is not None and source.currency in ("", row.get("currency"))
    ]
    if not valued:
        return Fraction(0)
    values = [value for _, value in valued]
    return {
        Aggregation.SUM: lambda: sum(values, Fraction(0)),
        Aggregation.MEAN: lambda: sum(values, Fraction(0)) / len(values),
        Aggregation.MIN: lambda: min(values),
        Aggregation.MAX: lambda: max(values),
        Aggregation.FIRST: lambda: min(valued)[1],
        Aggregation.LAST: lambda: max(valued)[1],
    }[source.aggregation]()


def _in_window(unit: Unit, rows: Sequence[Row], measure: Measure) -> list[Row]:
    low, high = unit.first + measure.delay, None
    if measure.retention is not None:
        low = unit.first + measure.retention.first_day * DAY
        high = unit.first + (measure.retention.last_day + 1) * DAY - TICK
    elif measure.window is not None:
        high = unit.first + measure.window
    return [
        row
        for row in rows
        if low <= row["event_time"] and (high is None or row["event_time"] <= high)
    ]


def _depth(unit: Unit, events: Sequence[Row], measure: Measure) -> int:
    after, depth = unit.first, 0
    for source in measure.steps:
        rows = _in_window(unit, _of_source(unit, events, source), measure)
        times = [row["event_time"] for row in rows if row["event_time"] >= after]
        if not times:
            break
        after, depth = min(times), depth + 1
    return depth


def old_enough(unit: Unit, measure: Measure, data_time: dt.datetime) -> bool:
    """Whether all is known of a unit."""
    if measure.retention is not None:
        return unit.first + (measure.retention.last_day + 1) * DAY <= data_time
    return measure.window is None or unit.first + measure.window <= data_time


def number(unit: Unit, events: Sequence[Row], measure: Measure, column: Column) -> Fraction:
    """A column of a unit, before any cap."""
    role = column.role
    if role is ColumnRole.ELIGIBLE:
        return Fraction(1)
    if role is ColumnRole.STEP:
        return Fraction(_depth(unit, events, measure) > column.index)
    if role in (ColumnRole.DENOMINATOR, ColumnRole.CAPPED_DENOMINATOR):
        assert measure.denominator is not None
        rows = _of_source(unit, events, measure.denominator)
        return _aggregate(_in_window(unit, rows, measure), measure.denominator)
    if role is ColumnRole.COVARIATE:
        return _before(unit, events, measure, column.index)
    rows = _in_window(unit, _of_source(unit, events, measure.source), measure)
    if measure.kind in (MetricKind.PROPORTION, MetricKind.RETENTION):
        return Fraction(bool(rows))
    if measure.kind is MetricKind.TIME_TO_EVENT:
        assert measure.window is not None
        waits = [row["event_time"] - unit.first for row in rows] + [measure.window]
        return Fraction(min(waits) // TICK, 10**6)
    return _aggregate(rows, measure.source)


def _before(unit: Unit, events: Sequence[Row], measure: Measure, index: int) -> Fraction:
    assert measure.lookback is not None
    sources = [measure.steps[0] if measure.steps else measure.source, measure.denominator]
    source = (*sources, *measure.covariates)[index]
    assert source is not None
    low = unit.first - measure.lookback
    rows = [r for r in _of_source(unit, events, source) if low <= r["event_time"] < unit.first]
    whether = measure.kind in (
        MetricKind.PROPORTION,
        MetricKind.FUNNEL,
        MetricKind.RETENTION,
        MetricKind.TIME_TO_EVENT,
    )
    return Fraction(bool(rows)) if whether and index == 0 else _aggregate(rows, source)


def table_of(
    units: Sequence[Unit], events: Sequence[Row], measure: Measure, data_time: dt.datetime
) -> dict[str, list[Fraction]]:
    """The columns of every unit that counts; caps are over all of these units."""
    counted = [u for u in units if not measure.needs_age or old_enough(u, measure, data_time)]
    rows = {u.name: [number(u, events, measure, c) for c in measure.columns] for u in counted}
    for at, column in enumerate(measure.columns):
        if column.role in (ColumnRole.CAPPED_VALUE, ColumnRole.CAPPED_DENOMINATOR):
            cap = _cap([row[at] for row in rows.values()], measure)
            for row in rows.values():
                row[at] = min(row[at], cap)
    return rows


def _cap(values: Sequence[Fraction], measure: Measure) -> Fraction:
    assert measure.cap is not None
    if measure.cap.absolute is not None:
        return Fraction(measure.cap.absolute)
    assert measure.cap.percentile is not None
    ordered = sorted(v for v in values if v or not measure.cap.ignore_zeros)
    if not ordered:
        return Fraction(0)
    return ordered[max(math.ceil(measure.cap.percentile * len(ordered)), 1) - 1]


def moments_of(rows: Sequence[Sequence[Fraction]], columns: int) -> tuple[int, Any, Any]:
    """Count, means and centred co-moments, rounded once."""
    n = len(rows)
    if not n:
        return 0, np.zeros(columns), np.zeros((columns, columns))
    means = [sum((row[c] for row in rows), Fraction(0)) / n for c in range(columns)]
    spread = [
        [
            float(sum(((row[i] - means[i]) * (row[j] - means[j]) for row in rows), Fraction(0)))
            for j in range(columns)
        ]
        for i in range(columns)
    ]
    return n, np.array([float(mean) for mean in means]), np.array(spread)


def event_values(unit: Unit, events: Sequence[Row], measure: Measure) -> list[float]:
    """The values of the events that a quantile of events is over."""
    rows = _in_window(unit, _of_source(unit, events, measure.source), measure)
    currency = measure.currency
    return [
        row["value"]
        for row in rows
        if row.get("value") is not None and currency in ("", row.get("currency"))
    ]
