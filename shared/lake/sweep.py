"""Remove what no reader can want any more: replaced files, and the log of old versions.

A replaced file is marked with the time at which it was replaced, so the age of a file that no
version names says how long nobody could have begun to read it. That holds for the leftovers of a
crash too, which no version ever named.
"""

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from shared.lake.durable import fsync_file, fsync_folder

KEEP_REPLACED = timedelta(hours=24)
"""Whoever opened a version can finish reading it for so long."""
KEEP_VERSIONS = timedelta(hours=1)
"""A version can be opened for so long after the next one was made."""
LOG = "_delta_log"


@dataclass(frozen=True, slots=True)
class Needed:
    """What a sweep spares: files by their path in the table, and all that `version` stands on."""

    files: Container[str]
    version: int


def mark_replaced(table: Path, paths: Iterator[str], now: datetime) -> None:
    """Let files that a commit is about to replace count as aged from now on."""
    moment = now.timestamp()
    for path in paths:
        os.utime(table / path, (moment, moment))


def sweep(table: Path, needed: Needed, now: datetime) -> Iterator[None]:
    """Remove step by step; nothing happens between two steps, and the caller may stop at any."""
    yield from _sweep_log(table / LOG, needed.version, (now - KEEP_VERSIONS).timestamp())
    before = (now - KEEP_REPLACED).timestamp()
    for folder, folders, names in os.walk(table):
        folders[:] = [name for name in folders if name != LOG]
        for name in names:
            path = Path(folder) / name
            if str(path.relative_to(table)) not in needed.files and _older(path, before):
                path.unlink(missing_ok=True)
        yield


def _sweep_log(log: Path, version: int, before: float) -> Iterator[None]:
    """Remove the entries that the newest old checkpoint makes superfluous."""
    checkpoints = {int(path.name.split(".")[0]): path for path in log.glob("*.checkpoint.parquet")}
    old = [v for v, path in checkpoints.items() if v <= version and _older(path, before)]
    if not old:
        return
    first = max(old)
    fsync_file(checkpoints[first])
    fsync_folder(log)
    for path in list(log.iterdir()):
        number = path.name.split(".")[0]
        if number.isdigit() and int(number) < first and path.suffix != ".torn":
            path.unlink(missing_ok=True)
            yield


def _older(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime < moment
    except FileNotFoundError:
        return False
