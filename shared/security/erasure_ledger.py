"""The ledger of erasures: which units were erased, when, and the proof, without a plain id.

A file of JSON lines, only ever appended to, each synced before it counts and chained like the audit
log: the hash of a line is HMAC-SHA256, under the audit key, over the hash before it and the line.
It lies outside of what a restored backup replaces, so that what was erased stays erased. A unit is
named by a keyed digest, whose key lies in a file beside it: without the key nobody can try out ids.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shared.errors import DomainError, failed_precondition, unavailable
from shared.security.audit import AuditKeys

FILE, KEY_FILE = "ledger.jsonl", "digest.key"
VERSION = 1
_START = "0" * 64
_DIGEST_BYTES = 16
_SEPARATOR = "\x1f"
_US = 1_000_000
_CLOSED = -1


@dataclass(frozen=True, slots=True)
class ErasureRecord:
    """An erasure. `moment_us` is in microseconds since 1970, like the times within a proof."""

    project: str
    erasure_id: str
    unit_digest: str
    moment_us: int
    reason: str = ""
    proof: Mapping[str, Any] | None = None
    prove_time_us: int = 0
    chain_hash: str = ""
    mac_key_id: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    body: Mapping[str, Any]
    chain_hash: str

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """Equal for the same entry in two ledgers."""
        body = self.body
        return body["project"], body["erasure"], body["what"], body["time_us"]


@dataclass(slots=True)
class _Content:
    lines: list[_Line] = field(default_factory=list)
    records: dict[tuple[str, str], ErasureRecord] = field(default_factory=dict)
    moments: dict[str, dict[bytes, int]] = field(default_factory=dict)

    def add(self, line: _Line) -> None:
        body = line.body
        key = (str(body["project"]), str(body["erasure"]))
        if body["what"] == "tombstone":
            self.records[key] = ErasureRecord(
                *key, body["unit"], body["moment_us"], body["reason"], chain_hash=line.chain_hash
            )
            moments = self.moments.setdefault(key[0], {})
            digest = bytes.fromhex(body["unit"])
            moments[digest] = max(moments.get(digest, 0), body["moment_us"])
        elif key in self.records:
            self.records[key] = replace(
                self.records[key],
                proof=body["proof"],
                prove_time_us=body["time_us"],
                chain_hash=line.chain_hash,
                mac_key_id=body["mac_key"],
            )
        self.lines.append(line)


class ErasureLedger:
    """The ledger in a folder. One process at a time; safe to use from several threads.

    FAILED_PRECONDITION when the folder cannot be used, another process holds it, its key is not
    there any more, or an entry was changed, dropped or reordered.
    """

    def __init__(self, folder: Path, keys: AuditKeys) -> None:
        self._folder = folder
        self._keys = keys
        self._lock = threading.Lock()
        self._secret, self._file = _open(folder)
        self._content = _Content()
        try:
            for line in _read(folder, keys, _key_id(self._secret)):
                self._content.add(line)
        except DomainError:
            self._close()
            raise

    def digest(self, project: str, unit_type: str, unit_id: str) -> bytes:
        """What stands for a unit: the same in every run, and known only with the key."""
        text = f"{project}{_SEPARATOR}{unit_type}{_SEPARATOR}{unit_id}".encode()
        return hashlib.blake2b(text, digest_size=_DIGEST_BYTES, key=self._secret).digest()

    def moments(self, project: str) -> Mapping[bytes, int]:
        """The moment of erasure in microseconds by the digest of each erased unit."""
        return self._content.moments.get(project, {})

    def get(self, project: str, erasure_id: str) -> ErasureRecord | None:
        """An erasure of the project, or None."""
        return self._content.records.get((project, erasure_id))

    def records(self, project: str | None = None) -> Sequence[ErasureRecord]:
        """The erasures of a project, or of all, oldest first."""
        records = list(self._content.records.values())
        return [one for one in records if project in (None, one.project)]

    def add_tombstone(self, record: ErasureRecord, time: dt.datetime) -> None:
        """Note that a unit is erased; durable on return."""
        self._append(
            {
                "what": "tombstone",
                "project": record.project,
                "erasure": record.erasure_id,
                "unit": record.unit_digest,
                "moment_us": record.moment_us,
                "reason": record.reason,
            },
            time,
        )

    def add_proof(self, record: ErasureRecord, proof: Mapping[str, Any], time: dt.datetime) -> None:
        """Note what was done and found; durable on return. The newest proof is the one shown."""
        self._append(
            {
                "what": "proof",
                "project": record.project,
                "erasure": record.erasure_id,
                "proof": dict(proof),
            },
            time,
        )

    def merge(self, other: Path) -> int:
        """Take over what the ledger in another folder knows and this one does not.

        The number of entries taken over. FAILED_PRECONDITION when the other ledger does not hold
        or is of another installation, whose digests mean nothing here.
        """
        if not (other / FILE).exists():
            return 0
        theirs = _read(other, self._keys, _key_id(self._secret))
        with self._lock:
            known = {line.identity for line in self._content.lines}
            new = [line for line in theirs if line.identity not in known]
            for line in new:
                self._write(dict(line.body))
        return len(new)

    def close(self) -> None:
        """Let another process use it. May be called twice."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def _append(self, body: dict[str, Any], time: dt.datetime) -> None:
        with self._lock:
            self._write(body | {"time_us": int(time.timestamp() * _US)})

    def _write(self, body: dict[str, Any]) -> None:
        lines = self._content.lines
        mac_key_id, secret = self._keys.current
        body |= {"v": VERSION, "digest_key": _key_id(self._secret), "mac_key": mac_key_id}
        previous = lines[-1].chain_hash if lines else _START
        line = _Line(body, _chain_hash(secret, previous, body))
        try:
            _write_whole(self._file, json.dumps([line.body, line.chain_hash]).encode() + b"\n")
            os.fsync(self._file)
        except OSError as error:
            # A part of the line may stand there: whoever opens the file next cuts it off.
            self._close()
            raise unavailable(
                "STORAGE_UNAVAILABLE",
                f"the ledger of erasures in {self._folder} cannot be written ({error}): make room "
                "or check the disk, then restart the events service",
            ) from error
        self._content.add(line)


def _open(folder: Path) -> tuple[bytes, int]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = _secret(folder)
        file = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except (OSError, ValueError) as error:
        raise _unusable(folder, str(error)) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise _unusable(folder, "another process uses it") from error
    _cut_off_unfinished(folder / FILE)
    return secret, file


def _write_whole(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _secret(folder: Path) -> bytes:
    path = folder / KEY_FILE
    if not path.exists():
        if (folder / FILE).exists() and (folder / FILE).stat().st_size:
            raise ValueError(f"{KEY_FILE} is missing: restore it")
        draft = folder / f".{KEY_FILE}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
            new.write(secrets.token_hex(32))
            new.flush()
            os.fsync(new.fileno())
        draft.rename(path)
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    return bytes.fromhex(path.read_text().strip())


def _cut_off_unfinished(path: Path) -> None:
    """A crash may leave a part of the last line; nobody was told that it is there."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def _read(folder: Path, keys: AuditKeys, digest_key_id: str) -> list[_Line]:
    """The lines of a ledger that holds."""
    by_id = keys.by_id()
    found: list[_Line] = []
    previous = _START
    for number, (body, chain_hash) in enumerate(_parsed(folder), 1):
        if body.get("v", 0) > VERSION:
            raise failed_precondition(
                "NEWER_VERSION",
                f"line {number} of the ledger of erasures in {folder} is of a "
                "newer version: start the newer program",
            )
        secret = by_id.get(str(body.get("mac_key")))
        if secret is None:
            raise _unusable(folder, f"line {number} was made with an unknown audit key")
        if not hmac.compare_digest(chain_hash, _chain_hash(secret, previous, body)):
            raise _unusable(folder, f"line {number} or the one before it was changed")
        if body["digest_key"] != digest_key_id:
            raise _unusable(folder, f"line {number} is of another {KEY_FILE}")
        found.append(_Line(body, chain_hash))
        previous = chain_hash
    return found


def _parsed(folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for number, text in enumerate((folder / FILE).read_bytes().splitlines(keepends=True), 1):
        if not text.endswith(b"\n"):
            return
        try:
            body, chain_hash = json.loads(text)
            yield dict(body), str(chain_hash)
        except (ValueError, TypeError) as error:
            raise _unusable(folder, f"line {number} is no entry") from error


def _key_id(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()[:16]


def _chain_hash(secret: bytes, previous: str, body: Mapping[str, Any]) -> str:
    text = json.dumps([previous, body], sort_keys=True, separators=(",", ":"))
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _unusable(folder: Path, problem: str) -> DomainError:
    return failed_precondition(
        "STORAGE_UNAVAILABLE",
        f"the ledger of erasures in {folder} cannot be used ({problem}); set TOUCHSTONE_ERASURES "
        "to its folder, restore it from its newest copy, and let one events service use it",
    )
