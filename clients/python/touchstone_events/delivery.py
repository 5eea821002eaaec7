"""The work of the background thread: from memory to the service, by way of the disk if need be.

Memory is sent in batches, one call at a time. Once a call has failed, batches go to the spool, if
there is one, and only the oldest is tried again; when it has arrived the spool is sent in its
order, then memory again. A buffer that is half full goes to the spool even while a call is under
way: a service that hangs must not cost events.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

from touchstone_events.buffer import Batch, Buffer
from touchstone_events.settings import Settings
from touchstone_events.spooling import Spooling
from touchstone_events.stats import LOG, Ledger, Problem
from touchstone_events.system import System, fraction
from touchstone_events.transport import Call, Outcome, Transport

CANCELLED = "CANCELLED"
_LAST_RETRY_S = 1.0
_LONGEST_PATIENCE_S = 600.0
NO_CALL = "NO_CALL"
"""Not a gRPC code: the call could not even be made, such as when a certificate cannot be read."""


class Sending(NamedTuple):
    """A call that is under way, and where its batch lies meanwhile."""

    call: Call
    batch: Batch
    spooling: Spooling | None
    """None: in memory only."""


class Delivery:
    """Decides what to do next. `turn` is for one thread; the other methods for any."""

    def __init__(
        self,
        settings: Settings,
        buffer: Buffer,
        transport: Transport,
        ledger: Ledger,
        system: System,
    ) -> None:
        self._settings = settings
        self._buffer = buffer
        self._transport = transport
        self._ledger = ledger
        self._system = system
        self._sending: Sending | None = None
        self._held: deque[Batch] = deque()
        """Batches that failed and could not be spooled. At most a few: while there is one, no other
        is taken from the buffer but to be spooled."""
        self._failures = 0
        self._next_try = self._last_try = 0.0
        self._flush_to = 0
        self._close_by: float | None = None
        self._park = False
        self._parked = threading.Event()
        # Reentrant: the product may ask for a flush while it is told of a problem.
        self._turning = threading.RLock()
        self.finished = False
        self.spooling = Spooling(settings, ledger, system)

    def turn(self) -> float | None:
        """Do one piece of work. Returns after how many seconds to call again; None: once the buffer
        wakes.
        """
        with self._turning:
            return self._turn(self._system.monotonic())

    def _turn(self, now: float) -> float | None:
        if self._park:
            self._rest()
            return None
        if self._sending is not None:
            return self._while_sending(self._sending, now)
        if self._close_by is not None and self._may_end(now):
            self._end()
            return 0.0
        if now >= self._try_at and self._send(now):
            return 0.0
        if self._put_aside(now):
            return 0.0
        return self._pause(now)

    def flush(self) -> int:
        """Hurry up with what was taken until now; `oldest` will pass the number returned."""
        self._flush_to = self._buffer.taken
        self._buffer.wake()
        return self._flush_to

    def close(self, timeout_s: float) -> None:
        """Come to an end: send what is in memory, then what is on disk, at most for so long; spool
        the rest of memory.
        """
        self._close_by = self._system.monotonic() + timeout_s
        self._buffer.close()

    def park(self, timeout_s: float) -> None:
        """Give up the call and the connection, and wait for `unpark`: gRPC is not to be in use
        while the process forks.
        """
        self._park = True
        self._buffer.wake()
        self._parked.wait(timeout_s)

    def unpark(self) -> None:
        """Go on."""
        self._park = False
        self._parked.clear()
        self._buffer.wake()

    @property
    def oldest(self) -> int:
        """Every event that was taken before this one has left memory."""
        with self._turning:
            in_hand = [batch.first for batch in self._in_hand()]
            return min([*in_hand, self._buffer.first])

    @property
    def in_hand(self) -> tuple[int, int]:
        """Events and bytes that have left the buffer and are nowhere else yet."""
        batches = self._in_hand()
        return sum(batch.events for batch in batches), sum(len(batch.body) for batch in batches)

    def _in_hand(self) -> list[Batch]:
        batches = list(self._held)
        sending = self._sending
        if sending is not None and sending.spooling is None:
            batches.append(sending.batch)
        return batches

    @property
    def _try_at(self) -> float:
        """When the next call may be made. The end of a program cannot be as patient."""
        return self._next_try if self._close_by is None else self._last_try

    def _rest(self) -> None:
        if self._sending is not None:
            self._take_back(self._sending)
        self._transport.quiesce()
        self._parked.set()

    def _while_sending(self, sending: Sending, now: float) -> float | None:
        outcome = sending.call.outcome()
        if outcome is not None:
            self._settle(sending, outcome)
            return 0.0
        if self._close_by is not None:
            if now >= self._close_by:
                self._transport.disconnect()
                self._take_back(sending)
                return 0.0
            return self._close_by - now
        if self._buffer.half_full and not self._held and self._spool_one(now, force=True):
            return 0.0
        return None

    def _send(self, now: float) -> bool:
        batch, spooling = self._next(now)
        if batch is None:
            return False
        timeout_s = self._settings.deadline_s
        if self._close_by is not None:
            timeout_s = min(timeout_s, max(0.001, self._close_by - now))
        try:
            call = self._transport.start(batch.body, timeout_s, self._buffer.wake)
        except Exception as error:  # noqa: BLE001  the product's key function may raise anything
            self._failed(batch, spooling, Outcome(NO_CALL, f"{type(error).__name__}: {error}"))
        else:
            self._sending = Sending(call, batch, spooling)
        return True

    def _next(self, now: float) -> tuple[Batch | None, Spooling | None]:
        """What to send next, and whether it lies on disk."""
        if self._held:
            return self._held.popleft(), None
        closing = self._close_by is not None
        if closing and (batch := self._buffer.take(now=now, force=True)) is not None:
            return batch, None
        batch = self.spooling.first_own()
        if batch is not None:
            return batch, self.spooling
        batch = self._buffer.take(now=now, force=self._buffer.first < self._flush_to)
        if batch is not None or closing:
            return batch, None
        return self.spooling.first_left_behind(now), self.spooling

    def _settle(self, sending: Sending, outcome: Outcome) -> None:
        self._sending = None
        batch, spooling = sending.batch, sending.spooling
        retryable = outcome.code in self._settings.retry_codes or outcome.code == CANCELLED
        if outcome.code != "OK" and retryable:
            self._failed(batch, spooling, outcome)
            return
        if self._failures:
            LOG.info("the events service answers again, after %d failures", self._failures)
        self._failures = 0
        if spooling is not None:
            spooling.acknowledge()
        if outcome.code == "OK":
            self._count(outcome)
        else:
            self._ledger.add(refused=batch.events)
            self._ledger.report(Problem("refused", outcome.code, outcome.message, batch.events))

    def _count(self, outcome: Outcome) -> None:
        self._ledger.add(
            sent=outcome.accepted,
            duplicates=outcome.duplicates,
            rejected=len(outcome.rejected),
        )
        for item in outcome.rejected:
            self._ledger.report(
                Problem("rejected", item.reason, item.message, 1, item.event_id, item.field)
            )

    def _failed(self, batch: Batch, spooling: Spooling | None, outcome: Outcome) -> None:
        if spooling is None:
            self._held.appendleft(batch)
        self._failures += 1
        self._ledger.add(failures=1)
        settings = self._settings
        doubled = settings.first_retry_s * 2.0 ** min(self._failures - 1, 60)
        # Full jitter: clients that failed together must not come back together.
        jitter = fraction(self._system)
        soonest = self._system.monotonic() + min(outcome.retry_after_s, _LONGEST_PATIENCE_S)
        self._next_try = soonest + jitter * min(doubled, settings.longest_retry_s)
        self._last_try = soonest + jitter * min(doubled, _LAST_RETRY_S)
        if self._failures == 1:
            LOG.warning(
                "events service: %s: %s; events wait %s, and the call is repeated",
                outcome.code,
                outcome.message,
                "on disk" if self.spooling.usable else "in memory",
            )

    def _take_back(self, sending: Sending) -> None:
        """The call was given up: its batch is as if it had never been sent."""
        if sending.spooling is None:
            self._held.appendleft(sending.batch)
        self._sending = None

    def _put_aside(self, now: float) -> bool:
        """Move a batch from memory to the disk, if that is the thing to do."""
        if not self.spooling.usable:
            return False
        if self._held:
            return bool(self._failures) and self._spool_one(now, force=True)
        hurried = self._buffer.first < self._flush_to and self.spooling.events > 0
        force = hurried or self._buffer.half_full or self._close_by is not None
        return (force or self._failures > 0) and self._spool_one(now, force=force)

    def _spool_one(self, now: float, *, force: bool) -> bool:
        if not self.spooling.usable:
            return False
        batch = self._held.popleft() if self._held else self._buffer.take(now=now, force=force)
        if batch is None:
            return False
        if self.spooling.append(batch):
            return True
        self._held.appendleft(batch)
        return False

    def _pause(self, now: float) -> float | None:
        waits: list[float] = []
        if self._held or self.spooling.events or self._buffer.size[0]:
            waits.append(self._try_at - now)
        due_in_s = self._buffer.due_in(now)
        if due_in_s is not None and not self._held:
            waits.append(due_in_s)
        look_in_s = self.spooling.look_in(now)
        if look_in_s is not None:
            waits.append(look_in_s)
        if self._close_by is not None:
            waits.append(self._close_by - now)
        ahead = [wait for wait in waits if wait > 0]
        return min(ahead, default=None)

    def _may_end(self, now: float) -> bool:
        if self._close_by is not None and now >= self._close_by:
            return True
        if self._held or self._buffer.size[0]:
            return False
        return self._failures > 0 or not self.spooling.events

    def _end(self) -> None:
        """What is left goes to the disk; what finds no room there is lost, and counted."""
        now = self._system.monotonic()
        while self._held or self._buffer.size[0]:
            if not self._spool_one(now, force=True):
                batch = self._held.popleft() if self._held else None
                batch = batch or self._buffer.take(now=now, force=True)
                assert batch is not None  # only this thread takes
                self._ledger.add(lost=batch.events)
        self.spooling.close()
        self._transport.close()
        self.finished = True
