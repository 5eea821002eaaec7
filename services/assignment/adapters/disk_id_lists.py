"""Id lists that this server decides by, on its disk too: a restart without the store needs them."""

import logging
import os
from pathlib import Path

from touchstone_assignment.conditions.id_set import digest_of

from services.assignment.ports import IdLists

_LOG = logging.getLogger("touchstone.assignment")
_ENDING, _DRAFT = ".ids", ".draft"
MAX_BYTES = 1_073_741_824


class DiskIdLists:
    """IdLists over another one, with what was read for deciding kept in a folder.

    A content never changes under its digest, so a file is right or damaged: a damaged one is read
    from the store again. Beyond `max_bytes` the files that were used longest ago go first. One
    process writes to the folder.
    """

    def __init__(self, lists: IdLists, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._lists = lists
        self._folder = folder
        self._max_bytes = max_bytes

    def fingerprints(self, project: str, digest: str) -> bytes:
        """See IdLists; the store alone says which content is whose."""
        return self._lists.fingerprints(project, digest)

    def anywhere(self, digest: str) -> bytes | None:
        """See IdLists; what is on the disk is there while the store is away."""
        path = self._folder / f"{digest}{_ENDING}"
        content = _read(path, digest)
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
            _LOG.error(
                "an id list cannot be kept on the disk; after a restart without the store nobody "
                "would be decided for by it",
                extra={"detail": error.strerror or type(error).__name__},
            )

    def _make_room(self, newest: Path) -> None:
        used = sorted(
            ((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._files()),
            reverse=True,
        )
        total = 0
        for _, size, path in used:
            total += size
            if total > self._max_bytes and path != newest:
                path.unlink()

    def _files(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.suffix == _ENDING]


def _read(path: Path, digest: str) -> bytes | None:
    """The content of a file that is whole; it counts as used now."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    if digest_of(content) != digest:
        _LOG.warning("an id list on the disk is damaged", extra={"digest": digest})
        return None
    return content
