"""Keys on the disk, for a service that has to start while the state database is away.

The file holds the keys that this process met, as the database last had them: never a secret, only
its hash. It is written anew when a key is met for the first time, and once a minute with everything
read again, so that what was revoked is known to the minute before the database went away. What is
revoked or expired is dropped. When the file is full, keys that are met later are not kept before
others were dropped.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shared.security.caller import Role
from shared.security.keys import ApiKey

_LOG = logging.getLogger("touchstone.security")
_FORMAT = 1
_AGAIN = dt.timedelta(minutes=1)
MOST = 10_000
"""Keys that are kept: a file of about 4 MB."""


class KeptKeys:
    """The keys of one file, which is read once. Safe in several threads; every method may block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._keys: dict[str, ApiKey] | None = None
        self._time: dt.datetime | None = None

    def find(self, key_id: str) -> tuple[ApiKey, dt.datetime] | None:
        """A key, and when the database last had it so; None when it was never met."""
        with self._lock:
            key = self._loaded().get(key_id)
            return None if key is None or self._time is None else (key, self._time)

    def due(self, key: ApiKey, now: dt.datetime) -> frozenset[str]:
        """The ids of the keys to read again now that this one was met; none when all is fresh."""
        with self._lock:
            keys = self._loaded()
            fresh = self._time is not None and now - self._time < _AGAIN
            old = keys.get(key.key_id)
            new = old is None and key.refusal(now) is None and len(keys) < MOST
            if fresh and not new and old in (None, key):
                return frozenset()
            return frozenset((*keys, key.key_id) if new else keys)

    def put(self, keys: Iterable[ApiKey], now: dt.datetime) -> None:
        """Keep those of these that are good now, and no others.

        A disk that takes nothing is logged; memory has them still.
        """
        with self._lock:
            self._keys = {key.key_id: key for key in keys if key.refusal(now) is None}
            self._time = now
            content = _written(self._keys.values(), now)
            draft = self._path.with_suffix(".draft")
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with open(draft, "wb", opener=_private) as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(self._path)
            except OSError as error:
                _LOG.warning("keys cannot be kept on the disk", extra={"detail": error.strerror})

    def _loaded(self) -> dict[str, ApiKey]:
        if self._keys is None:
            self._keys = {}
            try:
                found, self._time = _read(self._path.read_bytes())
                self._keys = {key.key_id: key for key in found}
            except FileNotFoundError:
                pass
            except (OSError, ValueError, KeyError, TypeError) as error:
                _LOG.error(
                    "kept keys are refused and put aside", extra={"detail": type(error).__name__}
                )
                self._path.replace(self._path.with_suffix(".refused"))
        return self._keys


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _written(keys: Iterable[ApiKey], now: dt.datetime) -> bytes:
    content = json.dumps(
        {"format": _FORMAT, "time": now.isoformat(), "keys": [_document(key) for key in keys]}
    ).encode()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _read(data: bytes) -> tuple[list[ApiKey], dt.datetime]:
    digest, _, content = data.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("the checksum differs")
    found = json.loads(content)
    if found["format"] != _FORMAT:
        raise ValueError("another program wrote it")
    time = dt.datetime.fromisoformat(found["time"])
    return [_key(document) for document in found["keys"]], time


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "project": key.project,
        "display_name": key.display_name,
        "roles": sorted(role.value for role in key.roles),
        "secret_hash": key.secret_hash.hex(),
        "create_time": key.create_time.isoformat(),
        "expire_time": key.expire_time.isoformat() if key.expire_time else None,
        "revoke_time": key.revoke_time.isoformat() if key.revoke_time else None,
    }


def _key(document: Mapping[str, Any]) -> ApiKey:
    return ApiKey(
        key_id=document["key_id"],
        project=document["project"],
        display_name=document["display_name"],
        roles=frozenset(Role(role) for role in document["roles"]),
        secret_hash=bytes.fromhex(document["secret_hash"]),
        create_time=dt.datetime.fromisoformat(document["create_time"]),
        expire_time=_time(document["expire_time"]),
        revoke_time=_time(document["revoke_time"]),
    )


def _time(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)
