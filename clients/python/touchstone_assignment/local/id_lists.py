"""The id lists of audiences, in memory and on the disk, by their digests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from touchstone_assignment.conditions.id_set import IdSet
from touchstone_assignment.local.kept_rules import RefusedError, write_file
from touchstone_assignment.local.status import LOG

_FOLDER, _ENDING = "id-lists", ".ids"

Needed = Mapping[str, frozenset[str]]
"""The digests that each audience needs."""


class IdLists:
    """Content never changes under a digest, so what is on the disk is right or it is damaged.

    Changed by the thread that fetches them alone; read by any.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / _FOLDER if folder is not None else None
        self._sets: dict[str, IdSet] = {}

    @property
    def at_hand(self) -> Mapping[str, IdSet]:
        """The lists at this moment, by digest. It does not change any more."""
        return self._sets

    def missing(self, needed: Needed) -> list[str]:
        """The digests that are neither at hand nor on the disk."""
        wanted = sorted(frozenset().union(*needed.values()) - self._sets.keys())
        return [digest for digest in wanted if not self._read(digest)]

    def put(self, digest: str, fingerprints: bytes) -> None:
        """Take a list from the service. RefusedError when it is not what the digest names."""
        self._sets = {**self._sets, digest: _checked(digest, fingerprints)}
        if self._folder is None:
            return
        try:
            write_file(self._path(digest), fingerprints)
        except OSError as error:
            LOG.error("an id list cannot be kept in %s: %s", self._folder, error)

    def keep_only(self, needed: Needed) -> None:
        """Forget what no audience needs any more."""
        wanted = frozenset().union(*needed.values())
        self._sets = {digest: found for digest, found in self._sets.items() if digest in wanted}
        if self._folder is not None:
            for path in self._folder.glob(f"*{_ENDING}"):
                if path.stem not in wanted:
                    path.unlink(missing_ok=True)

    def _read(self, digest: str) -> bool:
        if self._folder is None:
            return False
        try:
            found = _checked(digest, self._path(digest).read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, RefusedError) as error:
            LOG.error("an id list on the disk is fetched anew: %s", error)
            return False
        self._sets = {**self._sets, digest: found}
        return True

    def _path(self, digest: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{digest}{_ENDING}"


def of(lists: Mapping[str, IdSet], digest: str) -> IdSet:
    """The list; one of nobody where it is not at hand."""
    return lists.get(digest) or _nobody()


@cache
def _nobody() -> IdSet:
    return IdSet.of_ids(())


def _checked(digest: str, fingerprints: bytes) -> IdSet:
    try:
        found = IdSet.from_fingerprints(fingerprints)
    except ValueError as error:
        raise RefusedError(f"the id list {digest} is damaged: {error}") from error
    if found.digest != digest:
        raise RefusedError(f"the id list {digest} is damaged: its content has another digest")
    return found
