"""Chunks of a file as columns of events, without the rows that cannot be events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.cli.importing.bulk.casting import cast
from services.cli.importing.bulk.chunks import Chunk
from services.cli.importing.bulk.event_ids import EventIds
from services.cli.importing.bulk.fields import Field, Form
from services.cli.importing.bulk.mapping import EventMapping
from services.cli.importing.bulk.text_columns import empty
from shared.errors import invalid


class BadRow(NamedTuple):
    """A row that is no event: its number, the column and value at fault, and why."""

    row: int
    column: str
    value: object
    reason: str


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Events by the names of their fields, the places of their rows in the chunk, and the rows
    that are none.
    """

    columns: Mapping[str, pa.Array]
    places: NDArray[np.int64]
    bad: Sequence[BadRow]


class Conversion:
    """Turns the chunks of one file into events. `ids` names those that have none of their own."""

    def __init__(
        self,
        file: str,
        mapping: EventMapping,
        ids: EventIds | None,
        defaults: Mapping[str, pa.Scalar] | None = None,
    ) -> None:
        """`defaults` are of fields that the file has no column of."""
        self._file = file
        self._mapping = mapping
        self._ids = ids
        self._defaults = defaults or {}

    def events(self, chunk: Chunk) -> EventColumns:
        """The events of a chunk."""
        columns: dict[str, pa.Array] = {}
        bad: dict[int, BadRow] = {}
        for field in self._mapping.kind.fields:
            column = self._column(chunk, field, bad)
            if column is not None:
                columns[field.name] = column
        unreadable = [BadRow(one.row, "", one.text, one.reason) for one in chunk.unreadable]
        places = np.arange(chunk.batch.num_rows, dtype=np.int64)
        if bad:
            places = np.delete(places, list(bad))
            kept = pa.array(places)
            columns = {name: column.take(kept) for name, column in columns.items()}
        rows = sorted([*unreadable, *bad.values()], key=lambda one: one.row)
        return EventColumns(columns, places, rows)

    def _column(self, chunk: Chunk, field: Field, bad: dict[int, BadRow]) -> pa.Array | None:
        count = chunk.batch.num_rows
        constant = self._mapping.constants.get(field.name)
        if constant is not None:
            return pa.repeat(constant, count)
        name = self._mapping.columns.get(field.name)
        if name is None or name not in chunk.batch.schema.names:
            if field.name == "event_id":
                return self._derived(chunk)
            if not field.required:
                default = self._defaults.get(field.name)
                return None if default is None else pa.repeat(default, count)
            given = pa.nulls(count)
        else:
            given = chunk.batch.column(name)
        try:
            column, wrong = cast(field.form, given, self._mapping.rules)
        except (TypeError, pa.ArrowException) as error:
            raise invalid("FILE", self._file, f"another column {name}: it {error}") from error
        shown = name or field.name
        for place, reason in wrong:
            value = _cell(given[place])
            bad.setdefault(place, BadRow(int(chunk.rows[place]), shown, value, reason))
        return self._whole(chunk, field, shown, column, bad)

    def _whole(
        self, chunk: Chunk, field: Field, name: str, column: pa.Array, bad: dict[int, BadRow]
    ) -> pa.Array:
        """The column, where every row that needs a value has one, or is bad."""
        if not field.required and field.name != "event_id":
            return column
        missing = empty(column) if field.form is Form.TEXT else column.is_null()
        if not pc.any(missing).as_py():
            return column
        if field.name == "event_id" and self._ids is not None:
            return pc.if_else(missing, self._derived(chunk), column)
        reason = "is empty; a value is needed"
        if field.name == "event_id":
            reason += ", or --id-prefix"
        for place in np.flatnonzero(np.asarray(missing)):
            row = int(chunk.rows[place])
            bad.setdefault(int(place), BadRow(row, name, "", reason))
        return column

    def _derived(self, chunk: Chunk) -> pa.Array:
        assert self._ids is not None  # made for every file that has no such column
        return self._ids.of(chunk.rows)


def _cell(cell: pa.Scalar) -> object:
    value = cell.as_py()
    return value.decode(errors="replace") if isinstance(value, bytes) else value
