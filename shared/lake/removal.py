"""Remove rows from the tables: whole days, or single events out of the files that hold them.

A file with events to remove is written anew without them, beside the service; only the exchange of
the two files is a commit, which takes no time. What was replaced stays on the disk, because readers
may still hold it, until it is removed by its age.
"""

import datetime as dt
import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction

from shared.lake.durable import fsync_folder
from shared.lake.layout import PARTITIONS
from shared.lake.rewrite import COMPRESSION, COMPRESSION_LEVEL, GROUP_ROWS, Joined, statistics_of
from shared.lake.sweep import mark_replaced
from shared.lake.table import TableWriter
from shared.lake.upkeep import DataFile, live_files

MARKER = "_erasures.json"


@dataclass(frozen=True, slots=True)
class Thinned:
    """A file, and the one that takes its place; None when no row is left."""

    path: str
    rest: Joined | None
    removed_rows: int


def thin(table: Path, path: str, events: Collection[str]) -> Thinned:
    """Write the rows of a file of the table that are not of these events to another file."""
    output = _thinned_path(path, events)
    unwanted = pa.array(sorted(events), pa.string())
    removed = kept = 0
    with (
        pq.ParquetFile(table / path) as file,
        pq.ParquetWriter(
            table / output,
            file.schema_arrow,
            compression=COMPRESSION,
            compression_level=COMPRESSION_LEVEL,
        ) as out,
    ):
        for batch in file.iter_batches(GROUP_ROWS, use_threads=False):
            named = pc.is_in(batch.column("event_id"), unwanted)
            rest = batch.filter(pc.invert(named))
            kept, removed = kept + rest.num_rows, removed + batch.num_rows - rest.num_rows
            if rest.num_rows:
                out.write_table(pa.Table.from_batches([rest]), row_group_size=rest.num_rows)
    if not kept:
        (table / output).unlink()
        return Thinned(path, None, removed)
    with (table / output).open("rb") as written:
        os.fsync(written.fileno())
    size = (table / output).stat().st_size
    return Thinned(path, Joined(output, size, statistics_of(table / output)), removed)


def exchange(table: TableWriter, done: Sequence[Thinned], now: dt.datetime) -> list[Thinned]:
    """Put thinned files in the place of the ones before, in one commit.

    The ones that were exchanged: a file that was replaced meanwhile is left out.
    """
    live = {file.path: file for file in live_files(table.handle)}
    valid = [one for one in done if one.path in live]
    actions: list[AddAction | RemoveAction] = []
    for one in valid:
        before = live[one.path]
        actions.append(_remove(before, now))
        if one.rest is not None:
            actions.append(_add(one.rest, before, now))
    _commit(table, actions, [one.path for one in valid], now)
    return valid


def drop_days(table: TableWriter, project: str, before: dt.date, now: dt.datetime) -> int:
    """Remove the project's days before this one; how many files readers see no more."""
    old = [
        file
        for file in live_files(table.handle)
        if file.partition[0] == project and file.partition[1] < before
    ]
    _commit(table, [_remove(file, now) for file in old], [file.path for file in old], now)
    return len(old)


def files_on_disk(table: Path, project: str) -> Iterator[Path]:
    """Every data file of the project, of whatever version, also what a crash left over."""
    for path in sorted((table / f"project={project}").glob("day=*/*.parquet")):
        if path.is_file():
            yield path


def remove_files(table: TableWriter, files: Collection[Path]) -> int:
    """Remove files from the disk that the newest version does not stand on; how many it were."""
    needed = {table.path / file.path for file in live_files(table.handle)}
    gone = [path for path in files if path not in needed]
    for path in gone:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in gone}:
        fsync_folder(folder)
    return len(gone)


def read_marker(path: Path) -> frozenset[str]:
    """Which erasures the data beside the marker reflects; none where there is no marker."""
    try:
        return frozenset(json.loads(path.read_text())["erasures"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # Without knowing, everything is erased again, which does no harm.
        return frozenset()


def erased_so_far(lake: Path) -> str:
    """A name for what was erased from the event tables so far, another one after every erasure.

    Whoever keeps something of the tables beside them asks before reading, and keeps it under this
    name: then it goes with the next erasure, also when it is kept after that.
    """
    try:
        marker = (lake / MARKER).read_bytes()
    except FileNotFoundError:
        marker = b""
    return hashlib.sha256(marker).hexdigest()[:16]


def write_marker(path: Path, erasures: Collection[str]) -> None:
    """Note which erasures the data beside the marker reflects; durable on return.

    Each time it is another marker: an erasure that finds more rows later erases once more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        json.dump({"erasures": sorted(erasures), "written": secrets.token_hex(8)}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    fsync_folder(path.parent)


def _thinned_path(path: str, events: Collection[str]) -> str:
    text = "\0".join([path, *sorted(events)])
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return str(PurePosixPath(path).parent / f"part-{digest}.zstd.parquet")


def _commit(
    table: TableWriter,
    actions: list[AddAction | RemoveAction],
    replaced: Sequence[str],
    now: dt.datetime,
) -> None:
    if not actions:
        return
    mark_replaced(table.path, iter(replaced), now)
    table.handle.create_write_transaction(
        actions, "append", table.handle.schema(), list(PARTITIONS)
    )
    # Unlike an append, this leaves the handle at the version before.
    table.reopen()


def _remove(file: DataFile, now: dt.datetime) -> RemoveAction:
    return RemoveAction(file.path, True, _ms(now), file.size_bytes, _values(file))


def _add(rest: Joined, before: DataFile, now: dt.datetime) -> AddAction:
    return AddAction(
        path=rest.path,
        size=rest.size_bytes,
        partition_values=_values(before),
        modification_time=_ms(now),
        data_change=True,
        stats=rest.statistics,
    )


def _values(file: DataFile) -> dict[str, str | None]:
    project, day = file.partition
    return dict(zip(PARTITIONS, (project, day.isoformat()), strict=True))


def _ms(now: dt.datetime) -> int:
    return int(now.timestamp() * 1000)
