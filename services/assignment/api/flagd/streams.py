"""Streams of what changes are never silent for long."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def with_silence(source: AsyncIterator[T], silence_s: float) -> AsyncIterator[T | None]:
    """What the source gives, and None after each silence."""
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait({coming}, timeout=silence_s)
            if not done:
                yield None
                continue
            item, coming = coming.result(), None
            yield item
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
