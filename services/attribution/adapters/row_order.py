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
    recoded,
    rows_of_table,
)
from services.attribution.domain.arrays import Codes, Flags, Integers

KEYS = (UNIT, TIME, EVENT_ID)
WORD_BITS = 64


def rows_in_order(table: pa.Table, of_instants: Callable[[pa.Table], pa.Table]) -> Rows:
    """The rows of a table, sorted by unit, time and event id.

    A table without event ids does not say which of several rows of one unit at one instant is
    first: `of_instants` gives the rows of these units and times in order, with the columns of the
    table.
    """
    schema, rows = table.schema, rows_of_table(table)
    # The engine's texts take more memory than all numbers made of them.
    del table
    order = _by_time(rows)
    names, units = rows.units.names, _repeated(rows.units)
    times = rows.times[order]
    several = _several(units, times)
    if rows.event_ids is not None and len(several):
        keys = [units[several], times[several], rows.event_ids.take(pa.array(order[several]))]
        first = pc.sort_indices(pa.table(keys, [*KEYS]), sort_keys=[(k, "ascending") for k in KEYS])
        order[several] = order[several][first.to_numpy()]
    found = _taken(rows, order, units, times)
    if rows.event_ids is not None or not len(several):
        return found
    instants = [names.take(pa.array(units[several])), pa.array(times[several])]
    asked = pa.table(instants, [*KEYS[:2]]).cast(pa.schema([schema.field(k) for k in KEYS[:2]]))
    known = of_instants(asked.group_by([*KEYS[:2]]).aggregate([]))
    _replace(found, several, rows_of_table(known.cast(schema)))
    return found


def _repeated(units: Texts) -> Codes:
    """The codes of units in order: what is counted need not be gathered."""
    counts = np.bincount(units.codes, minlength=len(units.names))
    return np.repeat(np.arange(len(units.names), dtype=np.int32), counts)


def _by_time(rows: Rows) -> Integers:
    """The order by unit, then time.

    Unit, time and row are sorted as one number each, which is several times faster than an order of
    columns. Where they do not fit, the time is cut to its highest bits, and what is equal then is
    sorted once more.
    """
    units, times = rows.units.codes, rows.times
    if not len(times):
        return np.zeros(0, dtype=np.int64)
    begin = int(times.min())
    row_bits, unit_bits, time_bits = (
        int(most).bit_length() for most in (len(times), len(rows.units.names), times.max() - begin)
    )
    cut = max(0, row_bits + unit_bits + time_bits - WORD_BITS)
    if cut > time_bits:
        return np.lexsort((times, units))
    packed = units.astype(np.uint64)
    packed <<= np.uint64(time_bits - cut)
    packed |= (times - begin).view(np.uint64) >> np.uint64(cut)
    packed <<= np.uint64(row_bits)
    packed |= np.arange(len(times), dtype=np.uint64)
    packed.sort()
    low = np.uint64((1 << row_bits) - 1)
    order = (packed & low).view(np.int64)
    if cut:
        _sort_within(order, (packed[1:] ^ packed[:-1]) <= low, times)
    return order


def _sort_within(order: Integers, tied: Flags, times: Integers) -> None:
    """Sort by time each run of rows that are tied with the next one."""
    open_ = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
    if not len(open_):
        return
    rows = order[open_]
    runs = np.cumsum(np.append(True, ~tied)[open_])
    order[open_] = rows[np.lexsort((times[rows], runs))]


def _several(units: Codes, times: Integers) -> Integers:
    """The rows whose unit and time are also those of a neighbour."""
    same = (units[1:] == units[:-1]) & (times[1:] == times[:-1])
    several: Integers = np.flatnonzero(np.append(same, False) | np.append(False, same))
    return several


def _taken(rows: Rows, order: Integers, units: Codes, times: Integers) -> Rows:
    texts = {
        name: Texts(each.names, units if name == UNIT else each.codes[order])
        for name, each in rows.texts.items()
    }
    ids = rows.event_ids
    return Rows(
        times,
        texts,
        {name: column[order] for name, column in rows.numbers.items()},
        None if ids is None else ids.take(pa.array(order)),
    )


def _replace(rows: Rows, places: Integers, known: Rows) -> None:
    """Put other rows of the same units and times in these places."""
    for name, texts in rows.texts.items():
        texts.codes[places] = recoded(known.texts[name], texts.names)
    for name, column in rows.numbers.items():
        column[places] = known.numbers[name]
