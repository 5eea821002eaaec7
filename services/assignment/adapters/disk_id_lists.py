"""Contents of id lists on the disk, beside the rulesets that need them."""

import logging
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import Protocol
from weakref import WeakValueDictionary

from touchstone_assignment.conditions.id_set import digest_of

from services.assignment.adapters.disk_snapshots import DiskRulesets
from services.assignment.ports import Content, IdLists
from shared import errors
from shared.errors import Code, DomainError

_LOG = logging.getLogger("touchstone.assignment")
_DRAFT = ".draft"
MAX_BYTES = 1_073_741_824


_UNUSED_S = 3600.0
"""How long a list that no kept ruleset names may wait for the one that will."""


class StoredIdLists(IdLists, Protocol):
    """IdLists of the store, which knows whose they are."""

    def has(self, project: str, digest: str) -> bool:
        """Whether the project ever had the list; UNAVAILABLE when the store is away."""
        ...


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class _Shared:
    """Bytes that are in memory for as long as somebody sends them."""

    content: bytes

    def __len__(self) -> int:
        return len(self.content)

    def __getitem__(self, part: slice, /) -> bytes:
        return self.content[part]


class DiskIdLists:
    """IdLists that keeps each content that decides in a file of its digest's name.

    The name is the checksum: a file that is damaged is read from the store again. A file that no
    kept ruleset names goes after an hour; beyond `max_bytes` those go first, and then the ones that
    were used longest ago. Anybody may delete one that nothing needs. One process writes to the
    folder, which stands in that of the rulesets.
    """

    def __init__(self, lists: StoredIdLists, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._lists = lists
        self._folder = folder
        self._rulesets = DiskRulesets(folder.parent)
        self._max_bytes = max_bytes
        self._making_room = threading.Lock()
        self._shared: WeakValueDictionary[str, _Shared] = WeakValueDictionary()
        self._turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._taking_turns = threading.Lock()

    def fingerprints(self, project: str, digest: str) -> Content:
        """See IdLists: one content for all who send it at once, by the store or by a kept ruleset.

        While the store is away, a project has what its kept rulesets name.
        """
        self._require(project, digest)
        with self._turn(digest):
            shared = self._shared.get(digest)
            if shared is None:
                content = self.anywhere(digest)
                if content is None:
                    raise errors.not_found("id list", digest)
                shared = self._shared[digest] = _Shared(content)
            return shared

    def _require(self, project: str, digest: str) -> None:
        try:
            known = self._lists.has(project, digest)
        except DomainError as error:
            if error.code is not Code.UNAVAILABLE or digest not in self._rulesets.lists(project):
                raise
            return
        if not known:
            raise errors.not_found("id list", digest)

    def _turn(self, digest: str) -> threading.Lock:
        """Who comes second waits for the content of the first instead of reading it again."""
        with self._taking_turns:
            return self._turns.setdefault(digest, threading.Lock())

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
            # Several threads may keep the same content at once.
            handle, name = mkstemp(dir=self._folder, suffix=_DRAFT)
            draft = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            except OSError:
                draft.unlink(missing_ok=True)
                raise
            with self._making_room:
                self._make_room(path)
        except OSError as error:
            _LOG.warning("an id list cannot be kept on the disk", extra={"detail": error.strerror})

    def _make_room(self, newest: Path) -> None:
        named = self._rulesets.lists()
        files: list[tuple[bool, bool, float, int, Path]] = []
        for path in self._folder.iterdir():
            # Another thread may have put its draft in place.
            with suppress(FileNotFoundError):
                stat = path.stat()
                rank = path == newest, path.name in named
                files.append((*rank, stat.st_mtime, stat.st_size, path))
        files.sort(reverse=True)
        total, now = 0, max((file[2] for file in files), default=0.0)
        for is_newest, is_named, used, size, path in files:
            waits = now - used <= _UNUSED_S
            total += size
            over = total > self._max_bytes and path.suffix != _DRAFT
            if not is_newest and (over or not (is_named or waits)):
                path.unlink(missing_ok=True)


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
