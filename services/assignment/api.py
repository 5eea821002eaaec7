"""The servicers: decode, handle, encode."""

import asyncio
from typing import Any

from touchstone.assignment.v1 import assignment_service_pb2 as assignment_pb

from services.assignment import decode, encode_decisions
from services.assignment.application.assign import assign, explain
from services.assignment.application.snapshots import Snapshots
from shared.clock import Clock
from shared.security.caller import current_caller


class AssignmentServicer:
    """touchstone.assignment.v1.AssignmentService."""

    def __init__(self, snapshots: Snapshots, clock: Clock) -> None:
        self._snapshots = snapshots
        self._clock = clock

    async def Assign(
        self, request: assignment_pb.AssignRequest, _context: Any
    ) -> assignment_pb.AssignResponse:
        """Decides from memory; only a project that was never seen is loaded first."""
        project = current_caller().project
        snapshot = self._snapshots.known(project)
        if snapshot is None:
            snapshot = await asyncio.to_thread(self._snapshots.of, project)
        command = decode.assign(request, self._clock.now().timestamp())
        units = len(request.units)
        if request.explain:
            return encode_decisions.explained(snapshot, units, explain(command, snapshot.evaluator))
        return encode_decisions.assigned(snapshot, units, assign(command, snapshot.evaluator))
