"""Rows of events as arrays, and how those of two readings are joined."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.attribution.adapters.many_texts import distinct_and_codes
from services.attribution.domain.arrays import Codes, Flags, Floats, Integers
from services.attribution.domain.windows import first_at_or_after

UNIT, TIME, EVENT_ID = "unit_id", "event_time", "event_id"
NULL = -1
LIKELY_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of text: the names in it, ascending by bytes, and a code for each row or NULL."""

    names: pa.Array
    codes: Codes

    def used(self) -> "Texts":
        """The same without names that no row has."""
        marks = np.zeros(len(self.names) + 1, dtype=np.bool_)
        marks[self.codes] = True
        marks = marks[:-1]
        if marks.all():
            return self
        place = np.append(np.cumsum(marks) - 1, NULL).astype(np.int32)
        return Texts(self.names.filter(pa.array(marks)), place[self.codes])


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table, sorted by unit, then time, then event id.

    Times are microseconds since 1970-01-01 UTC; NaN is a number that was not sent. The unit is
    among the texts. The event ids are None where they were not asked for.
    """

    times: Integers
    texts: Mapping[str, Texts]
    numbers: Mapping[str, Floats]
    event_ids: pa.Array | None

    def __len__(self) -> int:
        return len(self.times)

    @property
    def units(self) -> Texts:
        """The unit of each row."""
        return self.texts[UNIT]

    def between(self, from_us: int | None, until_us: int | None) -> "Rows":
        """The rows of these times, the first inclusive, the last exclusive; None is unbounded."""
        if from_us is None and until_us is None:
            return self
        chosen = np.ones(len(self), dtype=np.bool_)
        if from_us is not None:
            chosen &= self.times >= from_us
        if until_us is not None:
            chosen &= self.times < until_us
        return self if chosen.all() else self.where(chosen)

    def first(self, count: int) -> "Rows":
        """So many rows from the first on."""
        return self.where(np.arange(len(self)) < count)

    def where(self, chosen: Flags) -> "Rows":
        """The chosen rows."""
        ids = self.event_ids
        return Rows(
            self.times[chosen],
            {name: Texts(t.names, t.codes[chosen]).used() for name, t in self.texts.items()},
            {name: column[chosen] for name, column in self.numbers.items()},
            None if ids is None else ids.filter(pa.array(chosen)),
        )

    def table(self) -> pa.Table:
        """As an Arrow table, which `rows_of_table` reads."""
        assert self.event_ids is not None
        columns: dict[str, pa.Array] = {TIME: pa.array(self.times), EVENT_ID: self.event_ids}
        for name, texts in self.texts.items():
            codes = pa.array(texts.codes, mask=texts.codes == NULL)
            columns[name] = pa.DictionaryArray.from_arrays(codes, texts.names)
        columns |= {name: pa.array(column) for name, column in self.numbers.items()}
        return pa.table(columns)


def rows_of_table(table: pa.Table) -> Rows:
    """The rows of a sorted Arrow table: texts, numbers, instants, and the event ids if any."""
    texts, numbers, times = {}, {}, np.zeros(0, dtype=np.int64)
    for field in table.schema:
        column = table[field.name]
        if field.name == TIME:
            times = _microseconds(column)
        elif field.name == EVENT_ID:
            continue
        elif pa.types.is_floating(field.type):
            numbers[field.name] = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
        else:
            texts[field.name] = _texts(column, many=field.name == UNIT)
    ids = None
    if EVENT_ID in table.column_names:
        ids = _whole(table[EVENT_ID].cast(pa.large_string()))
    return Rows(times, texts, numbers, ids)


def joined(kept: Rows, new: Rows, *, identified: bool) -> Rows:
    """The rows of both, which have no event in common, sorted; with their ids where identified.

    Both come with ids, which say what is first at one instant.
    """
    if not len(new) or not len(kept):
        return kept if len(kept) else new
    texts = {name: joined_texts(texts, new.texts[name]) for name, texts in kept.texts.items()}
    before = _places(kept, new, texts[UNIT].codes)
    order = _inserted(len(kept), before)
    return Rows(
        np.concatenate([kept.times, new.times])[order],
        {name: Texts(both.names, both.codes[order]) for name, both in texts.items()},
        {name: np.concatenate([c, new.numbers[name]])[order] for name, c in kept.numbers.items()},
        _joined_ids(kept, new, order) if identified else None,
    )


def joined_texts(one: Texts, other: Texts) -> Texts:
    """The texts of one, then of the other, over common names."""
    both = joined_names(one.names, other.names)
    codes = [both.first(one.codes), both.second(other.codes)]
    return Texts(both.names, np.concatenate(codes))


@dataclass(frozen=True, slots=True)
class JoinedNames:
    """All names of two columns, ascending, and the place there of each name of either."""

    names: pa.Array
    first_places: Codes | None
    second_places: Codes

    def first(self, codes: Codes) -> Codes:
        """Codes into the first names as codes into all of them."""
        return codes if self.first_places is None else _placed(codes, self.first_places)

    def second(self, codes: Codes) -> Codes:
        """Codes into the second names as codes into all of them."""
        return _placed(codes, self.second_places)


def joined_names(one: pa.Array, other: pa.Array) -> JoinedNames:
    """The names of both; fast where the first are many and hold most of the others."""
    found = pc.index_in(other, value_set=one)
    missing = other.filter(found.is_null())
    own = found.fill_null(NULL).to_numpy().astype(np.int32)
    if not len(missing):
        return JoinedNames(one, None, own)
    known = one.to_pylist()
    # Text compares in Python as its bytes do.
    before = np.array([bisect_left(known, name) for name in missing.to_pylist()], dtype=np.int64)
    order = _inserted(len(one), before)
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    own[own == NULL] = len(one) + np.arange(len(missing), dtype=np.int32)
    names = pa.concat_arrays([one, missing]).take(pa.array(order))
    return JoinedNames(names, place[: len(one)], place[own])


def recoded(texts: Texts, names: pa.Array) -> Codes:
    """The codes of texts into other names, which hold all of theirs."""
    place = pc.index_in(texts.names, value_set=names).to_numpy(zero_copy_only=False)
    return _placed(texts.codes, place.astype(np.int32))


def _placed(codes: Codes, places: Codes) -> Codes:
    found: Codes = np.append(places, np.int32(NULL))[codes]
    return found


def sorted_distinct(column: pa.ChunkedArray) -> pa.Array:
    """The distinct texts of a column, ascending by bytes, without null."""
    distinct = pc.drop_null(pc.unique(column))
    return distinct.take(pc.sort_indices(distinct))


def _inserted(count: int, before: Integers) -> Integers:
    """The order of `count` rows and of new ones behind them, which stand before these rows."""
    taken = np.zeros(count + len(before), dtype=np.bool_)
    taken[before + np.arange(len(before))] = True
    order = np.empty(len(taken), dtype=np.int64)
    order[taken] = count + np.arange(len(before))
    order[~taken] = np.arange(count)
    return order


def _joined_ids(kept: Rows, new: Rows, order: Integers) -> pa.Array:
    return pa.concat_arrays([kept.event_ids, new.event_ids]).take(pa.array(order))


def _places(kept: Rows, new: Rows, units: Codes) -> Integers:
    """Before which of the kept rows each new one stands; `units` are those of both."""
    own, theirs = units[: len(kept)], units[len(kept) :]
    begin, end = (np.searchsorted(own, theirs, side=side) for side in ("left", "right"))
    first = first_at_or_after(kept.times, begin, end, new.times)
    last = first_at_or_after(kept.times, first, end, new.times + 1)
    # Only rows of one unit at one instant are told apart by their ids.
    for row in np.flatnonzero(last > first).tolist():
        event_id, low, high = _id(new, row), int(first[row]), int(last[row])
        while low < high:
            middle = (low + high) // 2
            if _id(kept, middle) < event_id:
                low = middle + 1
            else:
                high = middle
        first[row] = low
    return first


def _id(rows: Rows, row: int) -> bytes:
    assert rows.event_ids is not None
    text: str = rows.event_ids[row].as_py()
    return text.encode()


def _texts(column: pa.ChunkedArray, *, many: bool) -> Texts:
    """The texts of a column in which most are rare where there are `many`."""
    if pa.types.is_dictionary(column.type):
        kept = _whole(column)
        return Texts(kept.dictionary, _codes(kept.indices))
    if many and len(column) and not column.null_count:
        return Texts(*distinct_and_codes(column))
    names = _likely_names(column)
    found = pc.index_in(column, value_set=names)
    if found.null_count > column.null_count:
        names = sorted_distinct(column)
        found = pc.index_in(column, value_set=names)
    return Texts(names, _codes(found))


def _likely_names(column: pa.ChunkedArray) -> pa.Array:
    """The names in some rows of a column, in order: of few names these are all, as a rule."""
    return sorted_distinct(column.slice(0, LIKELY_ROWS))


def _codes(found: pa.Array | pa.ChunkedArray) -> Codes:
    codes: Codes = found.fill_null(NULL).to_numpy().astype(np.int32, copy=False)
    return codes


def _microseconds(column: pa.ChunkedArray) -> Integers:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    microseconds: Integers = column.to_numpy()
    return microseconds


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


@dataclass(frozen=True, slots=True)
class EventRows:
    """What a question reads; `milestones` is None where there are none to read."""

    touches: Rows
    conversions: Rows
    milestones: Rows | None

    def __len__(self) -> int:
        return len(self.touches) + len(self.conversions) + len(self.milestones or ())

    def each(self, change: Callable[[Rows], Rows]) -> "EventRows":
        """Every table changed."""
        passed = None if self.milestones is None else change(self.milestones)
        return EventRows(change(self.touches), change(self.conversions), passed)

    def with_new(self, new: "EventRows", *, identified: bool) -> "EventRows":
        """Together with new rows of the same question; with ids where identified."""
        passed = self.milestones
        if passed is not None and new.milestones is not None:
            passed = joined(passed, new.milestones, identified=identified)
        return EventRows(
            joined(self.touches, new.touches, identified=identified),
            joined(self.conversions, new.conversions, identified=identified),
            passed,
        )
