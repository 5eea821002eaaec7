"""The rules of every project for whoever watches them: the newest only, and the same bytes for all.

Everything here runs on the loop that serves, except `Snapshots`, which tells of changes from any
thread.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from touchstone.assignment.v1 import assignment_service_pb2 as pb

from services.assignment.application.snapshots import Snapshot, Snapshots
from shared.telemetry import METRICS

WATCHES_METRIC = "touchstone.assignment.watches"
COALESCE_S = 0.2
"""The least time between two changes that watchers are told of: what comes in between is one."""
CONFIRM_S = 20.0
"""How often a stream says that the rules are still the same."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a stream says something; see the defaults."""

    coalesce_s: float = COALESCE_S
    confirm_s: float = CONFIRM_S


class ConfigFeed:
    """Wakes the watchers of a project, and serializes what they are told once for all of them."""

    def __init__(self, snapshots: Snapshots, pace: Pace | None = None) -> None:
        self._snapshots = snapshots
        self._pace = pace or Pace()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: dict[str, asyncio.Event] = {}
        self._resting: dict[str, bool] = {}
        """Projects whose watchers were woken just now, and whether there is news since."""
        self._bodies: dict[str, tuple[Snapshot, bytes]] = {}
        self._confirmations: dict[str, tuple[tuple[object, ...], bytes]] = {}
        self._open = 0
        snapshots.listen(self._tell)

    def start(self) -> None:
        """Remember the running loop, on which watchers are woken."""
        self._loop = asyncio.get_running_loop()
        metrics.get_meter("touchstone.assignment").create_observable_gauge(
            WATCHES_METRIC, [self._observe], *METRICS[WATCHES_METRIC]
        )

    async def watch(self, project: str, known_digest: str) -> AsyncIterator[bytes]:
        """Serialized WatchConfigResponses without an end: at once, then on every change.

        The rules are left out of the first when their digest is the known one.
        """
        if self._snapshots.known(project) is None:
            await asyncio.to_thread(self._snapshots.of, project)
        loop = asyncio.get_running_loop()
        self._open += 1
        try:
            sent, confirm_at = known_digest, 0.0
            while True:
                changed = self._change_of(project)  # before the look, which misses what comes after
                snapshot = self._snapshots.of(project)  # from memory: it was loaded before
                message = None
                if snapshot.digest != sent:
                    sent, message = snapshot.digest, self._body(project, snapshot)
                elif loop.time() >= confirm_at:
                    message = self._confirmation(project, snapshot)
                if message is not None:
                    yield message
                    confirm_at = loop.time() + self._pace.confirm_s
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(confirm_at):
                        await changed.wait()
        finally:
            self._open -= 1

    def _tell(self, project: str) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, project)

    def _change_of(self, project: str) -> asyncio.Event:
        """What is set at the project's next change."""
        changed = self._changed.get(project)
        if changed is None:
            changed = self._changed[project] = asyncio.Event()
        return changed

    def _wake(self, project: str) -> None:
        if project in self._resting:
            self._resting[project] = True
            return
        self._resting[project] = False
        asyncio.get_running_loop().call_later(self._pace.coalesce_s, self._rested, project)
        # Whoever comes from now on waits for the next change.
        changed = self._changed.pop(project, None)
        if changed is not None:
            changed.set()

    def _rested(self, project: str) -> None:
        if self._resting.pop(project):
            self._wake(project)

    def _body(self, project: str, snapshot: Snapshot) -> bytes:
        known = self._bodies.get(project)
        if known is None or known[0] is not snapshot:
            known = self._bodies[project] = (snapshot, self._message(project, snapshot, whole=True))
        return known[1]

    def _confirmation(self, project: str, snapshot: Snapshot) -> bytes:
        key = (snapshot.digest, self._snapshots.confirmed(project))
        known = self._confirmations.get(project)
        if known is None or known[0] != key:
            made = self._message(project, snapshot, whole=False)
            known = self._confirmations[project] = (key, made)
        return known[1]

    def _message(self, project: str, snapshot: Snapshot, *, whole: bool) -> bytes:
        response = pb.WatchConfigResponse(
            config_version=snapshot.config_version,
            ruleset=snapshot.body if whole else b"",
            digest=snapshot.digest,
        )
        confirmed = self._snapshots.confirmed(project)
        if confirmed is not None:
            response.confirm_time.FromDatetime(confirmed)
        return response.SerializeToString()

    def _observe(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self._open)]
