"""Compute analyses of the event tables: a few at once, a few in line, the rest sent away."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from shared.errors import overloaded
from shared.lake.interruption import INTERRUPTION, Interruption

A = TypeVar("A")
RETRY_AFTER_S = 1.0
_INTERRUPT_EVERY_S = 0.1


class Analyses:
    """Threads that do nothing else, so that no analysis keeps other calls waiting.

    `at_once` analyses are computed at a time, which bounds their memory, and `in_line` more wait
    for their turn.
    """

    def __init__(self, at_once: int, in_line: int) -> None:
        self._threads = ThreadPoolExecutor(at_once, "analysis")
        self._places = threading.BoundedSemaphore(at_once + in_line)
        self._full = f"{at_once} analyses are being computed and {in_line} wait in line"

    async def run(self, work: Callable[[], A]) -> A:
        """Do `work` with the context of the caller; RESOURCE_EXHAUSTED when the line is full.

        Cancelled in line it is never computed. Once begun, its queries are interrupted, and it
        keeps its place until it has ended.
        """
        if not self._places.acquire(blocking=False):
            raise overloaded(
                f"{self._full}, as many as may; repeat the call after the delay",
                retry_after_s=RETRY_AFTER_S,
            )
        context, interruption = contextvars.copy_context(), Interruption()
        context.run(INTERRUPTION.set, interruption)
        future = self._threads.submit(context.run, work)
        future.add_done_callback(lambda _: self._places.release())
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            _interrupt(future, interruption)
            raise

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _interrupt(future: Future[A], interruption: Interruption) -> None:
    # Again and again, because one that comes between two queries stops neither.
    if not future.done():
        interruption.interrupt()
        asyncio.get_running_loop().call_later(_INTERRUPT_EVERY_S, _interrupt, future, interruption)
