"""Keeps the snapshots fresh, in memory and on the disk, and says when they are not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from services.assignment.application.keep_rulesets import RulesetKeeper
from services.assignment.application.snapshots import Snapshots
from shared.errors import Code, DomainError, unavailable
from shared.telemetry import METRICS

_LOG = logging.getLogger("touchstone.assignment")
STALENESS_METRIC = "touchstone.assignment.config.staleness"
REFUSED_METRIC = "touchstone.assignment.config.refused"


@dataclass(slots=True)
class SnapshotPoller:
    """Looks for changes every `interval_s` in a task of its own.

    While the store is away the last snapshots go on deciding, those on the disk when there were
    none before; it logs once that it is away, once more when what is held is older than `stale_s`,
    and once when it is back. A configuration that cannot be used is counted at every look.
    """

    snapshots: Snapshots
    interval_s: float
    stale_s: float
    keeper: RulesetKeeper | None = None
    prepare: Callable[[], None] | None = None
    """What has to be done to the store before it is read; None when it is done."""
    ready: bool = False
    """The store was read once, or the disk held something; from then on what is held decides,
    whatever happens to the store.
    """
    _task: asyncio.Task[None] | None = None
    _away: bool = False
    _stale: bool = field(default=False)
    _refused: metrics.Counter | None = None
    _prepared: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads what there is, then goes on in the background."""
        metrics.get_meter("touchstone.assignment").create_observable_gauge(
            STALENESS_METRIC, [self._observe], *METRICS[STALENESS_METRIC]
        )
        self._refused = metrics.get_meter("touchstone.assignment").create_counter(
            REFUSED_METRIC, *METRICS[REFUSED_METRIC]
        )
        await self.poll_once()
        if not self.ready and self.keeper is not None:
            self.ready = await asyncio.to_thread(self.keeper.restore) > 0
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the background task."""
        tasks = [task for task in (self._task, self._waiting) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def poll_once(self) -> None:
        """One look; a store that is away is logged, not raised."""
        try:
            await asyncio.to_thread(self._look)
        except DomainError as error:
            if error.code is not Code.UNAVAILABLE:
                self._prepared.set()
                # One project that cannot be read keeps nobody else waiting.
                self.ready = True
                if self._refused is not None:
                    self._refused.add(1)
                await self._save()
            self._note_away(error)
            return
        self.ready = True
        self._prepared.set()
        await self._save()
        if self._away:
            _LOG.info("configuration can be read again")
        self._away = self._stale = False

    @property
    def prepared(self) -> bool:
        """Whether the store answered once, as this program expects it."""
        return self._prepared.is_set()

    def when_prepared(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done once the store is prepared."""

        async def wait() -> None:
            await self._prepared.wait()
            await work()

        self._waiting = asyncio.create_task(wait())

    def _look(self) -> None:
        if self.prepare is not None:
            try:
                self.prepare()
            except DomainError as error:
                raise unavailable("STORAGE_UNAVAILABLE", error.message) from error
            self.prepare = None
        self.snapshots.poll()

    async def _save(self) -> None:
        if self.keeper is not None:
            await asyncio.to_thread(self.keeper.save)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.interval_s)
            try:
                await self.poll_once()
            except Exception:  # noqa: BLE001  the task outlives whatever one look runs into
                _LOG.exception("configuration poll failed")

    def _note_away(self, error: DomainError) -> None:
        if not self._away:
            self._away = True
            _LOG.warning(
                "configuration cannot be read; deciding by the last known one",
                extra={"reason": error.reason, "detail": error.message},
            )
        age_s = self.snapshots.staleness_s()
        if not self._stale and age_s is not None and age_s > self.stale_s:
            self._stale = True
            _LOG.warning("configuration is stale", extra={"age_s": round(age_s)})

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        age_s = self.snapshots.staleness_s()
        return [] if age_s is None else [Observation(age_s)]
