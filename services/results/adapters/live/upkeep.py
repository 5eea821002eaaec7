"""Let no state outlive what was erased, also while nobody asks for results."""

import asyncio
import logging

from services.results.adapters.live.shelf import Shelf

_LOG = logging.getLogger(__name__)
EVERY_S = 60.0


class StatesUpkeep:
    """Looks at the record of erasures once in a while."""

    def __init__(self, shelf: Shelf, every_s: float = EVERY_S) -> None:
        self._shelf, self._every_s = shelf, every_s
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
                await asyncio.to_thread(self._shelf.forget_removed)
            except OSError:
                _LOG.exception("states of results cannot be looked after; trying again")
            await asyncio.sleep(self._every_s)
