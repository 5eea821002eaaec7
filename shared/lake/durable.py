"""Make what the Delta writer wrote survive a power cut: it writes and renames, but never syncs."""

import json
import os
from pathlib import Path
from urllib.parse import unquote


def fsync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk; a file that is gone is left alone.

    A compaction may remove a file that an older log entry still names.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_folder(path: Path) -> None:
    """Wait until the names inside a folder are on the disk."""
    fsync_file(path)


def fsync_commits(table: Path, first: int, last: int) -> None:
    """Make the commits `first..last` of the Delta table durable: data, log, checkpoint, folders."""
    log = table / "_delta_log"
    folders = {table, log}
    for version in range(first, last + 1):
        entry = log / f"{version:020d}.json"
        for file in _added_files(table, entry):
            fsync_file(file)
            folders.update(_up_to(table, file.parent))
        fsync_file(entry)
        fsync_file(log / f"{version:020d}.checkpoint.parquet")
    fsync_file(log / "_last_checkpoint")
    for folder in folders:
        fsync_folder(folder)


def _added_files(table: Path, entry: Path) -> list[Path]:
    try:
        lines = entry.read_text().splitlines()
    except FileNotFoundError:  # removed by the log's own clean-up, long after it was synced
        return []
    actions = [json.loads(line) for line in lines]
    return [table / unquote(a["add"]["path"]) for a in actions if "add" in a]


def _up_to(table: Path, folder: Path) -> set[Path]:
    """The folder and its parents inside the table: a new partition is a new name in each."""
    return {p for p in (folder, *folder.parents) if p.is_relative_to(table)}
