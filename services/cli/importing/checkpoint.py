"""What is known of an unfinished import, so that it goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """How far an import has come."""

    rows_read: int = 0
    events_accepted: int = 0
    events_duplicate: int = 0
    rows_rejected: int = 0
    rows_partly: int = 0
    rejects_bytes: int = 0
    rejects_file: str = ""


class Checkpoint:
    """A file in the data folder; it exists while the import is unfinished.

    `identity` is everything that makes it this import: the file, the mapping, the project. What
    another import left under the name is not gone on with.
    """

    def __init__(self, folder: Path, name: str, identity: Mapping[str, object]) -> None:
        text = json.dumps(identity, sort_keys=True, default=str)
        self._identity = hashlib.sha256(text.encode()).hexdigest()
        self.path = folder / f"{name}.json"

    def load(self) -> Counts:
        """How far this import had come; nothing when it is new, done, or cannot be read."""
        try:
            stored = json.loads(self.path.read_text())
            if (stored["version"], stored["identity"]) != (_VERSION, self._identity):
                return Counts()
            return Counts(**stored["counts"])
        except (OSError, ValueError, KeyError, TypeError):
            # At worst everything is sent again, and found to be there.
            return Counts()

    def save(self, counts: Counts) -> None:
        """Replaces what was known, whole or not at all."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".{os.getpid()}")
        document = {"version": _VERSION, "identity": self._identity, "counts": asdict(counts)}
        draft.write_text(json.dumps(document))
        draft.replace(self.path)

    def clear(self) -> None:
        """The import is done."""
        self.path.unlink(missing_ok=True)
