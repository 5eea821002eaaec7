"""Streams without an end of their own: they go on until the server drains or the key is revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from shared.errors import unavailable

T = TypeVar("T")
RECHECK_S = 60.0
"""How long a revoked key may go on watching, at most."""


async def watched(
    source: AsyncIterator[T],
    draining: asyncio.Event,
    recheck: Callable[[], Awaitable[None]],
    every_s: float = RECHECK_S,
) -> AsyncIterator[T]:
    """What the source gives, for as long as the server serves and `recheck` raises nothing.

    It ends with UNAVAILABLE and never without an error: some clients do not come back after OK.
    """
    stop = asyncio.ensure_future(draining.wait())
    following: asyncio.Future[T] | None = None
    loop = asyncio.get_running_loop()
    check_at = loop.time() + every_s
    try:
        while True:
            following = following or asyncio.ensure_future(anext(source))
            either: set[asyncio.Future[Any]] = {following, stop}
            await asyncio.wait(
                either,
                timeout=max(0.0, check_at - loop.time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stop.done():
                break
            if loop.time() >= check_at:
                await recheck()
                check_at = loop.time() + every_s
            if following.done():
                try:
                    item = following.result()
                except StopAsyncIteration:
                    break
                following = None
                yield item
    finally:
        stop.cancel()
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    raise unavailable("DRAINING", "the server is shutting down: open the stream again")
