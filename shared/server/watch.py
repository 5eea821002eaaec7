"""Streams without an end of their own: they go on until the server drains or the key is revoked.

A message of a stream costs no task and no timer here: of ten thousand streams, each would be made
ten thousand times for one change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import TypeVar

from shared.errors import unavailable

T = TypeVar("T")
RECHECK_S = 60.0
"""How long a revoked key may go on watching, at most."""


class Watches:
    """The open streams of a server: all are ended from one place when it drains."""

    def __init__(self, draining: asyncio.Event) -> None:
        self._draining = draining
        self._open: set[_Watch] = set()
        self._ending: asyncio.Task[None] | None = None

    async def watched(
        self,
        source: AsyncIterator[T],
        recheck: Callable[[], Awaitable[None]],
        every_s: float = RECHECK_S,
    ) -> AsyncIterator[T]:
        """What the source gives, for as long as the server serves and `recheck` raises nothing.

        It ends with UNAVAILABLE and never without an error: some clients do not come back after OK.
        """
        watch = _Watch(recheck, every_s)
        self._enter(watch)
        try:
            while True:
                try:
                    item = await watch.following(source)
                except StopAsyncIteration:
                    break
                yield item
        finally:
            watch.close()
            self._leave(watch)
        raise _drained()

    def _enter(self, watch: _Watch) -> None:
        self._open.add(watch)
        if self._draining.is_set():
            watch.end(_drained())
        elif self._ending is None:
            # It outlives the call that comes first, and must not hold what belongs to it.
            self._ending = asyncio.get_running_loop().create_task(self._drain(), context=Context())

    def _leave(self, watch: _Watch) -> None:
        self._open.discard(watch)
        if not self._open and self._ending is not None:
            self._ending.cancel()
            self._ending = None

    async def _drain(self) -> None:
        await self._draining.wait()
        for watch in self._open:
            watch.end(_drained())


class _Watch:
    """One stream, which others may end while it waits for its source."""

    __slots__ = ("_checking", "_error", "_every_s", "_recheck", "_timer", "_waiting")

    def __init__(self, recheck: Callable[[], Awaitable[None]], every_s: float) -> None:
        self._recheck, self._every_s = recheck, every_s
        self._error: Exception | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._checking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(every_s, self._check)

    async def following(self, source: AsyncIterator[T]) -> T:
        """The next of the source, or the error that ended the stream."""
        self._go_on()
        task = asyncio.current_task()
        assert task is not None, "streams are served by tasks"
        cancelled_before = task.cancelling()
        self._waiting = task
        try:
            item = await anext(source)
        except asyncio.CancelledError:
            # Either `end` cancelled, or the client went away, or both: the client comes first.
            if self._error is None or task.uncancel() > cancelled_before:
                raise
            raise self._error from None
        finally:
            self._waiting = None
        if self._checking is not None:
            await asyncio.wait({self._checking})
        self._go_on()
        return item

    def end(self, error: Exception) -> None:
        """End with this error: now when the source is waited for, else before the next message.

        In between the message is on its way to the client, which must not be cut off in it.
        """
        if self._error is None:
            self._error = error
            if self._waiting is not None:
                self._waiting.cancel()

    def close(self) -> None:
        """Check no more."""
        self._timer.cancel()
        if self._checking is not None:
            self._checking.cancel()

    def _go_on(self) -> None:
        if self._error is not None:
            raise self._error

    def _check(self) -> None:
        self._checking = asyncio.get_running_loop().create_task(self._check_once())

    async def _check_once(self) -> None:
        try:
            await self._recheck()
        except Exception as error:  # noqa: BLE001  whatever it is, it ends the stream
            self.end(error)
            return
        self._checking = None
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._check)


def _drained() -> Exception:
    return unavailable("DRAINING", "the server is shutting down: open the stream again")
