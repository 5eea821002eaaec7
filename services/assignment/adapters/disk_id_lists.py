"""Contents of id lists on the disk, beside the rulesets that need them."""

import logging
import os
from pathlib import Path

from touchstone_assignment.conditions.id_set import digest_of

from services.assignment.ports import IdLists

_LOG = logging.getLogger("touchstone.assignment")
_DRAFT = ".draft"
MAX_BYTES = 1_073_741_824


class DiskIdLists:
    """IdLists that keeps each content that decides in a file of its digest's name.

    The name is the checksum: a file that is damaged is read from the store again. Beyond
    `max_bytes` the files that were used longest ago go first, and anybody may delete one that
    nothing needs. One process writes to the folder.
    """

    def __init__(self, lists: IdLists, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._lists = lists
        self._folder = folder
        self._max_bytes = max_bytes

    def fingerprints(self, project: str, digest: str) -> bytes:
        """See IdLists: whose content it is only the store knows."""
        return self._lists.fingerprints(project, digest)

    def anywhere(self, digest: str) -> bytes | None:
        """See IdLists; while the store is away, what the disk has."""
        path = self._folder / digest
        content = _read(path)
        if content is None:
            content = self._lists.anywhere(digest)
            if content is not None:
                self._keep(path, content)
        return content

    def _keep(self, path: Path, content: bytes) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_suffix(_DRAFT)
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            self._make_room(path)
        except OSError as error:
            _LOG.warning("an id list cannot be kept on the disk", extra={"detail": error.strerror})

    def _make_room(self, newest: Path) -> None:
        files = [path for path in self._folder.iterdir() if path.suffix != _DRAFT]
        used = sorted(((path.stat().st_mtime_ns, path) for path in files), reverse=True)
        total = 0
        for _, path in used:
            total += path.stat().st_size
            if total > self._max_bytes and path != newest:
                path.unlink()


def _read(path: Path) -> bytes | None:
    """The content of a file that is whole; it counts as used now."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    if digest_of(content) != path.name:
        _LOG.error("a kept id list is damaged", extra={"file": path.name})
        return None
    return content
