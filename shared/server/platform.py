"""The surroundings of a service: its data folder, the state database, the audit keys."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from shared import errors
from shared.clock import SystemClock
from shared.errors import DomainError
from shared.ids import RandomIds
from shared.security.audit import AuditKeys, SqlAuditLog
from shared.server.run import Platform
from shared.settings import Settings
from shared.state.database import Database
from shared.state.platform import migrate_platform


def open_platform(settings: Settings) -> Platform:
    """Opens what the settings name, and makes what a first start needs.

    Raises FAILED_PRECONDITION when the data folder cannot be written or the state database cannot
    be opened, or when either was written by a newer program.
    """
    prepare_folder(settings.data)
    database = Database.open(settings.state_url)
    migrate_platform(database)
    keys = _audit_keys(settings)
    try:
        _require_known_keys(database, keys, settings.audit_key_path)
    except DomainError:
        database.close()
        raise
    return Platform(database, keys, SystemClock(), RandomIds())


def open_platform_later(settings: Settings) -> Platform:
    """The same while the state database is away: nothing of it is touched.

    Until `prepare_platform` has succeeded, every use of the database raises UNAVAILABLE.

    Raises FAILED_PRECONDITION when the data folder cannot be written or there are no audit keys: a
    first start needs the database.
    """
    prepare_folder(settings.data)
    if not settings.audit_key_path.exists():
        raise errors.failed_precondition(
            "STORAGE_UNAVAILABLE",
            f"the state database cannot be reached, and there are no audit keys in "
            f"{settings.audit_key_path}: a first start needs the database",
        )
    database = Database.open(settings.state_url, away=True)
    return Platform(database, _audit_keys(settings), SystemClock(), RandomIds())


def prepare_platform(
    platform: Platform,
    settings: Settings,
    migrations: Sequence[Callable[[Database], None]] = (),
) -> None:
    """What `open_platform` does with the database, once that answers, and then `migrations`.

    Raises UNAVAILABLE while it does not, and FAILED_PRECONDITION as `open_platform` does: then the
    database stays closed to everybody else.
    """
    with platform.database.preparing():
        migrate_platform(platform.database)
        _require_known_keys(platform.database, platform.audit_keys, settings.audit_key_path)
        for migrate in migrations:
            migrate(platform.database)


def prepare_folder(folder: Path) -> None:
    """Makes the folder, for its owner only. Raises FAILED_PRECONDITION when that fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise errors.failed_precondition(
            "STORAGE_UNAVAILABLE",
            f"the data folder {folder} cannot be written ({error.strerror}); set TOUCHSTONE_DATA "
            "to a folder that this user can write",
        ) from error


def _audit_keys(settings: Settings) -> AuditKeys:
    path = settings.audit_key_path
    if settings.audit_key_file is None:
        write_secret_once(path, secrets.token_hex(32) + "\n")
    try:
        return AuditKeys(tuple(bytes.fromhex(line) for line in path.read_text().split()))
    except (OSError, ValueError) as error:
        raise errors.failed_precondition(
            "STORAGE_UNAVAILABLE",
            f"the audit keys in {path} cannot be read; each line is 64 or more hexadecimal digits",
        ) from error


def _require_known_keys(database: Database, keys: AuditKeys, path: Path) -> None:
    """A program with another key would write what every verification calls tampered with."""
    with database.read() as connection:
        unknown = SqlAuditLog(connection, keys).unknown_keys()
    if unknown:
        raise errors.failed_precondition(
            "WRONG_STATE",
            f"the audit log in the state database was last written with key {unknown[0]}, which "
            f"{path} does not hold; copy that file from the first host, and name it by "
            "TOUCHSTONE_AUDIT_KEY_FILE",
        )


def write_secret_once(path: Path, content: str) -> bool:
    """Writes a file that only its owner can read, unless it is there. True when it was written.

    Two processes that start together agree: one writes, whole, and the other finds it.
    """
    if path.exists():
        return False
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 600
    with os.fdopen(handle, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        Path(draft).unlink()
    return True
