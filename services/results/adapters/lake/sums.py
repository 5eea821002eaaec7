"""Exact sums over the rows of units, by arm and slice, of every column and pair of columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

from ibis import ir

from services.results.adapters.lake.columns import COARSE_BITS, WORD_BITS, Instant, Layout, Whole
from services.results.adapters.lake.engine import rows_of
from services.results.domain.exact import Cell, Coarse
from services.results.domain.measure import Column, ColumnRole, Measure

EXACT = "decimal(38, 0)"
Row = Mapping[str, Any]
Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The sums of the layouts, by the number of the measure, of units of an age at a moment."""

    layouts: Mapping[int, Layout]
    data_us: Instant


def sums_by(values: ir.Table, keys: Sequence[str], wanted: Wanted) -> dict[Key, Row]:
    """All sums by the keys, in one pass over the rows."""
    table = sums_table(values, keys, wanted)
    return {} if table is None else by_key(rows_of(table), keys)


def sums_table(values: ir.Table, keys: Sequence[str], wanted: Wanted) -> ir.Table | None:
    """One row of all sums for each combination of the keys; None where nothing is to be summed."""
    columns, aggregates = {}, {}
    for m, layout in wanted.layouts.items():
        for c, number in enumerate(layout.of(values, wanted.data_us)):
            columns[f"w_{m}_{c}"] = number
    whole = values.select(*keys, **columns)
    for m, layout in wanted.layouts.items():
        for name, term in _terms(whole, m, layout):
            aggregates[name] = term.sum().cast(EXACT)
    return whole.group_by(list(keys)).aggregate(**aggregates) if aggregates else None


def sum_names(m: int, layout: Layout) -> list[str]:
    """The names of all sums of a measure."""
    names = []
    for c, column in enumerate(layout.columns):
        names.append(f"sum_{m}_{c}")
        if _needs_coarse(column):
            names += [f"first_{m}", f"second_{m}", f"third_{m}"]
    pairs = [(i, j) for (i, one), (j, other) in _pairs(layout) if not _follows(one, other)]
    return names + [f"product_{m}_{i}_{j}" for i, j in pairs]


def by_key(rows: Sequence[Row], keys: Sequence[str]) -> dict[Key, Row]:
    """Rows of numbers by the columns that tell them apart."""
    return {
        tuple(row[key] for key in keys): {
            name: value for name, value in row.items() if name not in keys
        }
        for row in rows
    }


def _terms(whole: ir.Table, m: int, layout: Layout) -> Iterator[tuple[str, ir.NumericColumn]]:
    for c, column in enumerate(layout.columns):
        yield f"sum_{m}_{c}", whole[f"w_{m}_{c}"]
        if _needs_coarse(column):
            coarse = (whole[f"w_{m}_{c}"] / (1 << _coarse_shift(column))).round().cast("int64")
            yield f"first_{m}", coarse
            yield f"second_{m}", coarse * coarse
            yield f"third_{m}", coarse * coarse * coarse
    for (i, one), (j, other) in _pairs(layout):
        if not _follows(one, other):
            left, right = whole[f"w_{m}_{i}"], whole[f"w_{m}_{j}"]
            if one.scale.bits + other.scale.bits > WORD_BITS:
                left, right = left.cast(EXACT), right.cast(EXACT)
            yield f"product_{m}_{i}_{j}", left * right


def _pairs(layout: Layout) -> Iterator[tuple[tuple[int, Whole], tuple[int, Whole]]]:
    return combinations_with_replacement(enumerate(layout.columns), 2)


def _follows(one: Whole, other: Whole) -> bool:
    """Whether the product of two columns is one of them."""
    if one == other:
        return one.scale.binary
    return one.column.role is ColumnRole.STEP and other.column.role is ColumnRole.STEP


def _needs_coarse(column: Whole) -> bool:
    first = column.column in (Column(ColumnRole.VALUE), Column(ColumnRole.SPAN))
    return first and not column.scale.binary


def _coarse_shift(column: Whole) -> int:
    return max(column.scale.bits - COARSE_BITS, 0)


def cell_of(row: Row | None, m: int, measure: Measure, layout: Layout, units: int) -> Cell:
    """The sums of a measure out of a row; without one, those of units without events."""
    sums = [_plus(row, f"sum_{m}_{c}") for c in range(len(layout.columns))]
    products = {}
    for (i, one), (j, other) in _pairs(layout):
        # Of two steps of a funnel the later is taken only with the earlier one.
        follows = _follows(one, other)
        products[i, j] = sums[j] if follows else _plus(row, f"product_{m}_{i}_{j}")
    coarse = _coarse(row, m, layout, sums)
    _add_defaults(layout, units, sums, products)
    return _with_eligible(measure, units, sums, products, coarse)


def _plus(row: Row | None, name: str) -> int:
    return 0 if row is None or row[name] is None else int(row[name])


def _coarse(row: Row | None, m: int, layout: Layout, sums: list[int]) -> Coarse:
    first = layout.columns[0]
    if first.scale.binary:
        return Coarse(sums[0], sums[0], sums[0])
    return Coarse(_plus(row, f"first_{m}"), _plus(row, f"second_{m}"), _plus(row, f"third_{m}"))


def _add_defaults(
    layout: Layout, units: int, sums: list[int], products: dict[tuple[int, int], int]
) -> None:
    """Let each column begin at its default: (x + d)(y + e) = xy + ex + dy + de, summed up."""
    d = [column.default for column in layout.columns]
    for i, j in products:
        products[i, j] += d[j] * sums[i] + d[i] * sums[j] + d[i] * d[j] * units
    for c, default in enumerate(d):
        sums[c] += default * units


def _with_eligible(
    measure: Measure,
    units: int,
    sums: list[int],
    products: Mapping[tuple[int, int], int],
    coarse: Coarse,
) -> Cell:
    """The cell with the column of ones that says that a unit counts, where the measure has it."""
    roles = [column.role for column in measure.columns]
    if ColumnRole.ELIGIBLE not in roles:
        return Cell(units, tuple(sums), tuple(products.values()), coarse)
    at = roles.index(ColumnRole.ELIGIBLE)
    places = [None if c == at else c - (c > at) for c in range(len(roles))]

    def product(i: int | None, j: int | None) -> int:
        if i is None:
            return units if j is None else sums[j]
        return sums[i] if j is None else products[i, j]

    return Cell(
        units,
        tuple(units if place is None else sums[place] for place in places),
        tuple(product(i, j) for i, j in combinations_with_replacement(places, 2)),
        coarse,
    )
