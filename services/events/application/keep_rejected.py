"""Many callers, one sync: rejected events that come while the disk is busy are kept together."""

import asyncio
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from services.events.domain.limits import Limits
from services.events.domain.rejection import RejectedEvent
from services.events.ports import RejectedEvents
from shared.errors import DomainError, overloaded, unavailable

BESIDES_BYTES = 1024
"""About what a rejected event takes besides its payload: its reason, its message, its row."""
_RETRY_S = 0.5


class Keeping(Protocol):
    """Where logging leaves what it rejects."""

    async def keep(self, project: str, rejected: Sequence[RejectedEvent]) -> None:
        """Return when rejected events of a project are kept, durably."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    rejected: Sequence[RejectedEvent]
    size_bytes: int
    kept: asyncio.Future[None]


class GroupKeep:
    """See Keeping. Keeps in a store, from one thread of its own, a project after the other.

    `door` names the way by which an event comes in that does not say so.
    """

    def __init__(
        self, store: RejectedEvents, limits: Limits, door: Callable[[], str] = str
    ) -> None:
        self._store = store
        self._limits = limits
        self._door = door
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._queued_bytes: defaultdict[str, int] = defaultdict(int)
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="rejected", daemon=True)
        self._thread.start()

    async def keep(self, project: str, rejected: Sequence[RejectedEvent]) -> None:
        """See Keeping.

        RESOURCE_EXHAUSTED when too much waits already; UNAVAILABLE after `close`, or when the store
        cannot be written. What a caller does not wait for any more is kept nevertheless.
        """
        door = self._door()
        named = [replace(event, door=event.door or door) for event in rejected]
        size = sum(BESIDES_BYTES + len(event.payload) for event in rejected)
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closing:
                raise unavailable("DRAINING", "the events service is shutting down: call again")
            self._check_room(project, size)
            self._queues.setdefault(project, deque()).append(_Waiting(named, size, kept))
            self._queued_bytes[project] += size
            self._changed.notify()
        await kept

    def close(self) -> None:
        """Keep what is queued, then stop. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _check_room(self, project: str, size: int) -> None:
        """A call that waits alone may always be as large as a message."""
        mine, total = self._queued_bytes.get(project, 0), sum(self._queued_bytes.values())
        for who, used, most in (
            (f"of project {project}", mine, self._limits.project_rejection_bytes),
            ("of all projects", total, self._limits.queued_rejection_bytes),
        ):
            if used and used + size > most:
                raise overloaded(
                    f"{used} bytes of rejected events {who} wait to be kept; at most {most}: "
                    "correct what the answers name, and send this batch again later",
                    _RETRY_S,
                )

    def _run(self) -> None:
        while group := self._next_group():
            failure = self._keep(group)
            if failure is None or isinstance(failure, DomainError) or len(group) == 1:
                _settle(group, failure)
                continue
            # It may be the fault of one: it must not be that of its neighbours.
            for waiting in group:
                _settle([waiting], self._keep([waiting]))

    def _keep(self, group: Sequence[_Waiting]) -> Exception | None:
        """What went wrong; then nothing of the group is kept."""
        try:
            self._store.keep([event for waiting in group for event in waiting.rejected])
        # Whatever went wrong, the callers must not wait for ever.
        except Exception as error:  # noqa: BLE001
            return error
        return None

    def _next_group(self) -> list[_Waiting]:
        with self._changed:
            while not self._queues and not self._closing:
                self._changed.wait()
            group: list[_Waiting] = []
            size = 0
            while self._queues and (not group or size < self._limits.group_bytes):
                project, queue = self._queues.popitem(last=False)
                waiting = queue.popleft()
                if queue:
                    self._queues[project] = queue
                group.append(waiting)
                size += waiting.size_bytes
                self._queued_bytes[project] -= waiting.size_bytes
                if not queue:
                    del self._queued_bytes[project]
            return group


def _settle(group: Sequence[_Waiting], failure: Exception | None) -> None:
    for loop in {waiting.kept.get_loop() for waiting in group}:
        mine = [waiting.kept for waiting in group if waiting.kept.get_loop() is loop]
        loop.call_soon_threadsafe(_resolve, mine, failure)


def _resolve(futures: Sequence[asyncio.Future[None]], failure: Exception | None) -> None:
    for kept in futures:
        if kept.done():
            continue
        if failure is not None:
            kept.set_exception(failure)
        else:
            kept.set_result(None)
