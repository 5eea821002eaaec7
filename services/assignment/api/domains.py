"""The servicer of domains and holdouts: decode, handle, encode."""

from typing import Any

from touchstone.assignment.v1 import domain_service_pb2 as pb

from services.assignment.application.backend import Backend
from services.assignment.application.domains import create_domain, release_domain, update_domain
from services.assignment.application.find_resource import (
    SORT_KEY,
    ListResources,
    Which,
    find_resource,
    list_resources,
)
from services.assignment.application.holdouts import create_holdout, end_holdout, update_holdout
from services.assignment.ports import Configuration
from services.assignment.wire import decode_resources, encode_resources
from shared.mutations import Mutation
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import current_caller
from shared.state.paging import read_page

HOLDOUT_FIELDS = ("display_name", "description")


class DomainServicer:
    """touchstone.assignment.v1.DomainService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateDomain(
        self, request: pb.CreateDomainRequest, _context: Any
    ) -> pb.CreateDomainResponse:
        """Makes a domain, which has its slots at once."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode_resources.create_domain(request, project)
        name = resource_name(project, "domains", request.domain_id)

        def work(configuration: Configuration) -> pb.CreateDomainResponse:
            found = create_domain(command, configuration, backend.clock.now())
            return pb.CreateDomainResponse(domain=encode_resources.domain(found))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetDomain(self, request: pb.GetDomainRequest, _context: Any) -> pb.GetDomainResponse:
        """Reads one domain."""
        project = current_caller().project
        which = Which(project, require_id(request.name, project, "domains"))
        found = await self._backend.read(lambda c: find_resource(c.domains, "domain", which))
        return pb.GetDomainResponse(domain=encode_resources.domain(found))

    async def ListDomains(
        self, request: pb.ListDomainsRequest, _context: Any
    ) -> pb.ListDomainsResponse:
        """Lists domains by name."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        command = ListResources(project, page.size, page.place(SORT_KEY))
        found, last = await self._backend.read(lambda c: list_resources(command, c.domains))
        return pb.ListDomainsResponse(
            domains=[encode_resources.domain(domain) for domain in found],
            next_page_token=page.token(last) if last else "",
        )

    async def UpdateDomain(
        self, request: pb.UpdateDomainRequest, _context: Any
    ) -> pb.UpdateDomainResponse:
        """Changes the title, or takes more slots."""
        backend = self._backend
        command = decode_resources.update_domain(request, current_caller().project)

        def work(configuration: Configuration) -> pb.UpdateDomainResponse:
            found = update_domain(command, configuration, backend.clock.now())
            return pb.UpdateDomainResponse(domain=encode_resources.domain(found))

        name = request.domain.name
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def ReleaseDomain(
        self, request: pb.ReleaseDomainRequest, _context: Any
    ) -> pb.ReleaseDomainResponse:
        """Gives the slots back."""
        backend = self._backend
        command = decode_resources.which(request, current_caller().project, "domains")

        def work(configuration: Configuration) -> pb.ReleaseDomainResponse:
            found = release_domain(command, configuration, backend.cool_down, backend.clock.now())
            return pb.ReleaseDomainResponse(domain=encode_resources.domain(found))

        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def CreateHoldout(
        self, request: pb.CreateHoldoutRequest, _context: Any
    ) -> pb.CreateHoldoutResponse:
        """Makes a holdout, which is in force at once."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode_resources.create_holdout(request, project)
        name = resource_name(project, "holdouts", request.holdout_id)

        def work(configuration: Configuration) -> pb.CreateHoldoutResponse:
            found = create_holdout(command, configuration, backend.ids, backend.clock.now())
            return pb.CreateHoldoutResponse(holdout=encode_resources.holdout(found))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetHoldout(
        self, request: pb.GetHoldoutRequest, _context: Any
    ) -> pb.GetHoldoutResponse:
        """Reads one holdout."""
        project = current_caller().project
        which = Which(project, require_id(request.name, project, "holdouts"))
        found = await self._backend.read(lambda c: find_resource(c.holdouts, "holdout", which))
        return pb.GetHoldoutResponse(holdout=encode_resources.holdout(found))

    async def ListHoldouts(
        self, request: pb.ListHoldoutsRequest, _context: Any
    ) -> pb.ListHoldoutsResponse:
        """Lists holdouts by name."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        command = ListResources(project, page.size, page.place(SORT_KEY))
        found, last = await self._backend.read(lambda c: list_resources(command, c.holdouts))
        return pb.ListHoldoutsResponse(
            holdouts=[encode_resources.holdout(holdout) for holdout in found],
            next_page_token=page.token(last) if last else "",
        )

    async def UpdateHoldout(
        self, request: pb.UpdateHoldoutRequest, _context: Any
    ) -> pb.UpdateHoldoutResponse:
        """Changes the texts that the mask names."""
        backend = self._backend
        command = decode_resources.change(
            request.holdout,
            request.update_mask.paths,
            current_caller().project,
            "holdouts",
            HOLDOUT_FIELDS,
        )

        def work(configuration: Configuration) -> pb.UpdateHoldoutResponse:
            found = update_holdout(command, configuration, backend.clock.now())
            return pb.UpdateHoldoutResponse(holdout=encode_resources.holdout(found))

        name = request.holdout.name
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def EndHoldout(
        self, request: pb.EndHoldoutRequest, _context: Any
    ) -> pb.EndHoldoutResponse:
        """Ends a holdout."""
        backend = self._backend
        command = decode_resources.which(request, current_caller().project, "holdouts")

        def work(configuration: Configuration) -> pb.EndHoldoutResponse:
            found = end_holdout(command, configuration, backend.clock.now())
            return pb.EndHoldoutResponse(holdout=encode_resources.holdout(found))

        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)
