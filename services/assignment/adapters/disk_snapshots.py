"""The last known rulesets on the disk, one file a project.

A file is the SHA-256 of all that follows, in hexadecimal digits, a line of JSON, and the ruleset as
it is sent. It is written beside the old one and put in its place by a rename, after a sync; the old
one stays as the revision before. Whatever cannot be used is put aside whole, under a name that says
so, for somebody to look at: what damaged it may have damaged more.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf.message import DecodeError
from touchstone.assignment.v1 import ruleset_pb2

from services.assignment.adapters.serving_record import (
    SUFFIX,
    DamagedRecordError,
    ServingRecord,
    read_record,
)
from services.assignment.serving_ports import KeptRuleset

_LOG = logging.getLogger("touchstone.assignment")
_FORMAT = 1
_RULESET_FORMAT = 1
_CURRENT, _PREVIOUS, _ASIDE, _DRAFT = ".ruleset", ".previous", ".refused", ".draft"
_DIGEST_BYTES = 64


class _RefusedError(Exception):
    """A file that cannot be used, and why."""


class DiskRulesets:
    """RulesetDisk in a folder, which is made when something is kept. One process writes to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, kept: KeptRuleset) -> None:
        """See RulesetDisk."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        current, previous = self._paths(kept.project)
        # First what is off: from here on no older rules turn it on again.
        self._draft(kept.project, ServingRecord.of(kept).written()).replace(
            current.with_suffix(SUFFIX)
        )
        draft = self._draft(kept.project, _written(kept))
        self._make_room(current, previous, kept)
        draft.replace(current)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load(self) -> Sequence[KeptRuleset]:
        """See RulesetDisk."""
        if not self._folder.is_dir():
            return []
        projects = {
            path.stem
            for path in self._folder.iterdir()
            if path.suffix in (_CURRENT, _PREVIOUS) and path.is_file()
        }
        found = [self._newest(project) for project in sorted(projects)]
        return [self._as_it_is_off(kept) for kept in found if kept is not None]

    def lists(self, project: str | None = None) -> frozenset[str]:
        """The digests of the id lists that kept rulesets name, of one project or of all.

        Nothing is put aside.
        """
        found: set[str] = set()
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.suffix in (_CURRENT, _PREVIOUS) and project in (None, path.stem):
                # A damaged one decides nothing, and one that is gone was just replaced.
                with suppress(_RefusedError, OSError):
                    kept = ruleset_pb2.Ruleset.FromString(_read(path, path.stem).ruleset)
                    found.update(audience.digest for audience in kept.audiences)
        return frozenset(found)

    def _draft(self, project: str, content: bytes) -> Path:
        """A file beside the others, which is on the disk for certain."""
        draft = self._folder / f"{project}{_DRAFT}"
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return draft

    def _make_room(self, current: Path, previous: Path, kept: KeptRuleset) -> None:
        """Keep the file before this one; a newer one comes from another store."""
        for path in (current, previous):
            found = self._usable(path, kept.project)
            if found is not None and found.config_version > kept.config_version:
                _put_aside(path, f"version {found.config_version} is newer than that of the store")
            elif found is not None and path is current and found.ruleset != kept.ruleset:
                current.replace(previous)

    def _newest(self, project: str) -> KeptRuleset | None:
        current, previous = self._paths(project)
        now, before = self._usable(current, project), self._usable(previous, project)
        if now and before and now.config_version < before.config_version:
            _put_aside(current, f"version {now.config_version} is older than the one before")
            return before
        return now or before

    def _as_it_is_off(self, kept: KeptRuleset) -> KeptRuleset:
        """The rules, in which nothing serves that the newest ones turned off."""
        path = self._folder / f"{kept.project}{SUFFIX}"
        try:
            record = read_record(path, kept.project)
        except (DamagedRecordError, OSError) as error:
            _put_aside(path, str(error))
            return kept
        return kept if record is None else record.held_against(kept)

    def _usable(self, path: Path, project: str) -> KeptRuleset | None:
        """What a file holds; None when there is no file, or it was put aside."""
        try:
            return _read(path, project)
        except FileNotFoundError:
            return None
        except (_RefusedError, OSError) as error:
            _put_aside(path, str(error))
            return None

    def _paths(self, project: str) -> tuple[Path, Path]:
        return self._folder / f"{project}{_CURRENT}", self._folder / f"{project}{_PREVIOUS}"


def _written(kept: KeptRuleset) -> bytes:
    header = {
        "format": _FORMAT,
        "project": kept.project,
        "config_version": kept.config_version,
        "confirm_time": kept.confirm_time.isoformat(),
    }
    content = json.dumps(header).encode() + b"\n" + kept.ruleset
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _read(path: Path, project: str) -> KeptRuleset:
    """The content of a whole file of this project; _RefusedError for any other."""
    data = path.read_bytes()
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES + 1 :]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise _RefusedError("it is damaged: its checksum differs")
    line, _, body = content.partition(b"\n")
    try:
        header = json.loads(line)
        known = header["format"] == _FORMAT
        ruleset = ruleset_pb2.Ruleset.FromString(body)
        time = datetime.fromisoformat(header["confirm_time"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError, DecodeError) as error:
        raise _RefusedError(f"it is no file of this program: {type(error).__name__}") from error
    if not known or ruleset.format > _RULESET_FORMAT:
        raise _RefusedError("a newer program wrote it")
    if not header["project"] == ruleset.project == project:
        raise _RefusedError(f"it is of project {header['project']!r}")
    return KeptRuleset(project, ruleset.config_version, time, body)


def _put_aside(path: Path, why: str) -> None:
    aside = path.with_name(path.name + _ASIDE)
    _LOG.error(
        "a kept configuration is refused and put aside",
        extra={"file": path.name, "aside": aside.name, "detail": why},
    )
    path.replace(aside)
