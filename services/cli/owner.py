"""The key that a newcomer needs: made on the first start, found by every command after."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.settings import CliSettings
from shared import errors
from shared.errors import Code, DomainError

# What touches the state is slow to load, and few commands need it: it is loaded where it is used.
if TYPE_CHECKING:
    from shared.security.keys import ApiKey
    from shared.server.run import Platform

OWNER_ONLY = 0o600


def prepare(
    settings: CliSettings, project: str, key_file: Path | None = None, *, operator: bool = False
) -> ApiKey:
    """Makes what a first start needs: the data folder, the state database, the project and its
    owner key, kept in `key_file` (None: the folder's own) and readable for this user alone.

    With `operator` the key is one that looks after the installation instead. Safe to repeat.
    Raises FAILED_PRECONDITION when the folder or the database cannot be used, or when the key in
    the folder is of another database or project.
    """
    from shared.security.bootstrap import make_operator_key, make_owner_key
    from shared.server.platform import open_platform, write_secret_once

    platform = open_platform(settings)
    try:
        path = key_file or (settings.operator_key_path if operator else settings.owner_key_path)
        if not path.exists():
            make = make_operator_key if operator else make_owner_key
            new = make(
                platform.database, platform.audit_keys, platform.clock, platform.ids, project
            )
            write_secret_once(path, new.text + "\n")
            return new.key
        return _stored_key(platform, path, project)
    finally:
        platform.database.close()


def find_key(settings: CliSettings, *, operator: bool = False) -> tuple[str, str]:
    """The key to call with, and where it was found. Raises UNAUTHENTICATED when there is none."""
    if text := settings.api_key.get_secret_value():
        return _looking_like_key(text, "TOUCHSTONE_API_KEY"), "TOUCHSTONE_API_KEY"
    path = settings.operator_key_path if operator else settings.owner_key_path
    try:
        return _looking_like_key(path.read_text().strip(), str(path)), str(path)
    except FileNotFoundError as error:
        advice = (
            "make it on the machine of the services with `touchstone keys bootstrap --operator`, "
            "or name their data folder with --data"
            if operator
            else "start the services here with `touchstone up`, or name their data folder with "
            "--data"
        )
        raise DomainError(
            Code.UNAUTHENTICATED,
            "INVALID_CREDENTIAL",
            f"no key: TOUCHSTONE_API_KEY is not set and {path} does not exist; {advice}",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DomainError(
            Code.UNAUTHENTICATED,
            "INVALID_CREDENTIAL",
            f"the key file {path} cannot be read ({error}); make it readable for this user",
        ) from error


def _looking_like_key(text: str, source: str) -> str:
    """The text, when a call can carry it. The error does not show it: it may be secret."""
    if text.startswith("ts_") and text.isascii() and text.isprintable() and " " not in text:
        return text
    raise DomainError(
        Code.UNAUTHENTICATED,
        "INVALID_CREDENTIAL",
        f"{source} does not hold a key; allowed: ts_, then letters, digits and underscores, as "
        "`touchstone keys create` shows it",
    )


def open_to_others(path: Path) -> bool:
    """Whether anybody but the file's owner may read or write it."""
    return bool(stat.S_IMODE(path.stat().st_mode) & ~OWNER_ONLY)


def _stored_key(platform: Platform, path: Path, project: str) -> ApiKey:
    from shared.security.keys import SqlKeyStore, authenticate, split_key

    parts = split_key(path.read_text().strip())
    if parts is None:
        raise _unusable(path, "does not hold a key (ts_..._...)")
    key_id, secret_hash = parts
    with platform.database.read() as connection:
        key = SqlKeyStore(connection).find(key_id)
    if key is None:
        raise _unusable(path, "holds a key that the state database does not know")
    verdict = authenticate(key, secret_hash, platform.clock.now())
    if isinstance(verdict, str):
        raise _unusable(path, f"holds a key that is no longer good ({verdict})")
    if key.project != project:
        raise errors.failed_precondition(
            "WRONG_STATE",
            f"the owner key in {path} is of project {key.project!r}, not {project!r}; say "
            f"--project {key.project}, or use another data folder",
        )
    return key


def _unusable(path: Path, why: str) -> DomainError:
    return errors.failed_precondition(
        "WRONG_STATE",
        f"{path} {why}; move the file away and start again to make a new owner key",
    )
