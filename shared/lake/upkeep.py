"""Keep the number of files small: readers open every one of them.

A flush leaves a file for each project and day that it touched. Crowded partitions are rewritten
into fewer files, one at a time, so that events never wait long for their turn. Files that a
rewrite replaced stay for a day: a reader may still hold a snapshot that names them.
"""

from collections import Counter

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties

CROWD = 24
"""A partition with this many small files is rewritten."""
SMALL_FILE_BYTES = 16 * 1024 * 1024
"""Two files below this size always fit into one of twice the size, so a rewrite leaves one."""
TARGET_BYTES = 2 * SMALL_FILE_BYTES
KEEP_REPLACED_HOURS = 24

Partition = tuple[str, str]
"""A project and a day, as they are spelled in the log."""


def crowded_partitions(table: DeltaTable) -> list[Partition]:
    """The partitions that are worth a rewrite, the most crowded first."""
    files = pa.table(table.get_add_actions(flatten=True)).select(
        ["size_bytes", "partition.project", "partition.day"]
    )
    small = Counter(
        (project, str(day))
        for size, project, day in zip(*files.to_pydict().values(), strict=True)
        if size < SMALL_FILE_BYTES
    )
    return [partition for partition, count in small.most_common() if count >= CROWD]


def compact(table: DeltaTable, partition: Partition, properties: WriterProperties) -> None:
    """Rewrite the small files of a partition into few: the same rows, in one commit."""
    project, day = partition
    table.optimize.compact(
        partition_filters=[("project", "=", project), ("day", "=", day)],
        target_size=TARGET_BYTES,
        writer_properties=properties,
    )


def remove_replaced(table: DeltaTable) -> None:
    """Delete the files that no snapshot of the last day names."""
    table.vacuum(
        retention_hours=KEEP_REPLACED_HOURS, dry_run=False, enforce_retention_duration=False
    )
