"""Let no kept event outlive its erasure, also while no report is run."""

import asyncio
import logging

from services.attribution.adapters.kept.files import KeptFiles

_LOG = logging.getLogger(__name__)
EVERY_S = 60.0


class KeptUpkeep:
    """Looks at the record of erasures once in a while."""

    def __init__(self, files: KeptFiles, every_s: float = EVERY_S) -> None:
        self._files, self._every_s = files, every_s
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
                await asyncio.to_thread(self._files.forget_removed)
            except OSError:
                _LOG.exception("kept events cannot be looked after; trying again")
            await asyncio.sleep(self._every_s)
