"""Undo the commits that a power cut left half-written.

What the Delta writer wrote after the last watermark was not synced: a power cut may leave a log
entry without its content, or one that names a data file without its content, and the table would
not open. The rows of such a commit are still in the journal, which is trimmed only after the
watermark. The entries are kept beside the log under another name.
"""

import json
import os
from pathlib import Path
from urllib.parse import unquote

from shared.lake.durable import fsync_folder

_PARQUET_MAGIC = b"PAR1"


def undo_torn_commits(table: Path, durable_version: int) -> list[int]:
    """Set the first incomplete commit after the durable version aside, and all that follow it.

    Returns their versions; empty when every commit is whole, and the table is then left alone.
    """
    log = table / "_delta_log"
    newer = sorted(int(p.stem) for p in log.glob("*.json") if _is_newer(p, durable_version))
    torn = next((version for version in newer if not _is_whole(table, version)), None)
    if torn is None:
        return []
    undone = [version for version in newer if version >= torn]
    for version in undone:
        entry = _entry(table, version)
        entry.rename(entry.with_suffix(".torn"))
    _drop_checkpoints(log, torn)
    fsync_folder(log)
    return undone


def _is_newer(entry: Path, version: int) -> bool:
    return entry.stem.isdigit() and int(entry.stem) > version


def _entry(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020d}.json"


def _is_whole(table: Path, version: int) -> bool:
    try:
        lines = _entry(table, version).read_text().splitlines()
        actions = [json.loads(line) for line in lines]
        added = [action["add"] for action in actions if "add" in action]
        return bool(actions) and all(
            _is_whole_file(table / unquote(add["path"]), add["size"]) for add in added
        )
    except (ValueError, TypeError, KeyError):
        return False


def _is_whole_file(path: Path, size: int) -> bool:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            file.seek(-len(_PARQUET_MAGIC), os.SEEK_END)
            return file.read() == _PARQUET_MAGIC
    except OSError:
        return False


def _drop_checkpoints(log: Path, first: int) -> None:
    """A checkpoint repeats what the entries say: without it they are read one by one."""
    for checkpoint in log.glob("*.checkpoint*.parquet"):
        if int(checkpoint.name.split(".")[0]) >= first:
            checkpoint.unlink()
            (log / "_last_checkpoint").unlink(missing_ok=True)
