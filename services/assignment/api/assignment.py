"""The servicer that decides: decode, decide, encode."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import DecodeError
from touchstone.assignment.v1 import assignment_service_pb2 as pb

from services.assignment.application.assign import assign, explain
from services.assignment.application.assign_kept import Served, after_kept, after_kept_explained
from services.assignment.application.assign_many import AssignMany, assign_many
from services.assignment.application.assigned_sample import (
    AssignedSample,
    note_columns,
    note_split,
)
from services.assignment.application.parameters import resolve_parameters
from services.assignment.application.replay import Replays
from services.assignment.application.snapshots import Snapshot, Snapshots
from services.assignment.application.sticky import StickyKeeper
from services.assignment.application.watch import ConfigFeed
from services.assignment.ports import IdLists
from services.assignment.wire import (
    assign_columns,
    decode_assign,
    encode_decisions,
    encode_parameters,
)
from services.assignment.wire.encode_decisions import Answering
from shared.clock import Clock
from shared.security.caller import current_caller
from shared.server.checks import malformed
from shared.server.rules import Rule, rule_of
from shared.server.validation import RequestValidator

ID_LIST_PART_BYTES = 1_048_576
"""Whole fingerprints, and less than any client's limit of a message."""


def rules() -> Mapping[str, Rule]:
    """The contract's rule of Assign, with this besides: the servicer is given the bytes."""
    service = pb.DESCRIPTOR.services_by_name["AssignmentService"]
    rule = rule_of(service.methods_by_name["Assign"])
    if rule is None:
        raise LookupError("the contract has no rule for Assign")
    return {"Assign": replace(rule, handler_parses=True)}


@dataclass(frozen=True, slots=True)
class Deciding:
    """What decides, and what it remembers."""

    snapshots: Snapshots
    replays: Replays
    keeper: StickyKeeper
    feed: ConfigFeed
    id_lists: IdLists
    sample: AssignedSample
    clock: Clock

    async def snapshot(self, project: str) -> Snapshot:
        """What decides now; only a project that was never seen is loaded first."""
        found = self.snapshots.known(project)
        if found is None:
            found = await asyncio.to_thread(self.snapshots.of, project)
        return found


class AssignmentServicer:
    """touchstone.assignment.v1.AssignmentService. Its answers are serialized already."""

    def __init__(self, deciding: Deciding) -> None:
        self._deciding = deciding
        self._validator = RequestValidator()

    async def Assign(self, body: bytes, _context: Any) -> bytes:
        """Decides from memory, now or as it was."""
        many = assign_columns.assign_many(body)
        found = None if many is None else await self._assign_many(many)
        if found is not None:
            return found
        try:
            request = pb.AssignRequest.FromString(body)
        except DecodeError as error:
            raise malformed(len(body), pb.AssignRequest) from error
        return await self._assign(request)

    async def _assign_many(self, command: AssignMany) -> bytes | None:
        project = current_caller().project
        snapshot = await self._deciding.snapshot(project)
        columns = assign_many(command, snapshot.evaluator)
        if columns is None:
            return None
        if self._deciding.sample.due():
            units = command.units()
            for column in columns:
                note_split(self._deciding.sample, project, column.compiled, units, column.split())
        answering = Answering(snapshot, self._deciding.snapshots.age_s(project))
        return encode_decisions.assigned_many(answering, columns)

    async def _assign(self, request: pb.AssignRequest) -> bytes:
        now = self._deciding.clock.now()
        if request.config_version or request.HasField("time"):
            now_s = decode_assign.replay_time_s(request, now)
            # To load and compile an older version takes long, and nobody waits for it but the one.
            return await asyncio.to_thread(self._replay, request, current_caller().project, now_s)
        project = current_caller().project
        snapshot = await self._deciding.snapshot(project)
        command = decode_assign.assign(request, snapshot, now.timestamp(), self._validator)
        answering = Answering(snapshot, self._deciding.snapshots.age_s(project))
        served = Served(project, snapshot.config_version)
        if request.explain:
            traces = explain(command, snapshot.evaluator)
            traces = await after_kept_explained(
                served, command.units, traces, self._deciding.keeper
            )
            return encode_decisions.explained(answering, len(command.units), traces)
        columns = assign(command, snapshot.evaluator)
        columns = await after_kept(served, command.units, columns, self._deciding.keeper)
        if self._deciding.sample.due():
            note_columns(self._deciding.sample, project, command.units, columns)
        return encode_decisions.assigned(answering, len(command.units), columns)

    async def GetParameters(self, request: pb.GetParametersRequest, _context: Any) -> bytes:
        """Resolves parameters from memory."""
        project = current_caller().project
        snapshot = await self._deciding.snapshot(project)
        units = decode_assign.subjects(request.units, self._deciding.clock.now().timestamp())
        found = resolve_parameters(snapshot.evaluator, units, request.keys)
        answering = Answering(snapshot, self._deciding.snapshots.age_s(project))
        return encode_parameters.parameters(answering, found)

    async def CheckHoldouts(self, request: pb.CheckHoldoutsRequest, _context: Any) -> bytes:
        """Says from memory who is held out."""
        snapshot = await self._deciding.snapshot(current_caller().project)
        units = decode_assign.subjects(request.units, 0.0, attributes=False)
        held = [snapshot.evaluator.held_out(unit) for unit in units]
        return encode_parameters.holdouts(snapshot.config_version, held)

    def WatchConfig(self, request: pb.WatchConfigRequest, _context: Any) -> AsyncIterator[bytes]:
        """Sends the rules, and again whenever they change."""
        return self._deciding.feed.watch(current_caller().project, request.known_digest)

    async def GetIdList(
        self, request: pb.GetIdListRequest, _context: Any
    ) -> AsyncIterator[pb.GetIdListResponse]:
        """Sends a list's content in parts."""
        project = current_caller().project
        content = await asyncio.to_thread(
            self._deciding.id_lists.fingerprints, project, request.digest
        )
        for start in range(0, len(content), ID_LIST_PART_BYTES):
            part = content[start : start + ID_LIST_PART_BYTES]
            yield pb.GetIdListResponse(fingerprints=part)

    def _replay(self, request: pb.AssignRequest, project: str, now_s: float) -> bytes:
        snapshot = self._deciding.replays.at(project, request.config_version)
        command = decode_assign.assign(request, snapshot, now_s, self._validator)
        answering = Answering(snapshot, 0.0)
        if request.explain:
            traces = explain(command, snapshot.evaluator)
            return encode_decisions.explained(answering, len(command.units), traces)
        columns = assign(command, snapshot.evaluator)
        return encode_decisions.assigned(answering, len(command.units), columns)
