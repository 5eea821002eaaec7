"""Keeps the snapshots fresh, in memory and on the disk, and says when they are not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from services.assignment.application.keep_rulesets import RulesetKeeper
from services.assignment.application.snapshots import Snapshots
from shared.errors import Code, DomainError
from shared.telemetry import METRICS

_LOG = logging.getLogger("touchstone.assignment")
STALENESS_METRIC = "touchstone.assignment.config.staleness"
REFUSED_METRIC = "touchstone.assignment.config.refused"
REMIND_S = 60.0
"""How often it is logged that the store is refused, as long as it is."""


@dataclass(slots=True)
class SnapshotPoller:
    """Looks for changes every `interval_s` in a task of its own.

    While the store is away the last snapshots go on deciding, those on the disk when there were
    none before; it logs once that it is away, once more when what is held is older than `stale_s`,
    and once when it is back. A configuration that cannot be used is counted at every look, and
    logged whenever it is another that cannot.

    A store that `prepare` refuses, as it would have refused the start, stays closed. What is held
    goes on deciding, for it is right for whoever has no other process to ask; but the service is
    not ready, and an error is logged every REMIND_S, until somebody mends it.
    """

    snapshots: Snapshots
    interval_s: float
    stale_s: float
    keeper: RulesetKeeper | None = None
    prepare: Callable[[], None] | None = None
    """What has to be done to the store before it is read; None when it is done."""
    _loaded: bool = False
    _task: asyncio.Task[None] | None = None
    _failure: str | None = None
    _stale: bool = field(default=False)
    _refused: metrics.Counter | None = None
    _refusals: int = 0
    _prepared: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Loads what there is, then goes on in the background."""
        metrics.get_meter("touchstone.assignment").create_observable_gauge(
            STALENESS_METRIC, [self._observe], *METRICS[STALENESS_METRIC]
        )
        self._refused = metrics.get_meter("touchstone.assignment").create_counter(
            REFUSED_METRIC, *METRICS[REFUSED_METRIC]
        )
        if not await self.poll_once() and self.keeper is not None:
            restored = await asyncio.to_thread(self.keeper.restore)
            self._loaded = self._loaded or restored > 0
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the background task."""
        tasks = [*self._waiting, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def poll_once(self) -> bool:
        """One look; whether all could be read. A store that is away is logged, not raised."""
        try:
            await asyncio.to_thread(self._look)
        except DomainError as error:
            await self._note(error)
            return False
        await self._take()
        if self._failure is not None:
            _LOG.info("configuration can be read again")
        self._failure, self._stale = None, False
        return True

    @property
    def ready(self) -> bool:
        """Whether the store was read once, or the disk held something; from then on what is held
        decides, also while the store is away. Never while the store is refused.
        """
        return self._loaded and not self._refusals

    @property
    def prepared(self) -> bool:
        """Whether the store answered once, as this program expects it."""
        return self._prepared.is_set()

    def when_prepared(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done once the store is prepared, again and again until it succeeds."""

        async def wait() -> None:
            await self._prepared.wait()
            while True:
                try:
                    return await work()
                except Exception:  # noqa: BLE001  nobody would hear of it, nor do it later
                    _LOG.exception("what waits for the state database failed; trying again")
                await asyncio.sleep(self.interval_s)

        self._waiting.append(asyncio.create_task(wait()))

    def _look(self) -> None:
        if self.prepare is not None:
            self.prepare()
            self.prepare = None
        self.snapshots.poll()

    async def _take(self) -> None:
        """The store answered, as this program expects it."""
        self._loaded, self._refusals = True, 0
        self._prepared.set()
        if self.keeper is not None:
            await asyncio.to_thread(self.keeper.save)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.interval_s)
            try:
                await self.poll_once()
            except Exception:  # noqa: BLE001  the task outlives whatever one look runs into
                _LOG.exception("configuration poll failed")

    async def _note(self, error: DomainError) -> None:
        away = error.code is Code.UNAVAILABLE
        told = {"reason": error.reason, "detail": error.message}
        if self.prepare is not None and not away:
            if self._refusals % max(1, round(REMIND_S / self.interval_s)) == 0:
                _LOG.error("the state database is refused; deciding without it", extra=told)
            self._refusals += 1
        else:
            if not away:
                # One project that cannot be read keeps nobody else waiting.
                if self._refused is not None:
                    self._refused.add(1)
                await self._take()
            failure = "away" if away else error.message
            if failure != self._failure:
                self._failure = failure
                _LOG.warning(
                    "configuration cannot be read; deciding by the last known one", extra=told
                )
        self._note_age()

    def _note_age(self) -> None:
        age_s = self.snapshots.staleness_s()
        if not self._stale and age_s is not None and age_s > self.stale_s:
            self._stale = True
            _LOG.warning("configuration is stale", extra={"age_s": round(age_s)})

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        age_s = self.snapshots.staleness_s()
        return [] if age_s is None else [Observation(age_s)]
