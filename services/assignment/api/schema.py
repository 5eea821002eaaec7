"""The servicer of what a project declares: decode, handle, encode."""

from typing import Any

from touchstone.assignment.v1 import schema_service_pb2 as pb

from services.assignment.application.backend import Backend
from services.assignment.application.find_resource import (
    SORT_KEY,
    ListResources,
    list_resources,
)
from services.assignment.application.schema import (
    create_attribute,
    create_unit_type,
    delete_attribute,
    delete_unit_type,
    update_attribute,
    update_unit_type,
)
from services.assignment.ports import Configuration
from services.assignment.wire import decode_resources, encode_resources
from shared.mutations import Mutation
from shared.resource_names import require_parent, resource_name
from shared.security.caller import current_caller
from shared.state.paging import read_page

UNIT_TYPE_FIELDS = ("display_name", "description")
ATTRIBUTE_FIELDS = ("display_name",)


class SchemaServicer:
    """touchstone.assignment.v1.SchemaService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateUnitType(
        self, request: pb.CreateUnitTypeRequest, _context: Any
    ) -> pb.CreateUnitTypeResponse:
        """Declares a unit type."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode_resources.create_unit_type(request, project)
        name = resource_name(project, "unitTypes", request.unit_type_id)

        def work(configuration: Configuration) -> pb.CreateUnitTypeResponse:
            found = create_unit_type(command, configuration, backend.clock.now())
            return pb.CreateUnitTypeResponse(unit_type=encode_resources.unit_type(found))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def ListUnitTypes(
        self, request: pb.ListUnitTypesRequest, _context: Any
    ) -> pb.ListUnitTypesResponse:
        """Lists unit types by name."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        command = ListResources(project, page.size, page.place(SORT_KEY))
        found, last = await self._backend.read(lambda c: list_resources(command, c.unit_types))
        return pb.ListUnitTypesResponse(
            unit_types=[encode_resources.unit_type(unit_type) for unit_type in found],
            next_page_token=page.token(last) if last else "",
        )

    async def UpdateUnitType(
        self, request: pb.UpdateUnitTypeRequest, _context: Any
    ) -> pb.UpdateUnitTypeResponse:
        """Changes the texts that the mask names."""
        backend = self._backend
        command = decode_resources.change(
            request.unit_type,
            request.update_mask.paths,
            current_caller().project,
            "unitTypes",
            UNIT_TYPE_FIELDS,
        )

        def work(configuration: Configuration) -> pb.UpdateUnitTypeResponse:
            found = update_unit_type(command, configuration, backend.clock.now())
            return pb.UpdateUnitTypeResponse(unit_type=encode_resources.unit_type(found))

        name = request.unit_type.name
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def DeleteUnitType(
        self, request: pb.DeleteUnitTypeRequest, _context: Any
    ) -> pb.DeleteUnitTypeResponse:
        """Deletes a unit type that nothing uses."""
        backend = self._backend
        command = decode_resources.which(request, current_caller().project, "unitTypes")

        def work(configuration: Configuration) -> pb.DeleteUnitTypeResponse:
            delete_unit_type(command, configuration, backend.clock.now())
            return pb.DeleteUnitTypeResponse()

        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def CreateAttribute(
        self, request: pb.CreateAttributeRequest, _context: Any
    ) -> pb.CreateAttributeResponse:
        """Declares an attribute."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode_resources.create_attribute(request, project)
        name = resource_name(project, "attributes", request.attribute_id)

        def work(configuration: Configuration) -> pb.CreateAttributeResponse:
            found = create_attribute(command, configuration, backend.clock.now())
            return pb.CreateAttributeResponse(attribute=encode_resources.attribute(found))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def ListAttributes(
        self, request: pb.ListAttributesRequest, _context: Any
    ) -> pb.ListAttributesResponse:
        """Lists attributes by name."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        command = ListResources(project, page.size, page.place(SORT_KEY))
        found, last = await self._backend.read(lambda c: list_resources(command, c.attributes))
        return pb.ListAttributesResponse(
            attributes=[encode_resources.attribute(attribute) for attribute in found],
            next_page_token=page.token(last) if last else "",
        )

    async def UpdateAttribute(
        self, request: pb.UpdateAttributeRequest, _context: Any
    ) -> pb.UpdateAttributeResponse:
        """Changes the title."""
        backend = self._backend
        command = decode_resources.change(
            request.attribute,
            request.update_mask.paths,
            current_caller().project,
            "attributes",
            ATTRIBUTE_FIELDS,
        )

        def work(configuration: Configuration) -> pb.UpdateAttributeResponse:
            found = update_attribute(command, configuration, backend.clock.now())
            return pb.UpdateAttributeResponse(attribute=encode_resources.attribute(found))

        name = request.attribute.name
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def DeleteAttribute(
        self, request: pb.DeleteAttributeRequest, _context: Any
    ) -> pb.DeleteAttributeResponse:
        """Deletes an attribute that no rule asks for."""
        backend = self._backend
        command = decode_resources.which(request, current_caller().project, "attributes")

        def work(configuration: Configuration) -> pb.DeleteAttributeResponse:
            delete_attribute(command, configuration, backend.clock.now())
            return pb.DeleteAttributeResponse()

        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)
