"""Lines of JSON taken apart into columns, many at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.cli.importing.bulk.chunks import Chunk, Unreadable
from services.cli.importing.bulk.fields import SERVICE_COLUMNS
from services.cli.importing.bulk.text_columns import Places, as_text
from shared.errors import shown

_SHOWN = 1000
_NO_OBJECT = "the line is no JSON object in UTF-8; allowed: one whole object a line"
_IS_OBJECT = """SELECT CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END
AS ok FROM lines"""
_KEYS = "SELECT DISTINCT unnest(json_keys(line)) AS key FROM lines"
_COUNT = "SELECT CAST(sum(len(json_keys(line))) AS BIGINT) AS names FROM lines"
_STRANGERS = "SELECT list_intersect(json_keys(line), {strangers}) AS found FROM lines"

Flags = NDArray[np.bool_]


class JsonLines:
    """Reads the columns of these names, as text. `strict`: a line that has others is unreadable."""

    def __init__(self, columns: Sequence[str], *, strict: bool) -> None:
        self._columns = tuple(columns)
        self._strict = strict
        self._duckdb = duckdb.connect(config={"threads": 1})
        shape = _quoted(json.dumps(dict.fromkeys(columns, "VARCHAR")))
        # The shape is quoted, and a parameter cannot stand there.
        self._cells = f"SELECT unnest(json_transform(line, {shape})) FROM lines"  # noqa: S608 - see above

    def chunk(self, lines: pa.Array, first: int) -> Chunk:
        """The rows of lines, the first of which has the number `first`."""
        numbers = np.arange(first, first + len(lines), dtype=np.int64)
        texts, wrong = as_text(lines)
        # Most files have nothing else, and then nothing needs to be looked at line by line.
        if not len(wrong) and pc.all(pc.starts_with(texts, "{")).as_py():
            try:
                batch = self._transformed(texts)
                if not self._strict or self._holds_all(texts, batch):
                    return Chunk(batch, numbers)
            except duckdb.Error:
                pass
        return self._sifted(lines, texts, wrong, numbers)

    def _sifted(
        self, lines: pa.Array, texts: pa.Array, wrong: Places, numbers: NDArray[np.int64]
    ) -> Chunk:
        """The rows of those lines that are good, and what is wrong with each other."""
        filled = pc.not_equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
        ok: Flags = np.array(self._ask(texts, _IS_OBJECT)["ok"], bool)
        ok[wrong] = False
        bad = ~ok & np.array(filled.fill_null(True), bool)
        unreadable = [_unreadable(lines, numbers, place, _NO_OBJECT) for place in _places(bad)]
        if self._strict and (strangers := self._strangers(texts, ok)):
            unreadable += [
                _unreadable(lines, numbers, place, self._no_field(names))
                for place, names in strangers.items()
            ]
            ok[list(strangers)] = False
        kept = texts if ok.all() else texts.filter(pa.array(ok))
        return Chunk(self._transformed(kept), numbers[ok], unreadable)

    def _transformed(self, texts: pa.Array) -> pa.RecordBatch:
        table = self._ask(texts, self._cells)
        cells = [column.combine_chunks() for column in table.columns]
        return pa.record_batch(cells, names=table.column_names)

    def _holds_all(self, texts: pa.Array, batch: pa.RecordBatch) -> bool:
        """Whether the columns hold everything that the lines name."""
        cells = sum(len(column) - column.null_count for column in batch.columns)
        # As many cells as names: each name is one of the columns, with a value.
        if cells == self._ask(texts, _COUNT)["names"][0].as_py():
            return True
        return not self._strange_names(texts)

    def _strange_names(self, texts: pa.Array) -> list[str]:
        there = self._ask(texts, _KEYS)["key"].to_pylist()
        return sorted(set(there) - set(self._columns) - SERVICE_COLUMNS)

    def _strangers(self, texts: pa.Array, ok: Flags) -> dict[int, list[str]]:
        """The names that are not asked for, by the place of the line."""
        places = np.flatnonzero(ok)
        objects = texts if ok.all() else texts.filter(pa.array(ok))
        strangers = self._strange_names(objects)
        if not strangers:
            return {}
        listed = "[" + ", ".join(map(_quoted, strangers)) + "]"
        found = self._ask(objects, _STRANGERS.format(strangers=listed))["found"].to_pylist()
        return {int(place): names for place, names in zip(places, found, strict=True) if names}

    def _no_field(self, names: Sequence[str]) -> str:
        return (
            f"the line holds {shown(min(names))}, which is no column of these events; "
            f"allowed: {', '.join(self._columns)}; map it with --map, or pass it over with "
            "--ignore-unknown"
        )

    def _ask(self, lines: pa.Array, query: str) -> pa.Table:
        self._duckdb.register("lines", pa.table({"line": lines}))
        return self._duckdb.sql(query).to_arrow_table()


def _unreadable(lines: pa.Array, numbers: NDArray[np.int64], place: int, why: str) -> Unreadable:
    text = lines[place].as_py()[:_SHOWN].decode(errors="replace").strip()
    return Unreadable(int(numbers[place]), text, why)


def _places(flags: Flags) -> list[int]:
    return [int(place) for place in np.flatnonzero(flags)]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
