"""Which files of a table are worth a rewrite: readers open every file, and every rewrite costs.

A flush leaves a file for each project and day that it touched. A rewrite joins the smallest files
of a partition, and only those that are no larger than all the smaller ones together. So whatever is
rewritten ends in a file of at least twice the size, and no row is rewritten more often than
log2(TARGET_BYTES / size of the file that it came in) times; with CROWD files at a time it is about
a quarter of that. What is left apart are at most CROWD files and one of each power of two.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

CROWD = 24
"""A day that still gets events is rewritten when this many small files can be joined."""
TARGET_BYTES = 128 * 1024 * 1024
"""A rewrite stops taking files at this size; files from half of it on stay as they are."""
MOST_FILES = 64
"""A rewrite takes no more: opening a file takes about a millisecond."""
QUIET = timedelta(hours=1)
"""A day that is over and got nothing for so long is joined into few large files."""

Partition = tuple[str, date]
"""A project and a day."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a table. `path` is relative to the table; positions and times are of its rows."""

    path: str
    size_bytes: int
    partition: Partition
    modified_ms: int
    first_position: int


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Files of one partition that become one, in the order in which their rows arrived."""

    partition: Partition
    inputs: tuple[DataFile, ...]

    @property
    def size_bytes(self) -> int:
        """How much there is to read."""
        return sum(file.size_bytes for file in self.inputs)


def live_files(table: DeltaTable) -> Iterator[DataFile]:
    """The files of the version of a table."""
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = ("path", "size_bytes", "partition.project", "partition.day", "modification_time")
    lists = [actions[name].to_pylist() for name in columns]
    if "min.position" in actions.column_names:
        lists.append(actions["min.position"].to_pylist())
    else:  # nothing was ever written with statistics
        lists.append([0] * actions.num_rows)
    for path, size, project, day, modified, position in zip(*lists, strict=True):
        yield DataFile(unquote(path), size, (project, day), modified, position or 0)


def worthwhile_rewrites(files: Iterator[DataFile], now: datetime) -> list[Rewrite]:
    """What to rewrite, the partition with the most files first."""
    small: defaultdict[Partition, list[DataFile]] = defaultdict(list)
    for file in files:
        if file.size_bytes < TARGET_BYTES // 2:
            small[file.partition].append(file)
    found = []
    for partition, members in small.items():
        joined = _joined(sorted(members, key=lambda file: (file.size_bytes, file.path)))
        if len(joined) >= (2 if _closed(partition, members, now) else CROWD):
            in_order = sorted(joined, key=lambda file: (file.first_position, file.path))
            found.append(Rewrite(partition, tuple(in_order)))
    return sorted(found, key=lambda rewrite: -len(rewrite.inputs))


def _joined(ascending: Sequence[DataFile]) -> Sequence[DataFile]:
    """The smallest files, as many as end in a file of at least twice the size of each."""
    total = taken = 0
    for number, file in enumerate(ascending):
        if total >= TARGET_BYTES or number >= MOST_FILES:
            break
        if file.size_bytes <= total:
            taken = number + 1
        total += file.size_bytes
    return ascending[:taken]


def _closed(partition: Partition, files: Sequence[DataFile], now: datetime) -> bool:
    _, day = partition
    quiet_since = now - QUIET
    newest = max(file.modified_ms for file in files)
    return day < quiet_since.date() and newest < quiet_since.timestamp() * 1000
