"""The last rules on the disk, so that a product starts without the service.

A file is one line, `touchstone-rules <format> <SHA-256 of all that follows>`, one line of JSON
with the project, the configuration version and the time of the last confirmation, and the
serialized Ruleset. It is written beside and renamed, and is taken whole or refused whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
_MAGIC = b"touchstone-rules"
_MODE = 0o600


class RefusedError(Exception):
    """Rules that are not taken; the text says why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file holds."""

    ruleset: bytes
    config_version: int
    confirmed_s: float
    """Seconds since 1970 at which the rules were last known to be the newest, by our clock."""
    service_s: float
    """The same by the service's clock, which orders what two replicas confirm."""


def outdated(version: int, service_s: float, held_version: int, held_service_s: float) -> bool:
    """Whether rules are older than those that are held.

    A lower version alone is not: a restored database counts from a lower one on. What it confirms
    is confirmed later than anything of before; what a replica that lags confirms is not.
    """
    return version < held_version and service_s <= held_service_s


def path_of(folder: Path, project: str) -> Path:
    """Where the rules of a project are kept."""
    return folder / f"{project}.rules"


def write(path: Path, project: str, kept: Kept) -> None:
    """Puts the rules in the place of those before, at once or not at all. OSError."""
    header = {
        "project": project,
        "config_version": kept.config_version,
        "confirmed_s": kept.confirmed_s,
        "service_s": kept.service_s,
    }
    body = json.dumps(header).encode() + b"\n" + kept.ruleset
    digest = hashlib.sha256(body).hexdigest().encode()
    write_file(path, b"%s %d %s\n%s" % (_MAGIC, FORMAT, digest, body))


def write_file(path: Path, content: bytes) -> None:
    """Writes beside and renames; readable by this user alone. OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Two processes may share the folder: each writes beside under a name of its own.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor has no path
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def read(path: Path, project: str) -> Kept | None:
    """The rules; None where there is no file. RefusedError when any of it is not right; OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    first, _, body = content.partition(b"\n")
    magic, _, rest = first.partition(b" ")
    number, _, digest = rest.partition(b" ")
    if magic != _MAGIC or not number.isdigit():
        raise RefusedError(f"{path} is no file of rules")
    if int(number) != FORMAT:
        raise RefusedError(
            f"{path} has format {int(number)}; this version of the client reads {FORMAT}"
        )
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise RefusedError(f"{path} is not what was written: its checksum differs")
    header, _, ruleset = body.partition(b"\n")
    try:
        said = json.loads(header)
        of, confirmed_s = said["project"], said["confirmed_s"] + 0.0
        service_s = said.get("service_s", confirmed_s) + 0.0
        kept = Kept(ruleset, said["config_version"] + 0, confirmed_s, service_s)
    except (ValueError, LookupError, TypeError) as error:
        raise RefusedError(f"{path} has a header that is none: {error}") from error
    if of != project:
        raise RefusedError(f"{path} is of project {of!r}, not of {project!r}")
    return kept
