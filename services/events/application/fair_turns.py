"""Turns at what only a few can do at once, a project after the other."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_Waiting = asyncio.Future[None]


class FairTurns:
    """Like a semaphore, but the next turn goes to the project that has waited longest since its
    last one: who queues a hundred batches waits behind who queues one. Use it from one event loop.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    @asynccontextmanager
    async def of(self, project: str) -> AsyncIterator[None]:
        """Within the block it is the project's turn."""
        if self._free and not self._queues:
            self._free -= 1
        else:
            await self._wait(project)
        try:
            yield
        finally:
            self._next()

    async def _wait(self, project: str) -> None:
        waiting: _Waiting = asyncio.get_running_loop().create_future()
        self._queues.setdefault(project, deque()).append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._next()  # the turn came together with the cancellation
            raise

    def _next(self) -> None:
        """Give the turn that has ended to who is next."""
        while self._queues:
            project, queue = self._queues.popitem(last=False)
            waiting = queue.popleft()
            if queue:
                self._queues[project] = queue
            if not waiting.done():
                waiting.set_result(None)
                return
        self._free += 1
