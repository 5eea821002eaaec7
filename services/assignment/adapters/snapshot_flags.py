"""The flags of the projects, from the snapshots that Assign decides by."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from touchstone.assignment.v1.ruleset_pb2 import Ruleset
from touchstone_assignment.decision import Decision
from touchstone_assignment.parameters import ParameterDecision
from touchstone_assignment.subject import Subject

from services.assignment.application.flag_set import FlagSet, flag_set
from services.assignment.application.snapshots import Snapshot, Snapshots
from shared.errors import DomainError

_LOOK_S = 1.0
_PATIENCE_S = 2.0
"""How long an answer waits for rules that it was told of."""


class Decisions(Protocol):
    """Decides as Assign does, with what only the server knows."""

    async def decide(
        self,
        snapshot: Snapshot,
        experiments: Sequence[str],
        subject: Subject,
        *,
        keep: bool = True,
    ) -> Sequence[Decision]:
        """A decision for each of the experiments, in their order; kept from now on, or not."""
        ...

    async def parameters(
        self, snapshot: Snapshot, keys: Sequence[str], subject: Subject
    ) -> Mapping[str, ParameterDecision]:
        """The values of the parameters."""
        ...


@dataclass(frozen=True, slots=True)
class SnapshotRules:
    """A snapshot as flags: see FlagRules."""

    flags: FlagSet
    snapshot: Snapshot
    decisions: Decisions

    @property
    def digest(self) -> str:
        """Of the rules."""
        return self.snapshot.digest

    @property
    def ruleset(self) -> Ruleset:
        """The rules that the flags are made from."""
        return self.snapshot.ruleset

    async def decide(
        self, experiments: Sequence[str], subject: Subject, *, keep: bool = True
    ) -> Sequence[Decision]:
        """A decision for each of the experiments."""
        return await self.decisions.decide(self.snapshot, experiments, subject, keep=keep)

    async def parameters(
        self, keys: Sequence[str], subject: Subject
    ) -> Mapping[str, ParameterDecision]:
        """The values of the parameters."""
        return await self.decisions.parameters(self.snapshot, keys, subject)


class SnapshotFlags:
    """ServedFlags over snapshots, which other tasks and threads keep fresh.

    Its methods are called from one event loop. Whatever versions callers claim to know of, the
    store is read for them once in `look_s` seconds at most.
    """

    def __init__(self, snapshots: Snapshots, decisions: Decisions, look_s: float = _LOOK_S) -> None:
        self._snapshots = snapshots
        self._decisions = decisions
        self._look_s = look_s
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._look_at: dict[str, float] = {}
        """When the next look is due, of the projects that ever had one."""
        self._made: dict[str, SnapshotRules] = {}
        self._making: dict[str, asyncio.Lock] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        snapshots.listen(self._tell)

    async def rules(self, project: str, at_least: int = 0) -> SnapshotRules:
        """What decides in a project: see ServedFlags."""
        snapshot = self._snapshots.known(project)
        if snapshot is None:
            snapshot = await asyncio.to_thread(self._snapshots.of, project)
        if snapshot.config_version < at_least:
            snapshot = await self._caught_up(project, at_least)
        made = self._made.get(project)
        if made is None or made.snapshot is not snapshot:
            made = await self._make(project)
        return made

    async def changes(self, project: str) -> AsyncIterator[SnapshotRules]:
        """What decides in a project, now and whenever it is something else."""
        rules = await self.rules(project)
        while True:
            yield rules
            rules = await self._other(project, rules.digest)

    async def _make(self, project: str) -> SnapshotRules:
        async with self._making.setdefault(project, asyncio.Lock()):
            # Whoever waited may find that another made it, or that there is a newer one to make.
            snapshot = self._known(project)
            made = self._made.get(project)
            if made is None or made.snapshot is not snapshot:
                flags = await asyncio.to_thread(flag_set, snapshot.ruleset)
                made = self._made[project] = SnapshotRules(flags, snapshot, self._decisions)
            return made

    async def _other(self, project: str, digest: str) -> SnapshotRules:
        self._loop = asyncio.get_running_loop()
        while True:
            changed = self._changed.setdefault(project, asyncio.Event())
            if self._known(project).digest != digest:
                rules = await self.rules(project)
                if rules.digest != digest:
                    return rules
            await changed.wait()

    def _known(self, project: str) -> Snapshot:
        snapshot = self._snapshots.known(project)
        assert snapshot is not None, "what was known once stays known"
        return snapshot

    async def _caught_up(self, project: str, at_least: int) -> Snapshot:
        """After a look at the store that began later than this, or the newest at hand."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                running = self._looks.get(project)
                if running is not None:  # perhaps it read before the change
                    await asyncio.shield(running)
                if self._known(project).config_version < at_least:
                    await asyncio.shield(self._next_look(project))
        return self._known(project)

    def _next_look(self, project: str) -> asyncio.Task[None]:
        if project not in self._looks:
            self._looks[project] = asyncio.create_task(self._look(project))
        return self._looks[project]

    async def _look(self, project: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(self._look_at.get(project, 0.0) - loop.time())
            self._look_at[project] = loop.time() + self._look_s
            # That the store is away is for the poller to say; what was known goes on.
            with suppress(DomainError):
                await asyncio.to_thread(self._snapshots.refresh, project)
        finally:
            del self._looks[project]

    def _tell(self, project: str) -> None:
        """Called in any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, project)

    def _wake(self, project: str) -> None:
        # Whoever comes from now on waits for the next change.
        changed = self._changed.pop(project, None)
        if changed is not None:
            changed.set()
