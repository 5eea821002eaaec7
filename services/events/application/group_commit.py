"""Many callers, one sync: batches that arrive while the disk is busy go to it together."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from services.events.batch import Batch
from services.events.domain.limits import Limits
from services.events.ports import BatchCodec, Journal
from shared.errors import DomainError, overloaded, unavailable

Durable = asyncio.Future[int]


def free(batch: Batch) -> None:
    """Let every batch in."""
    del batch


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: Batch
    size_bytes: int
    durable: Durable
    loop: asyncio.AbstractEventLoop


class GroupCommit:
    """Appends batches to a journal from one thread of its own.

    `charge` is told of each batch that there is room for, and may refuse it with an error.
    """

    def __init__(
        self,
        journal: Journal,
        codec: BatchCodec,
        limits: Limits,
        charge: Callable[[Batch], None] = free,
    ) -> None:
        self._journal = journal
        self._codec = codec
        self._limits = limits
        self._charge = charge
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def last(self) -> int:
        """The position of the newest durable entry."""
        return self._journal.last

    def submit(self, batch: Batch, durable: Durable) -> None:
        """Queue a batch. `durable` gets its position when it is on the disk, or the error.

        Call it from the event loop of the future. RESOURCE_EXHAUSTED when too much waits already
        for the disk or for the tables; UNAVAILABLE after `close`; and what `charge` raises. The
        batch is then not stored.
        """
        if self._journal.backlog_bytes > self._limits.backlog_bytes:
            raise overloaded(
                f"{self._journal.backlog_bytes} bytes of events wait to be written to the tables; "
                f"at most {self._limits.backlog_bytes}: see the log of the events service, and "
                "send this batch again later",
                retry_after_s=5.0,
            )
        size = batch.size_bytes
        with self._changed:
            if self._closing:
                raise unavailable("DRAINING", "the events service is shutting down: call again")
            if self._queue and self._queued_bytes + size > self._limits.queued_bytes:
                raise overloaded(
                    f"{self._queued_bytes} bytes of events wait for the disk; at most "
                    f"{self._limits.queued_bytes}: send this batch again later",
                    retry_after_s=0.5,
                )
            self._charge(batch)
            self._queue.append(_Waiting(batch, size, durable, durable.get_loop()))
            self._queued_bytes += size
            self._changed.notify()

    def close(self) -> None:
        """Store what is queued, then stop. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            position: int | None = None
            failure: Exception | None = None
            try:
                blob = self._codec.encode([waiting.batch for waiting in group])
                position = self._journal.append(blob)
            except DomainError as error:
                failure = error
            # Whatever else went wrong, the callers must not wait for ever.
            except Exception as error:  # noqa: BLE001
                failure = error
            _settle(group, position, failure)

    def _next_group(self) -> list[_Waiting]:
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            group: list[_Waiting] = []
            size = 0
            while self._queue and (not group or size < self._limits.group_bytes):
                group.append(self._queue.popleft())
                size += group[-1].size_bytes
            self._queued_bytes -= size
            return group


def _settle(group: list[_Waiting], position: int | None, failure: Exception | None) -> None:
    loops = {waiting.loop for waiting in group}
    for loop in loops:
        mine = [waiting.durable for waiting in group if waiting.loop is loop]
        loop.call_soon_threadsafe(_resolve, mine, position, failure)


def _resolve(futures: list[Durable], position: int | None, failure: Exception | None) -> None:
    for durable in futures:
        if durable.done():
            continue
        if failure is not None:
            durable.set_exception(failure)
        elif position is not None:
            durable.set_result(position)
