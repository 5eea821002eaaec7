"""The process's slot of the spool, and those that others left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from touchstone_events.buffer import Batch
from touchstone_events.settings import Settings
from touchstone_events.stats import Ledger
from touchstone_events.system import System

if TYPE_CHECKING:
    # It needs a POSIX system, which the client without a spool does not.
    from touchstone_events.spool import Spool

LOOK_EVERY_S = 60.0
SOON_S = 0.05


class Spooling:
    """The spool, as far as there is one: an error of the disk is counted, and told once."""

    def __init__(self, settings: Settings, ledger: Ledger, system: System) -> None:
        self._folder = settings.spool_folder
        self._limits = (settings.spool_bytes, settings.segment_bytes)
        self._ledger = ledger
        self._system = system
        self._own: Spool | None = None
        self._left_behind: Spool | None = None
        self._sending: Spool | None = None
        self._look_at = 0.0
        self._delivered = False
        self._closed_with = (0, 0)

    def open(self) -> None:
        """Take a slot, with what an earlier process may have left in it."""
        if self._folder is None:
            return
        from touchstone_events.spool import SLOTS, claim

        try:
            self._own = claim(self._folder, self._limits, self._unreadable)
        except OSError as error:
            self._failed("cannot be used", error)
            return
        if self._own is None:
            self._ledger.warn_once("slots", "all %d slots of %s are in use", SLOTS, self._folder)
        else:
            self._ledger.add(recovered=self._own.events)

    @property
    def usable(self) -> bool:
        """Whether there is a slot."""
        return self._own is not None

    @property
    def events(self) -> int:
        """Events that wait in the process's own slot."""
        return self._own.events if self._own else 0

    @property
    def size(self) -> tuple[int, int]:
        """Events and bytes on disk, those that others left behind among them."""
        held = [spool for spool in (self._own, self._left_behind) if spool]
        if not held:
            return self._closed_with
        return sum(spool.events for spool in held), sum(spool.size_bytes for spool in held)

    def append(self, batch: Batch) -> bool:
        """Whether the batch is on disk now."""
        assert self._own is not None
        try:
            if self._own.append(batch):
                return True
        except OSError as error:
            self._failed("cannot be written", error)
            return False
        self._ledger.warn_once("full", "the spool %s is full; events stay in memory", self._folder)
        return False

    def first_own(self) -> Batch | None:
        """The oldest batch of the process's own slot."""
        self._sending = self._own
        return self._own.first() if self._own else None

    def first_left_behind(self, now: float) -> Batch | None:
        """The oldest batch of a slot whose process has ended."""
        if self._own is None or self._folder is None:
            return None
        if self._left_behind is None and now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._adopt()
        self._sending = self._left_behind
        if self._left_behind is None:
            return None
        batch = self._left_behind.first()
        if batch is None:
            self._left_behind.close()
            self._left_behind = None
            # There may be another one; one that gave nothing must not be taken again and again.
            self._look_at = now + (SOON_S if self._delivered else LOOK_EVERY_S)
        return batch

    def acknowledge(self) -> None:
        """The batch that was asked for last has arrived."""
        assert self._sending is not None
        self._delivered = True
        try:
            self._sending.acknowledge()
        except OSError as error:
            self._failed("keeps a file that was sent", error)

    def look_in(self, now: float) -> float | None:
        """Seconds until other slots are looked at again; None without a spool."""
        return max(0.0, self._look_at - now) if self._own else None

    def close(self) -> None:
        """Let other processes have the slots."""
        self._closed_with = self.size
        for spool in (self._own, self._left_behind):
            if spool is not None:
                spool.close()
        self._own = self._left_behind = None

    def _adopt(self) -> None:
        from touchstone_events.spool import claim_orphan

        assert self._folder is not None
        try:
            self._left_behind = claim_orphan(self._folder, self._limits, self._unreadable)
        except OSError as error:
            self._failed("cannot be read", error)
        self._delivered = False
        if self._left_behind is not None:
            self._ledger.add(recovered=self._left_behind.events)

    def _unreadable(self, size: int) -> None:
        self._ledger.add(unreadable_bytes=size)
        self._ledger.warn_once(
            "unreadable", "%d bytes of the spool %s cannot be read", size, self._folder
        )

    def _failed(self, what: str, error: OSError) -> None:
        self._ledger.add(spool_errors=1)
        self._ledger.warn_once(what, "the spool %s %s: %s", self._folder, what, error.strerror)
