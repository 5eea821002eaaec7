"""Undo the commits that a power cut left half-written.

What the Delta writer wrote after the last watermark was not synced: a power cut may leave a log
entry without its content, or one that names a data file without its content, and the table would
not open. The rows of such a commit are still in the journal, which is trimmed only after the
watermark. The entries are kept beside the log under another name.

Without a watermark the commits that are known to be durable are those of positions that the
journal has forgotten.
"""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from shared.lake.durable import fsync_folder

_PARQUET_MAGIC = b"PAR1"


def settled_version(table: Path, journal_id: str, settled: int) -> int:
    """The newest version that holds rows of `journal_id` up to position `settled`; -1 if none.

    What is left of a log that was cleaned up begins with a version that was durable long before.
    """
    present = sorted(_versions(table))
    cleaned = present[:1] if present and present[0] > 0 else []
    versions = cleaned + [
        version
        for version in present
        if any(
            txn.get("appId") == journal_id and txn.get("version", settled + 1) <= settled
            for txn in (action.get("txn", {}) for action in _actions(table, version))
        )
    ]
    return max(versions, default=-1)


def undo_torn_commits(table: Path, durable_version: int) -> list[int]:
    """Set the first incomplete commit after the durable version aside, and all that follow it.

    Returns their versions; empty when every commit is whole, and the table is then left alone.
    """
    log = table / "_delta_log"
    newer = sorted(version for version in _versions(table) if version > durable_version)
    # A file that a later commit replaced may be gone by right.
    replaced = {
        action["remove"]["path"]
        for version in newer
        for action in _actions(table, version)
        if "remove" in action
    }
    torn = next((v for v in newer if not _is_whole(table, v, replaced)), None)
    if torn is None:
        return []
    undone = [version for version in newer if version >= torn]
    for version in undone:
        entry = _entry(table, version)
        entry.rename(entry.with_suffix(".torn"))
    _drop_checkpoints(log, torn)
    fsync_folder(log)
    return undone


def _versions(table: Path) -> list[int]:
    log = table / "_delta_log"
    return [int(entry.stem) for entry in log.glob("*.json") if entry.stem.isdigit()]


def _entry(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020d}.json"


def _actions(table: Path, version: int) -> list[dict[str, Any]]:
    """The actions of a commit; none when its entry is not whole."""
    try:
        actions = [json.loads(line) for line in _entry(table, version).read_text().splitlines()]
    except ValueError:
        return []
    return actions if all(isinstance(action, dict) for action in actions) else []


def _is_whole(table: Path, version: int, replaced: set[str]) -> bool:
    actions = _actions(table, version)
    try:
        added = [action["add"] for action in actions if "add" in action]
        return bool(actions) and all(
            add["path"] in replaced or _is_whole_file(table / unquote(add["path"]), add["size"])
            for add in added
        )
    except (TypeError, KeyError):
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
