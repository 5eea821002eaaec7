"""The servicer of layers: decode, handle, encode."""

from typing import Any

from touchstone.assignment.v1 import layer_service_pb2 as pb

from services.assignment.application.backend import Backend
from services.assignment.application.create_layer import create_layer
from services.assignment.application.find import find_layer
from services.assignment.application.list_layers import SORT_KEY, ListLayers, list_layers
from services.assignment.application.update_layer import update_layer
from services.assignment.ports import Configuration
from services.assignment.wire import decode_resources, encode_resources
from shared.mutations import Mutation
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import current_caller
from shared.state.paging import read_page


class LayerServicer:
    """touchstone.assignment.v1.LayerService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateLayer(
        self, request: pb.CreateLayerRequest, _context: Any
    ) -> pb.CreateLayerResponse:
        """Makes an empty layer."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode_resources.create_layer(request, project)
        name = resource_name(project, "layers", request.layer_id)

        def work(configuration: Configuration) -> pb.CreateLayerResponse:
            now = backend.clock.now()
            found = create_layer(command, configuration, backend.ids, now)
            return pb.CreateLayerResponse(layer=encode_resources.layer(found, now))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetLayer(self, request: pb.GetLayerRequest, _context: Any) -> pb.GetLayerResponse:
        """Reads one layer with its ledger."""
        project = current_caller().project
        key = require_id(request.name, project, "layers")
        found = await self._backend.read(lambda c: find_layer(c, project, key))
        now = self._backend.clock.now()
        return pb.GetLayerResponse(layer=encode_resources.layer(found, now))

    async def ListLayers(
        self, request: pb.ListLayersRequest, _context: Any
    ) -> pb.ListLayersResponse:
        """Lists layers by name, without their ledgers."""
        project, now = current_caller().project, self._backend.clock.now()
        require_parent(request.parent, project)
        page = read_page(request, project)
        command = ListLayers(project, page.size, page.place(SORT_KEY))
        found, last = await self._backend.read(lambda c: list_layers(command, c))
        return pb.ListLayersResponse(
            layers=[encode_resources.layer(layer, now, ledger=False) for layer in found],
            next_page_token=page.token(last) if last else "",
        )

    async def UpdateLayer(
        self, request: pb.UpdateLayerRequest, _context: Any
    ) -> pb.UpdateLayerResponse:
        """Changes the fields that the mask names."""
        backend = self._backend
        command = decode_resources.update_layer(request, current_caller().project)

        def work(configuration: Configuration) -> pb.UpdateLayerResponse:
            now = backend.clock.now()
            found = update_layer(command, configuration, now)
            return pb.UpdateLayerResponse(layer=encode_resources.layer(found, now))

        name = request.layer.name
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)
