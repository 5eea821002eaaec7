"""Backups in a folder, each a folder of its own that has its name only when it is whole.

A file of the tables never changes, so one that the newest backup has is linked from there, after
its checksum was read again, and takes no room twice. It is never linked from the tables: what
damages a file there would damage the backup.
"""

import datetime as dt
import logging
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.events.adapters import backup_parts as parts
from services.events.adapters.backup_parts import Part
from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.application.create_backup import CreateBackup, Times
from shared import errors
from shared.backup.files import PRIVATE_FOLDER, copied, fsync_tree, hashed, private_folder, written
from shared.backup.manifest import (
    FILE_NAME,
    ID_FORM,
    POSTGRESQL,
    SQLITE,
    BackupFile,
    Manifest,
    encode_manifest,
    read_manifest,
    require_backup_id,
)
from shared.backup.restore import AUDIT_KEY, ERASURES, JOURNAL, REJECTED, STATE
from shared.errors import Code, DomainError
from shared.lake.durable import fsync_file, fsync_folder
from shared.lake.watermark import Watermark, write_watermark
from shared.state.database import Database
from shared.version import VERSION

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """The installation. `settled` encodes the response that the operation of a backup has in the
    copy of the state.
    """

    lake: Path
    watermark: Callable[[], Watermark]
    database: Database
    rejected: SqliteRejectedEvents
    rejected_path: Path
    audit_key: Path
    erasures: Path
    settled: Callable[[Manifest], bytes]


class BackupFolder:
    """See Backups."""

    def __init__(self, root: Path, sources: Sources) -> None:
        self._root = root
        self._sources = sources
        self._one = threading.Lock()

    def find(self, backup_id: str) -> Manifest | None:
        """See Backups."""
        folder = self._root / require_backup_id(backup_id)
        return read_manifest(folder) if _is_backup(folder) else None

    def newest_first(self) -> list[Manifest]:
        """See Backups. One that cannot be read is left out, and the log says why."""
        found = []
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            if ID_FORM.fullmatch(folder.name) and _is_backup(folder):
                try:
                    found.append(read_manifest(folder))
                except DomainError as error:
                    _LOG.warning("left out of the backups: %s", error.message)
        return sorted(found, key=lambda m: (m.create_time, m.backup_id), reverse=True)

    def delete(self, backup_id: str) -> None:
        """See Backups."""
        folder = self._root / require_backup_id(backup_id)
        if not _is_backup(folder):
            raise errors.not_found("backup", backup_id)
        # Without its name it is no backup any more, however far the rest comes.
        doomed = self._root / f".{backup_id}.deleted"
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        fsync_folder(self._root)
        shutil.rmtree(doomed, ignore_errors=True)

    @contextmanager
    def draft(self, request: CreateBackup) -> Iterator["FolderDraft"]:
        """See Backups."""
        final = self._root / require_backup_id(request.backup_id)
        if not self._one.acquire(blocking=False):
            raise errors.unavailable("WRONG_STATE", "another backup is being made: it waits", 5.0)
        folder = self._root / f".{request.backup_id}.partial"
        try:
            private_folder(self._root)
            if final.exists() or final.is_symlink():
                raise errors.already_exists("backup", request.backup_id)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(PRIVATE_FOLDER)
            newest = next(iter(self.newest_first()), None)
            yield FolderDraft(folder, final, request, self._sources, newest)
        except (OSError, sqlite3.Error) as error:
            raise _cannot_be_made(self._root, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._one.release()


class FolderDraft:
    """See Draft."""

    def __init__(
        self,
        folder: Path,
        final: Path,
        request: CreateBackup,
        sources: Sources,
        newest: Manifest | None,
    ) -> None:
        self._folder = folder
        self._final = final
        self._request = request
        self._sources = sources
        self._newest = {} if newest is None else newest.by_path()
        self._newest_folder = final.parent / (newest.backup_id if newest else "")
        self._files: list[BackupFile] = []
        self._cut = sources.watermark()
        self._parts = [
            part
            for name, version in self._cut.table_versions.items()
            for part in parts.table_parts(sources.lake, name, version)
        ]

    def size_bytes(self) -> int:
        """See Draft."""
        new = sum(part.size_bytes for part in self._parts if not self._is_known(part))
        others = sum(path.stat().st_size for path in self._databases())
        free = shutil.disk_usage(self._folder).free
        if new + others > free:
            raise _too_small(self._final.parent, new + others, free)
        return sum(part.size_bytes for part in self._parts) + others

    def tables(self) -> Iterator[int]:
        """See Draft."""
        for part in self._parts:
            file = self._linked(part) or self._copied(part)
            self._files.append(file)
            yield file.size_bytes
        write_watermark(self._folder / "lake", self._cut)
        self._written("lake/_watermark.json")

    def state(self) -> Iterator[int]:
        """See Draft."""
        sources = self._sources
        parts.empty_journal(self._place(JOURNAL), self._cut.journal_id, self._cut.position)
        yield self._written(JOURNAL)
        sources.rejected.copy_to(self._place(REJECTED))
        parts.check_sqlite(sources.rejected_path, self._place(REJECTED))
        yield self._written(REJECTED)
        if sources.database.is_sqlite:
            live = Path(sources.database.engine.url.database or "")
            parts.copy_sqlite(live, self._place(STATE))
            now = dt.datetime.now(dt.UTC)
            response = sources.settled(self._manifest(Times(now, now)))
            parts.settle_operation(self._place(STATE), self._request.operation, response)
            yield self._written(STATE)
        copied(sources.audit_key, self._place(AUDIT_KEY))
        yield self._written(AUDIT_KEY)
        # The ledger and its key, and not the folder of plain ids whose erasure is under way.
        for source in sorted(sources.erasures.glob("[!.]*")):
            if not source.is_file():
                continue
            path = f"{ERASURES}/{source.name}"
            copied(source, self._place(path))
            yield self._written(path)

    def complete(self, times: Times) -> Manifest:
        """See Draft."""
        manifest = self._manifest(times)
        written(self._folder / FILE_NAME, encode_manifest(manifest))
        fsync_tree(self._folder)
        self._folder.rename(self._final)
        fsync_folder(self._final.parent)
        return manifest

    def _manifest(self, times: Times) -> Manifest:
        return Manifest(
            backup_id=self._request.backup_id,
            begin_time=times.begin,
            create_time=times.complete,
            product_version=VERSION,
            journal_id=self._cut.journal_id,
            journal_position=self._cut.position,
            state=SQLITE if self._sources.database.is_sqlite else POSTGRESQL,
            operation=self._request.operation,
            files=tuple(self._files),
        )

    def _linked(self, part: Part) -> BackupFile | None:
        """The part as the newest backup has it, if it still does."""
        if not self._is_known(part):
            return None
        known = self._newest[part.path]
        path = self._newest_folder / part.path
        try:
            if hashed(path) != (known.size_bytes, known.sha256):
                return None
            self._place(part.path).hardlink_to(path)
        except OSError:  # it was deleted meanwhile, or the disk knows no links
            return None
        return known

    def _is_known(self, part: Part) -> bool:
        known = self._newest.get(part.path)
        return part.never_changes and known is not None and known.size_bytes == part.size_bytes

    def _copied(self, part: Part) -> BackupFile:
        try:
            size, digest = copied(part.source, self._place(part.path))
        except FileNotFoundError as error:
            raise _is_gone(part) from error
        if size != part.size_bytes:
            raise _has_another_size(part, size)
        return BackupFile(part.path, size, digest)

    def _databases(self) -> Iterator[Path]:
        yield self._sources.rejected_path
        if self._sources.database.is_sqlite:
            yield Path(self._sources.database.engine.url.database or "")

    def _place(self, path: str) -> Path:
        place = self._folder / path
        private_folder(place.parent)
        return place

    def _written(self, path: str) -> int:
        """Note a file that stands where it belongs; its size."""
        place = self._place(path)
        place.chmod(0o600)
        size, digest = hashed(place)
        fsync_file(place)
        self._files.append(BackupFile(path, size, digest))
        return size


def _is_backup(folder: Path) -> bool:
    return not folder.is_symlink() and (folder / FILE_NAME).is_file()


def _is_gone(part: Part) -> DomainError:
    # Events may just have been erased; the next attempt takes a newer version of the tables.
    return DomainError(
        Code.ABORTED,
        "STORAGE_UNAVAILABLE",
        f"{part.source} is gone: either it was just replaced, or the tables are damaged",
    )


def _has_another_size(part: Part, size: int) -> DomainError:
    return errors.failed_precondition(
        "STORAGE_UNAVAILABLE",
        f"{part.source} has {size} bytes, written were {part.size_bytes}: it is damaged and not "
        "backed up; restore the newest backup that verifies, as the how-to for backups says",
    )


def _too_small(root: Path, needed: int, free: int) -> DomainError:
    return errors.failed_precondition(
        "STORAGE_UNAVAILABLE",
        f"the backup takes {needed} bytes and {root} has {free} left: free some space, delete old "
        "backups, or set TOUCHSTONE_BACKUPS to a folder on a larger disk",
    )


def _cannot_be_made(root: Path, error: Exception) -> DomainError:
    return errors.failed_precondition(
        "STORAGE_UNAVAILABLE",
        f"no backup can be made in {root} ({error}): check that the folder can be written and has "
        "space left; TOUCHSTONE_BACKUPS names it",
    )
