"""Make a data folder from a backup, with no service running."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from shared.backup.files import PRIVATE_FOLDER, copied, fsync_tree, private_folder, verify
from shared.backup.manifest import Manifest, damaged, read_manifest
from shared.errors import DomainError, failed_precondition, invalid
from shared.ids import IdGenerator
from shared.lake.durable import fsync_file, fsync_folder
from shared.lake.watermark import read_watermark, write_watermark
from shared.security.audit import AuditKeys
from shared.security.erasure_ledger import FILE, KEY_FILE, ErasureLedger

STATE, JOURNAL, REJECTED = "state.db", "events/journal.db", "events/rejected.db"
AUDIT_KEY, ERASURES, LAKE = "audit.key", "erasures", "lake"
"""Where the parts of an installation stand in a data folder, and in a backup of it."""
_ID_CHARACTERS = 26


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, the id of the log of events that goes on from there, and how many entries
    of a newer ledger of erasures were taken over.
    """

    manifest: Manifest
    journal_id: str
    later_erasures: int


def restore(backup: Path, data: Path, ids: IdGenerator, erasures: Path | None = None) -> Restored:
    """Restore a backup into a data folder that is empty or not there.

    Everything is verified first and again while it is copied; the folder appears when all of it is
    on the disk. The log of events goes on under a new id: positions that the old log gave to events
    after the backup mean nothing in it. `erasures` is the newest ledger of erasures that is left:
    what was erased after the backup is erased again when the service starts. FAILED_PRECONDITION
    when the backup is not whole or a folder cannot be used.
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
        _renew_watermark(draft / LAKE, journal_id)
        later = _merge_erasures(draft, erasures) if erasures else 0
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
    except DomainError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Restored(manifest, journal_id, later)


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
        private_folder(target.parent)
        if copied(backup / file.path, target) != (file.size_bytes, file.sha256):
            raise damaged(backup, f"{file.path} changed while it was read")


def _merge_erasures(draft: Path, newest: Path) -> int:
    if not (newest / FILE).is_file():
        raise invalid("--erasures", str(newest), f"a folder with a ledger of erasures, {FILE}")
    text = (draft / AUDIT_KEY).read_text()
    keys = AuditKeys(tuple(bytes.fromhex(line) for line in text.split()))
    if not (draft / ERASURES / FILE).exists():
        # The installation erased nothing before the backup: its digests begin with the newest.
        for name in (FILE, KEY_FILE):
            (draft / ERASURES).mkdir(PRIVATE_FOLDER, exist_ok=True)
            (draft / ERASURES / name).unlink(missing_ok=True)
            copied(newest / name, draft / ERASURES / name)
        return sum(1 for _ in (newest / FILE).open("rb"))
    ledger = ErasureLedger(draft / ERASURES, keys)
    try:
        return ledger.merge(newest)
    finally:
        ledger.close()


def _renew_journal(path: Path, ids: IdGenerator) -> str:
    """Positions ascend from where they were; under the new id none is given twice."""
    journal_id = ids.new(_ID_CHARACTERS)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("UPDATE identity SET journal_id = ?", (journal_id,))
    fsync_file(path)
    return journal_id


def _renew_watermark(lake: Path, journal_id: str) -> None:
    """The tables hold the log up to where it goes on under its new id.

    Else whoever waits for the tables to reach the end of the log would wait for the next event.
    """
    watermark = read_watermark(lake)
    if watermark is not None:
        write_watermark(lake, replace(watermark, journal_id=journal_id))
