"""The files that hold a project's rows in one version of a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

_COLUMNS = ("path", "num_records", "max.position")
# What a file without statistics may hold.
_ANY_POSITION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file with how many rows it has, and the highest position of them."""

    path: Path
    rows: int
    last_position: int


def held_days(folder: Path, version: int, project: str) -> frozenset[str]:
    """The days, as YYYY-MM-DD, of which a version of a table has rows of a project."""
    held = held_files(folder, version, project)
    return frozenset(one.path.parent.name.removeprefix("day=") for one in held)


def held_files(folder: Path, version: int, project: str) -> Iterator[HeldFile]:
    """The files of a project in a version of the table in the folder."""
    actions = pa.table(DeltaTable(folder, version=version).get_add_actions(flatten=True))
    mine = actions.filter(pc.equal(actions["partition.project"], project))
    nothing = pa.nulls(mine.num_rows, pa.int64())
    lists = [
        (mine[name] if name in mine.column_names else nothing).to_pylist() for name in _COLUMNS
    ]
    for path, rows, position in zip(*lists, strict=True):
        known = _ANY_POSITION if position is None else position
        yield HeldFile(folder / unquote(path), rows or 0, known)
