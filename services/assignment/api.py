"""The servicers: decode, handle, encode."""

import asyncio
from typing import Any

from touchstone.assignment.v1 import assignment_service_pb2 as assignment_pb
from touchstone.assignment.v1 import layer_service_pb2 as layer_pb

from services.assignment import decode, encode, encode_decisions
from services.assignment.application.assign import assign, explain
from services.assignment.application.create_layer import create_layer
from services.assignment.application.find import find_layer
from services.assignment.application.list_layers import SORT_KEY as LAYER_SORT_KEY
from services.assignment.application.list_layers import ListLayers, list_layers
from services.assignment.application.snapshots import Snapshots
from services.assignment.backend import Backend
from services.assignment.ports import Configuration
from shared.clock import Clock
from shared.mutations import Mutation
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import current_caller
from shared.state.paging import read_page


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


class LayerServicer:
    """touchstone.assignment.v1.LayerService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateLayer(
        self, request: layer_pb.CreateLayerRequest, _context: Any
    ) -> layer_pb.CreateLayerResponse:
        """Makes an empty layer."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode.create_layer(request, project)
        name = resource_name(project, "layers", request.layer_id)

        def work(configuration: Configuration) -> layer_pb.CreateLayerResponse:
            now = backend.clock.now()
            found = create_layer(command, configuration, backend.ids, now)
            return layer_pb.CreateLayerResponse(layer=encode.layer(found, now))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetLayer(
        self, request: layer_pb.GetLayerRequest, _context: Any
    ) -> layer_pb.GetLayerResponse:
        """Reads one layer with its ledger."""
        project = current_caller().project
        key = require_id(request.name, project, "layers")
        found = await self._backend.read(lambda c: find_layer(c, project, key))
        return layer_pb.GetLayerResponse(layer=encode.layer(found, self._backend.clock.now()))

    async def ListLayers(
        self, request: layer_pb.ListLayersRequest, _context: Any
    ) -> layer_pb.ListLayersResponse:
        """Lists layers by name, without their ledgers."""
        project, now = current_caller().project, self._backend.clock.now()
        require_parent(request.parent, project)
        page = read_page(request, project)
        command = ListLayers(project, page.size, page.place(LAYER_SORT_KEY))
        found, last = await self._backend.read(lambda c: list_layers(command, c))
        return layer_pb.ListLayersResponse(
            layers=[encode.layer(layer, now, ledger=False) for layer in found],
            next_page_token=page.token(last) if last else "",
        )
