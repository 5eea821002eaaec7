"""Rows of events in order, sorted here by codes of units: an engine would compare their texts."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.attribution.adapters.journey_rows import (
    EVENT_ID,
    TIME,
    UNIT,
    Rows,
    Texts,
    rows_of_table,
)
from services.attribution.domain.arrays import Codes, Integers

KEYS = (UNIT, TIME, EVENT_ID)
LARGEST = 2**63 - 1


def rows_in_order(table: pa.Table, of_instants: Callable[[pa.Table], pa.Table]) -> Rows:
    """The rows of a table, sorted by unit, time and event id.

    A table without event ids does not say which of several rows of one unit at one instant is
    first: `of_instants` gives the rows of these units and times in order, with the columns of the
    table.
    """
    rows = rows_of_table(table)
    order = _by_time(rows)
    several = _several(rows.units.codes[order], rows.times[order])
    if not len(several):
        return _taken(rows, order)
    if EVENT_ID in table.column_names:
        keys = table.select(KEYS).take(pa.array(order[several]))
        first = pc.sort_indices(keys, sort_keys=[(key, "ascending") for key in KEYS])
        order[several] = order[several][first.to_numpy()]
        return _taken(rows, order)
    instants = table.select(KEYS[:2]).take(pa.array(order[several]))
    known = of_instants(instants.group_by([*KEYS[:2]]).aggregate([]))
    order[several] = len(table) + np.arange(len(several))
    return _taken(rows_of_table(pa.concat_tables([table, known.cast(table.schema)])), order)


def _by_time(rows: Rows) -> Integers:
    """The order by unit, then time."""
    units, times = rows.units.codes, rows.times
    if not len(times):
        return np.zeros(0, dtype=np.int64)
    begin, end = int(times.min()), int(times.max())
    span = end - begin + 1
    if len(rows.units.names) * span > LARGEST:
        return np.lexsort((times, units))
    # One number is sorted several times faster than two columns.
    return np.argsort(units * np.int64(span) + (times - begin))


def _several(units: Codes, times: Integers) -> Integers:
    """The rows whose unit and time are also those of a neighbour."""
    same = (units[1:] == units[:-1]) & (times[1:] == times[:-1])
    several: Integers = np.flatnonzero(np.append(same, False) | np.append(False, same))
    return several


def _taken(rows: Rows, order: Integers) -> Rows:
    ids = rows.event_ids
    return Rows(
        rows.times[order],
        {name: Texts(each.names, each.codes[order]) for name, each in rows.texts.items()},
        {name: column[order] for name, column in rows.numbers.items()},
        None if ids is None else ids.take(pa.array(order)),
    )
