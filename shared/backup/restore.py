"""Make a data folder from a backup, with no service running."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shared.backup.files import PRIVATE_FOLDER, copied, fsync_tree, verify
from shared.backup.manifest import Manifest, damaged, read_manifest
from shared.errors import failed_precondition
from shared.ids import IdGenerator
from shared.lake.durable import fsync_file, fsync_folder

JOURNAL = "events/journal.db"
_ID_CHARACTERS = 26


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and the id of the log of events that goes on from there."""

    manifest: Manifest
    journal_id: str


def restore(backup: Path, data: Path, ids: IdGenerator) -> Restored:
    """Restore a backup into a data folder that is empty or not there.

    Everything is verified first and again while it is copied; the folder appears when all of it is
    on the disk. The log of events goes on under a new id: positions that the old log gave to events
    after the backup mean nothing in it. FAILED_PRECONDITION when the backup is not whole or the
    folder cannot be used.
    """
    backup = backup.resolve()
    manifest = read_manifest(backup)
    _require_empty(data)
    verify(backup, manifest)
    try:
        draft = data.parent / f".{data.name}.restoring"
        data.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(PRIVATE_FOLDER)
        _fill(draft, backup, manifest)
        journal_id = _renew_journal(draft / JOURNAL, ids)
        fsync_tree(draft)
        draft.rename(data)
        fsync_folder(data.parent)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise failed_precondition(
            "STORAGE_UNAVAILABLE",
            f"{data} cannot be written ({error.strerror}); nothing was restored: free some space "
            "or name another folder",
        ) from error
    return Restored(manifest, journal_id)


def _require_empty(data: Path) -> None:
    if data.is_symlink() or (data.exists() and not data.is_dir()):
        found = "is not a folder"
    elif data.exists() and any(data.iterdir()):
        found = "is not empty"
    else:
        return
    raise failed_precondition(
        "WRONG_STATE",
        f"{data} {found}; a backup is restored into a folder that is empty or does not exist: "
        "name another one with --data, or move this one away",
    )


def _fill(draft: Path, backup: Path, manifest: Manifest) -> None:
    for file in manifest.files:
        target = draft / file.path
        target.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        if copied(backup / file.path, target) != (file.size_bytes, file.sha256):
            raise damaged(backup, f"{file.path} changed while it was read")


def _renew_journal(path: Path, ids: IdGenerator) -> str:
    """Positions ascend from where they were; under the new id none is given twice."""
    journal_id = ids.new(_ID_CHARACTERS)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("UPDATE identity SET journal_id = ?", (journal_id,))
    fsync_file(path)
    return journal_id
