"""The way cell by cell, for what no column at once can be: rare rows, and JSON within cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from services.cli.importing.cells import RowError


class Wrong(NamedTuple):
    """A cell that does not hold: its place in the column, and what is wrong and allowed."""

    place: int
    reason: str


def each(
    column: pa.Array,
    parse: Callable[[object], object],
    kind: pa.DataType,
    wrong: Sequence[Wrong] = (),
) -> tuple[pa.Array, Sequence[Wrong]]:
    """Every cell that holds something through `parse`, which raises RowError."""
    found: list[object] = []
    bad = list(wrong)
    for place, cell in enumerate(column.to_pylist()):
        value = None
        if cell is not None:
            try:
                value = parse(cell)
            except RowError as error:
                bad.append(Wrong(place, error.reason))
        found.append(value)
    return pa.array(found, kind), bad


def no_utf8(places: Iterable[int]) -> Sequence[Wrong]:
    """Cells that are no text."""
    return [Wrong(int(place), "is no UTF-8; save the file as UTF-8") for place in places]
