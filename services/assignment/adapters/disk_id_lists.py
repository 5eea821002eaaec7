"""Contents of id lists on the disk, beside the rulesets that need them."""

import hashlib
import logging
import os
from pathlib import Path

from services.assignment.ports import IdLists

_LOG = logging.getLogger("touchstone.assignment")


class DiskIdLists:
    """IdLists that keeps each content that decides in a file of its digest's name.

    The name is the checksum: a file that is damaged is read from the store again. A file that
    nothing needs any more may be deleted at any time.
    """

    def __init__(self, lists: IdLists, folder: Path) -> None:
        self._lists = lists
        self._folder = folder

    def fingerprints(self, project: str, digest: str) -> bytes:
        """See IdLists: whose content it is only the store knows."""
        return self._lists.fingerprints(project, digest)

    def anywhere(self, digest: str) -> bytes | None:
        """See IdLists; while the store is away, what the disk has."""
        path = self._folder / digest
        try:
            content = path.read_bytes()
        except OSError:
            pass
        else:
            if hashlib.sha256(content).hexdigest() == digest:
                return content
            _LOG.error("a kept id list is damaged", extra={"file": path.name})
        found = self._lists.anywhere(digest)
        if found is not None:
            self._keep(path, found)
        return found

    def _keep(self, path: Path, content: bytes) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_suffix(".draft")
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            _LOG.warning("an id list cannot be kept on the disk", extra={"detail": error.strerror})
