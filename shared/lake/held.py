"""The files that hold a project's rows in one version of a table, and the days that they are of."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from shared.lake.watermark import read_watermark

_COLUMNS = ("path", "num_records", "max.position")
# What a file without statistics may hold.
_ANY_POSITION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file with how many rows it has, and the highest position of them."""

    path: Path
    rows: int
    last_position: int


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


class LiveDays:
    """Of which days the tables hold rows of a project, as readers see them now.

    A version of a table is read once, for all projects. Safe to use from several threads.
    """

    def __init__(self, lake: Path) -> None:
        self._lake = lake
        self._known: dict[str, tuple[int, Mapping[str, frozenset[str]]]] = {}

    def of(self, table: str, project: str) -> frozenset[str]:
        """The days as YYYY-MM-DD."""
        mark = read_watermark(self._lake)
        version = None if mark is None else mark.table_versions.get(table)
        if version is None:
            return frozenset()
        known = self._known.get(table)
        if known is None or known[0] != version:
            known = version, _days_by_project(self._lake / table, version)
            self._known[table] = known
        return known[1].get(project, frozenset())


def _days_by_project(folder: Path, version: int) -> Mapping[str, frozenset[str]]:
    actions = pa.table(DeltaTable(folder, version=version).get_add_actions(flatten=True))
    found: defaultdict[str, set[str]] = defaultdict(set)
    columns = (actions["partition.project"].to_pylist(), actions["partition.day"].to_pylist())
    for project, day in zip(*columns, strict=True):
        found[project].add(str(day))
    return {project: frozenset(days) for project, days in found.items()}
