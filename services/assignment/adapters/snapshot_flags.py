"""The flags of the projects, from the snapshots that Assign decides by."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from touchstone.assignment.v1.ruleset_pb2 import Ruleset
from touchstone_assignment.decision import Decision
from touchstone_assignment.parameters import ParameterDecision
from touchstone_assignment.subject import Subject

from services.assignment.application.flag_set import FlagSet, flag_set
from services.assignment.application.snapshots import Snapshot, Snapshots


class Decisions(Protocol):
    """Decides as Assign does, with what only the server knows."""

    async def decide(
        self, snapshot: Snapshot, experiments: Sequence[str], subject: Subject
    ) -> Sequence[Decision]:
        """A decision for each of the experiments, in their order."""
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
    def ruleset(self) -> Ruleset:
        """The rules that the flags are made from."""
        return self.snapshot.ruleset

    async def decide(self, experiments: Sequence[str], subject: Subject) -> Sequence[Decision]:
        """A decision for each of the experiments."""
        return await self.decisions.decide(self.snapshot, experiments, subject)

    async def parameters(
        self, keys: Sequence[str], subject: Subject
    ) -> Mapping[str, ParameterDecision]:
        """The values of the parameters."""
        return await self.decisions.parameters(self.snapshot, keys, subject)


class SnapshotFlags:
    """ServedFlags over snapshots, which other tasks and threads keep fresh.

    Its methods are called from one event loop.
    """

    def __init__(self, snapshots: Snapshots, decisions: Decisions) -> None:
        self._snapshots = snapshots
        self._decisions = decisions
        self._made: dict[str, SnapshotRules] = {}
        self._making: dict[str, asyncio.Lock] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        snapshots.listen(self._tell)

    async def rules(self, project: str, at_least: int = 0) -> SnapshotRules:
        """What decides in a project: see ServedFlags."""
        snapshot = self._snapshots.known(project)
        if snapshot is None or snapshot.config_version < at_least:
            snapshot = await asyncio.to_thread(self._snapshots.refresh, project)
        made = self._made.get(project)
        if made is None or made.snapshot is not snapshot:
            made = await self._make(project, snapshot)
        return made

    async def versions(self, project: str) -> AsyncIterator[int]:
        """The configuration version of a project, now and whenever it is another."""
        version = (await self.rules(project)).flags.config_version
        while True:
            yield version
            version = await self._next(project, version)

    async def _make(self, project: str, snapshot: Snapshot) -> SnapshotRules:
        async with self._making.setdefault(project, asyncio.Lock()):
            made = self._made.get(project)
            # Whoever waited for another's making may find what is wanted, or something newer.
            if made is None or made.flags.config_version < snapshot.config_version:
                flags = await asyncio.to_thread(flag_set, snapshot.ruleset)
                made = self._made[project] = SnapshotRules(flags, snapshot, self._decisions)
            return made

    async def _next(self, project: str, version: int) -> int:
        self._loop = asyncio.get_running_loop()
        while True:
            changed = self._changed.setdefault(project, asyncio.Event())
            known = self._snapshots.known(project)
            if known is not None and known.config_version > version:
                return known.config_version
            await changed.wait()

    def _tell(self, project: str) -> None:
        """Called in any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, project)

    def _wake(self, project: str) -> None:
        # Whoever comes from now on waits for the next change.
        changed = self._changed.pop(project, None)
        if changed is not None:
            changed.set()
