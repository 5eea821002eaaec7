"""Let nothing that was kept outlive its erasure, also while nobody asks for it."""

import asyncio
import logging
from typing import Protocol

_LOG = logging.getLogger(__name__)
EVERY_S = 60.0


class Kept(Protocol):
    """What is kept of the event tables beside them."""

    def forget_removed(self) -> None:
        """Remove what was made before something was erased since."""
        ...


class RemovalUpkeep:
    """Looks at the record of erasures once in a while; `what` is kept, for the log."""

    def __init__(self, kept: Kept, what: str, every_s: float = EVERY_S) -> None:
        self._kept, self._what, self._every_s = kept, what, every_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; a look that is under way is waited for."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._kept.forget_removed)
            except OSError:
                _LOG.exception("%s cannot be looked after; trying again", self._what)
            await asyncio.sleep(self._every_s)
