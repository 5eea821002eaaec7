"""The most that one unit may count, where that is a percentile over the units of all arms."""

import math
from collections.abc import Mapping

from ibis import ir

from services.results.adapters.lake.columns import CAPPED
from services.results.adapters.lake.engine import row_of, rows_of
from services.results.adapters.lake.parts import needed_age, part_of
from services.results.adapters.lake.values import Reading
from services.results.domain.measure import Cap, Column, ColumnRole, Measure

Caps = Mapping[tuple[int, ColumnRole], float]
"""The caps by measure and column, in the steps of the events."""


def caps_of(
    values: ir.Table,
    measures: tuple[Measure, ...],
    reading: Reading,
    counted: tuple[int, ...],
    data_us: int,
) -> Caps:
    """Every cap; `counted` says how many units count for each measure, rows or not."""
    found = {}
    for m, measure in enumerate(measures):
        for role, own in CAPPED.items():
            part = part_of(measure, Column(own)) if Column(role) in measure.columns else None
            if part is None or measure.cap is None:
                continue
            if measure.cap.absolute is not None:
                found[m, role] = measure.cap.absolute * reading.scale(part.source)
                continue
            rows = values
            if measure.needs_age:
                rows = rows.filter(rows.first_us <= data_us - (needed_age(measure) or 0))
            number = rows[f"x_{reading.parts.index(part)}"]
            found[m, role] = _percentile(rows, number, measure.cap, counted[m])
    return found


def _percentile(rows: ir.Table, number: ir.NumericColumn, cap: Cap, units: int) -> float:
    """The least number that at least this part of the units is not above (Hyndman and Fan 1996,
    definition 1); units without a row have 0.
    """
    assert cap.percentile is not None
    below, above = (number < 0).sum().fill_null(0), (number > 0).sum().fill_null(0)
    signs = row_of(rows.aggregate(below=below, above=above))
    zeros = 0 if cap.ignore_zeros else units - signs["below"] - signs["above"]
    count = signs["below"] + zeros + signs["above"]
    rank = min(max(math.ceil(cap.percentile * count), 1), count)
    if not count or signs["below"] < rank <= signs["below"] + zeros:
        return 0.0
    if rank <= signs["below"]:
        found = rows.filter(number < 0).order_by(number.asc()).limit(1, offset=rank - 1)
    else:
        found = rows.filter(number > 0).order_by(number.desc()).limit(1, offset=count - rank)
    ((value,),) = [row.values() for row in rows_of(found.select(number))]
    return float(value)
