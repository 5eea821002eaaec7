"""What was imported to its end: the same content under another name would count twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

_SHOWN = 3


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Finished:
    """The datasets under which one content was imported with one mapping.

    `identity` is everything that makes the content and its meaning, but for the dataset's name.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object]) -> None:
        text = json.dumps(identity, sort_keys=True, default=str)
        self.path = folder / "finished" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def datasets(self) -> tuple[str, ...]:
        """Their names; none when nothing is known."""
        try:
            stored = json.loads(self.path.read_text())
            return tuple(str(name) for name in stored["datasets"])
        except (OSError, ValueError, KeyError, TypeError):
            # At worst a copy is not noticed.
            return ()

    def other_than(self, dataset: str) -> str:
        """The names when the content is known under others only; otherwise empty."""
        known = self.datasets()
        return "" if dataset in known else ", ".join(known[:_SHOWN])

    def add(self, dataset: str) -> None:
        """Remembers the name."""
        known = self.datasets()
        if dataset in known:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"datasets": [*known, dataset]}))
        draft.replace(self.path)
