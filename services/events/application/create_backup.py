"""Make a backup of the installation while it takes events."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from shared.backup.manifest import Manifest
from shared.errors import unavailable

TABLES_WAIT_S = 60.0
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class CreateBackup:
    """What is asked for. `operation` names the one that does it; `keep` of 0 keeps all."""

    backup_id: str
    operation: str
    keep: int


@dataclass(frozen=True, slots=True)
class Times:
    """When a backup was begun, before which everything is in it, and when it was complete."""

    begin: dt.datetime
    complete: dt.datetime


class Draft(Protocol):
    """A backup that has no name yet, and is gone when it gets none."""

    def size_bytes(self) -> int:
        """About how much there is to store. FAILED_PRECONDITION when there is no room for it."""
        ...

    def tables(self) -> Iterator[int]:
        """Store the tables as readers see them; yields how many bytes were dealt with."""
        ...

    def state(self) -> Iterator[int]:
        """Store everything else, as it is after the tables were; yields as `tables`."""
        ...

    def complete(self, times: Times) -> Manifest:
        """Make it durable and give it its name."""
        ...


class Backups(Protocol):
    """Where complete backups are."""

    def find(self, backup_id: str) -> Manifest | None:
        """The complete backup of this id."""
        ...

    def draft(self, request: CreateBackup) -> AbstractContextManager[Draft]:
        """Begin a backup; what an earlier attempt left is dropped. One at a time."""
        ...

    def newest_first(self) -> list[Manifest]:
        """All complete backups."""
        ...

    def delete(self, backup_id: str) -> None:
        """Delete a complete backup. NOT_FOUND when there is none."""
        ...


class Watcher(Protocol):
    """Is told how far a backup is, and may end it by raising."""

    def waiting(self) -> None:
        """The tables are behind."""
        ...

    def began(self, total_bytes: int) -> None:
        """There is about so much to store."""
        ...

    def stored(self, tables: bool, size_bytes: int) -> None:
        """So many bytes of the tables, or of the rest, were dealt with."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class Installation:
    """What a backup is made of: the newest acknowledged position, and the one readers see."""

    acknowledged: Callable[[], int]
    visible: Callable[[], int]
    backups: Backups
    now: Callable[[], dt.datetime]


def create_backup(request: CreateBackup, of: Installation, watcher: Watcher) -> Manifest:
    """Make the backup, unless this operation made it before a crash.

    It holds every event that was acknowledged before the call: all of them are in the tables
    before the tables are stored, so that an empty log of events goes with them.
    """
    made = of.backups.find(request.backup_id)
    if made is not None and made.operation == request.operation:
        return made
    begin = of.now()
    _wait_for_tables(of, watcher)
    with of.backups.draft(request) as draft:
        watcher.began(draft.size_bytes())
        for size in draft.tables():
            watcher.stored(True, size)
        for size in draft.state():
            watcher.stored(False, size)
        made = draft.complete(Times(begin, of.now()))
    for old in of.backups.newest_first()[request.keep :] if request.keep else ():
        if old.backup_id != made.backup_id:
            of.backups.delete(old.backup_id)
    return made


def _wait_for_tables(of: Installation, watcher: Watcher) -> None:
    acknowledged, waited_s = of.acknowledged(), 0.0
    while of.visible() < acknowledged:
        if waited_s >= TABLES_WAIT_S:
            raise unavailable(
                "STORAGE_UNAVAILABLE",
                f"the tables stand at position {of.visible()}, and events are acknowledged up to "
                f"{acknowledged}: see the log of the events service for why they are behind",
            )
        watcher.waiting()
        watcher.sleep(LOOK_EVERY_S)
        waited_s += LOOK_EVERY_S
