"""What a backup says of itself: every file with its size and checksum, and the moment it is of.

A backup is a folder. Its manifest is written last, and the folder gets its name when everything is
on the disk: what has the name of a backup is whole.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shared.errors import DomainError, failed_precondition, invalid, shown

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"
ID_FORM = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SQLITE, POSTGRESQL = "sqlite", "postgresql"


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A file of a backup, by its path in the folder, which is its path in a data folder too."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup. `operation` is the resource name of the operation that made it. Every event that
    was acknowledged before `begin_time` is in it.

    `state` says where the state database is: in the backup (sqlite), or with the operator's own
    tools (postgresql).
    """

    backup_id: str
    begin_time: dt.datetime
    create_time: dt.datetime
    product_version: str
    journal_id: str
    journal_position: int
    state: str
    operation: str
    files: tuple[BackupFile, ...]

    @property
    def size_bytes(self) -> int:
        """What its files take."""
        return sum(file.size_bytes for file in self.files)

    def by_path(self) -> Mapping[str, BackupFile]:
        """Its files by their paths."""
        return {file.path: file for file in self.files}


def require_backup_id(backup_id: str) -> str:
    """The id, when it can be the name of a backup. Raises INVALID_ARGUMENT."""
    if not ID_FORM.fullmatch(backup_id):
        raise invalid("backup_id", backup_id, "1 to 63 of a-z, 0-9 and '-', not beginning with '-'")
    return backup_id


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as it is written, with a checksum of its own."""
    fields = asdict(manifest) | {
        "format_version": FORMAT_VERSION,
        "begin_time": manifest.begin_time.isoformat(),
        "create_time": manifest.create_time.isoformat(),
    }
    return _encoded(fields | {"sha256": _digest(fields)})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup.

    FAILED_PRECONDITION when there is none, when it is damaged or not ours, or when a newer program
    wrote it.
    """
    path = folder / FILE_NAME
    try:
        fields = json.loads(path.read_bytes())
        version = int(fields["format_version"])
    except OSError as error:
        raise damaged(folder, f"{FILE_NAME} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, f"{FILE_NAME} is not that of a backup") from error
    if version > FORMAT_VERSION:
        raise failed_precondition(
            "NEWER_VERSION",
            f"the backup in {folder} has format {version}; this program reads up to "
            f"{FORMAT_VERSION}: use the newer version of Touchstone that wrote it",
        )
    try:
        return _parsed(fields)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, f"{FILE_NAME} is not as it was written") from error


def damaged(folder: Path, what: str) -> DomainError:
    """A backup that must not be used."""
    return failed_precondition(
        "STORAGE_UNAVAILABLE",
        f"the backup in {folder} is not whole: {what}; nothing was restored: use another backup",
    )


def _parsed(fields: dict[str, Any]) -> Manifest:
    written = fields.pop("sha256")
    if written != _digest(fields):
        raise ValueError("checksum")
    files = tuple(
        BackupFile(_safe(str(f["path"])), int(f["size_bytes"]), str(f["sha256"]))
        for f in fields["files"]
    )
    return Manifest(
        backup_id=str(fields["backup_id"]),
        begin_time=dt.datetime.fromisoformat(fields["begin_time"]),
        create_time=dt.datetime.fromisoformat(fields["create_time"]),
        product_version=str(fields["product_version"]),
        journal_id=str(fields["journal_id"]),
        journal_position=int(fields["journal_position"]),
        state=str(fields["state"]),
        operation=str(fields["operation"]),
        files=files,
    )


def _safe(path: str) -> str:
    """The path, when it cannot lead out of the folder; a manifest may come from anywhere."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and "\\" not in path and "\0" not in path
    if not parts or not plain or path.startswith("/") or ".." in parts:
        raise ValueError(f"path {shown(path)}")
    return path


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(_encoded(fields)).hexdigest()


def _encoded(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()
