"""Compute analyses of the event tables: a few at once, a few in line, the rest sent away."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from shared.errors import overloaded

A = TypeVar("A")
RETRY_AFTER_S = 1.0


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

        Cancelled in line it is never computed. Once begun it ends, and keeps its place until then.
        """
        if not self._places.acquire(blocking=False):
            raise overloaded(
                f"{self._full}, as many as may; repeat the call after the delay",
                retry_after_s=RETRY_AFTER_S,
            )
        future = self._threads.submit(contextvars.copy_context().run, work)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
