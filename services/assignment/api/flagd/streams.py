"""Streams of what changes: bounded in number, and never silent for long."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from shared.errors import overloaded

T = TypeVar("T")
_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class StreamPlaces:
    """The places for streams of one port."""

    streams: int
    open: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def place(self, project: str) -> Iterator[None]:
        """One place until the end of the block; RESOURCE_EXHAUSTED, with a delay, without one."""
        if self.open.total() >= self.streams:
            raise overloaded(
                f"{self.streams} streams of flags are open on this port, which is as many as it "
                "allows; close some, or raise TOUCHSTONE_FLAGD_STREAMS",
                _WAIT_S,
            )
        self.open[project] += 1
        try:
            yield
        finally:
            self.open[project] -= 1


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
