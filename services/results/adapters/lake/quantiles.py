"""Quantiles of units, and of the events of units, from the values at a few ranks."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
from ibis import ir
from touchstone_statistics.quantile import ranks

from services.results.adapters.lake.engine import rows_of
from services.results.adapters.lake.groups import Grouped, counted
from services.results.adapters.lake.parts import Nature, Span, microseconds, needed_age, part_of
from services.results.adapters.lake.slices import Sliced
from services.results.adapters.lake.sums import EXACT, Key, Row, by_key
from services.results.adapters.lake.values import Reading, within
from services.results.domain.exact import Cell
from services.results.domain.measure import Column, ColumnRole, Measure
from services.results.domain.observation import Question
from services.results.domain.ordered import Ordered, Ranked

NOTHING = Ordered()


@dataclass(frozen=True, slots=True)
class Sample:
    """What values are taken from: rows of units and their events, and how they are read."""

    values: ir.Table
    joined: ir.Table
    sliced: Sliced
    grouped: Grouped
    reading: Reading
    data_us: int


def reads_events_again(question: Question) -> bool:
    """Whether a quantile is over events, which have to be kept for it."""
    return any(measure.quantile is not None and measure.of_events for measure in question.measures)


def ranked(question: Question, sample: Sample) -> tuple[Ranked | None, ...]:
    """The quantile of each measure that asks for one."""
    return tuple(
        None if measure.quantile is None else _ranked(question, measure, sample)
        for measure in question.measures
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """The slices of a dimension, or everybody: the keys, the slots, and who counts by them."""

    keys: tuple[str, ...]
    slots: tuple[Key, ...]
    counts: Mapping[Key, Row]


def _groups(sample: Sample) -> Iterator[_Group]:
    yield _Group(("arm",), ((),), sample.grouped.everybody(of_sums=False))
    for n, values in enumerate(sample.sliced.values):
        slots = tuple((value.slot,) for value in values)
        yield _Group((f"slot_{n}", "arm"), slots, sample.grouped.counts[n])


def _ranked(question: Question, measure: Measure, sample: Sample) -> Ranked:
    arms = range(len(question.plan.arms))
    cells, clusters = [], []
    for group in _groups(sample):
        rows = _rows(measure, sample)
        found = _at_ranks(rows, group, measure)
        cells += [tuple(found.get((*slot, arm), NOTHING) for arm in arms) for slot in group.slots]
        if measure.of_events:
            within_units = _clusters(rows, group, found, measure)
            for slot in group.slots:
                nothing = [_no_events(group.counts.get((*slot, arm)), measure) for arm in arms]
                row = [within_units.get((*slot, arm), nothing[arm]) for arm in arms]
                clusters.append(tuple(row))
    scale = math.ldexp(1.0, _exponent(measure, sample.reading))
    in_values = tuple(tuple(_times(cell, scale) for cell in row) for row in cells)
    return Ranked(in_values, tuple(clusters) if measure.of_events else None)


def _rows(measure: Measure, sample: Sample) -> ir.Table:
    """The values that are ranked, as column `x`, of the units that count."""
    if measure.of_events:
        rows, catalogue = sample.joined, sample.reading.catalogue
        high = None if measure.window is None else microseconds(measure.window)
        span = Span(microseconds(measure.delay), high)
        rows = rows.filter(
            catalogue.is_of(rows, measure.source)
            & catalogue.has_value(rows, measure.source)
            & within(rows, span)
        )
        rows = rows.mutate(x=(rows.value * sample.reading.scale(measure.source)).round())
    else:
        part = part_of(measure, Column(ColumnRole.VALUE))
        assert part is not None
        rows = sample.values
        # Units without a row are 0: those are known by their number alone.
        rows = rows.mutate(x=rows[f"x_{sample.reading.parts.index(part)}"].cast("float64"))
        rows = rows.filter(rows.x != 0)
    age = needed_age(measure) if measure.needs_age else None
    return rows if age is None else rows.filter(rows.first_us <= sample.data_us - age)


def _at_ranks(rows: ir.Table, group: _Group, measure: Measure) -> dict[Key, Ordered]:
    keys = list(group.keys)
    signs = rows.group_by(keys).aggregate(rows=rows.count(), below=(rows.x < 0).sum())
    found = by_key(rows_of(signs), keys)
    places: dict[Key, tuple[int, list[int]]] = {}
    for key in group.counts:
        row = found.get(key, {"rows": 0, "below": 0})
        size = counted(group.counts[key], measure)
        count = row["rows"] if measure.of_events else size
        places[key] = count, _places(count, row, measure)
    values = _values_at(rows, keys, places)
    return {
        key: Ordered(count, *(values.get((*key, place), 0.0) for place in wanted))
        for key, (count, wanted) in places.items()
        if count
    }


def _places(count: int, row: Row, measure: Measure) -> list[int]:
    """The ranks as numbers of rows; 0 stands for a unit without one, whose value is 0."""
    assert measure.quantile is not None
    at = ranks(np.array(float(count)), measure.quantile)
    missing = count - row["rows"]
    found = []
    for rank in (int(at.low), int(at.centre), int(at.high)):
        if rank <= row["below"]:
            found.append(rank)
        else:
            found.append(max(rank - missing, 0) if rank - missing > row["below"] else 0)
    return found


def _values_at(
    rows: ir.Table, keys: list[str], places: Mapping[Key, tuple[int, list[int]]]
) -> dict[Key, float]:
    wanted = sorted({(*key, place) for key, (_, at) in places.items() for place in at if place})
    if not wanted:
        return {}
    names = [f"wanted_{n}" for n in range(len(keys) + 1)]
    rows_wanted = [dict(zip(names, one, strict=True)) for one in wanted]
    table = ibis.memtable(pa.Table.from_pylist(rows_wanted))
    number = ibis.row_number().over(ibis.window(group_by=keys, order_by=rows.x)) + 1
    numbered = rows.select(*keys, "x", place=number)
    match = [numbered[k] == table[n] for k, n in zip([*keys, "place"], names, strict=True)]
    found = numbered.join(table, match).select(*names, "x")
    return {tuple(row[name] for name in names): row["x"] for row in rows_of(found)}


def _clusters(
    rows: ir.Table, group: _Group, found: Mapping[Key, Ordered], measure: Measure
) -> dict[Key, Cell]:
    """For each key the sums over units of their events at most the quantile, and of all."""
    keys = list(group.keys)
    names = [f"of_{n}" for n in range(len(keys))]
    some = [
        dict(zip(names, key, strict=True)) | {"centre": one.centre} for key, one in found.items()
    ]
    if not some:
        return {}
    centres = ibis.memtable(pa.Table.from_pylist(some))
    both = rows.join(centres, [rows[k] == centres[n] for k, n in zip(keys, names, strict=True)])
    of_units = both.group_by([*keys, "unit_key"]).aggregate(
        below=(both.x <= both.centre).sum(), events=both.count()
    )
    sums = of_units.group_by(keys).aggregate(
        below=of_units.below.sum().cast(EXACT),
        events=of_units.events.sum().cast(EXACT),
        below_below=(of_units.below * of_units.below).sum().cast(EXACT),
        below_events=(of_units.below * of_units.events).sum().cast(EXACT),
        events_events=(of_units.events * of_units.events).sum().cast(EXACT),
    )
    return {
        key: Cell(
            counted(group.counts[key], measure),
            (int(row["below"]), int(row["events"])),
            (int(row["below_below"]), int(row["below_events"]), int(row["events_events"])),
        )
        for key, row in by_key(rows_of(sums), keys).items()
    }


def _no_events(row: Row | None, measure: Measure) -> Cell:
    return Cell(counted(row, measure), (0, 0), (0, 0, 0))


def _exponent(measure: Measure, reading: Reading) -> int:
    part = part_of(measure, Column(ColumnRole.VALUE))
    if part is None or part.nature is not Nature.AMOUNT:
        return 0
    return reading.exponent(part.source)


def _times(cell: Ordered, scale: float) -> Ordered:
    return Ordered(cell.count, cell.low * scale, cell.centre * scale, cell.high * scale)
