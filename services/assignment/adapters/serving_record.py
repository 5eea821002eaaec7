"""Which experiments serve, in a file of its own beside the rules: what is off stays off.

Where the newest rules are damaged, those before them decide while the store is away. They may be
from before somebody turned the kill switch on, so this record is held against them: nothing serves
by older rules that did not serve by the newest ones.

The file is a line with the SHA-256 of the rest, and one line of JSON.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from touchstone.assignment.v1 import ruleset_pb2

from services.assignment.serving_ports import KeptRuleset

SUFFIX = ".serving"
_FORMAT = 1


class DamagedRecordError(Exception):
    """A file that is no record of this project; the text says why."""


@dataclass(frozen=True, slots=True)
class ServingRecord:
    """What served at a configuration version of a project."""

    project: str
    config_version: int
    running: frozenset[str]
    killed: frozenset[str]

    @classmethod
    def of(cls, kept: KeptRuleset) -> "ServingRecord":
        """The record of a ruleset."""
        found: dict[int, set[str]] = {}
        for rule in ruleset_pb2.Ruleset.FromString(kept.ruleset).experiments:
            found.setdefault(rule.serving, set()).add(rule.experiment)
        return cls(
            kept.project,
            kept.config_version,
            frozenset(found.get(ruleset_pb2.SERVING_RUNNING, ())),
            frozenset(found.get(ruleset_pb2.SERVING_KILLED, ())),
        )

    def held_against(self, kept: KeptRuleset) -> KeptRuleset:
        """Rules that are older than the record, with what is off by now turned off."""
        if kept.config_version >= self.config_version:
            return kept
        ruleset = ruleset_pb2.Ruleset.FromString(kept.ruleset)
        for rule in ruleset.experiments:
            if rule.experiment in self.killed:
                rule.serving = ruleset_pb2.SERVING_KILLED
            elif rule.serving == ruleset_pb2.SERVING_RUNNING and (
                rule.experiment not in self.running
            ):
                rule.serving = ruleset_pb2.SERVING_NOT_RUNNING
        body = ruleset.SerializeToString(deterministic=True)
        return KeptRuleset(kept.project, kept.config_version, kept.confirm_time, body)

    def written(self) -> bytes:
        """The content of its file."""
        content = json.dumps(
            {
                "format": _FORMAT,
                "project": self.project,
                "config_version": self.config_version,
                "running": sorted(self.running),
                "killed": sorted(self.killed),
            }
        ).encode()
        return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def read_record(path: Path, project: str) -> ServingRecord | None:
    """The record of a file, None without one; DamagedRecordError, OSError."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise DamagedRecordError("it is damaged: its checksum differs")
    try:
        found = json.loads(content)
        record = ServingRecord(
            found["project"],
            found["config_version"],
            frozenset(found["running"]),
            frozenset(found["killed"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecordError(
            f"it is no file of this program: {type(error).__name__}"
        ) from error
    if found["format"] != _FORMAT or record.project != project:
        raise DamagedRecordError("it is of another project, or a newer program wrote it")
    return record
