"""The servicer of audiences: decode, handle, encode."""

import asyncio
from typing import Any

from touchstone.assignment.v1 import audience_service_pb2 as pb

from services.assignment.application.audience_ids import UploadIds, commit_ids, upload_ids
from services.assignment.application.audiences import (
    NOUN,
    check_members,
    create_audience,
    delete_audience,
    update_audience,
)
from services.assignment.application.backend import Backend
from services.assignment.application.find_resource import (
    SORT_KEY,
    ListResources,
    Which,
    find_resource,
    list_resources,
)
from services.assignment.application.snapshots import IdSets
from services.assignment.ports import Configuration
from services.assignment.wire import decode_audiences as decode
from services.assignment.wire import encode_audiences as encode
from shared.mutations import Mutation
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import current_caller
from shared.state.paging import read_page


class AudienceServicer:
    """touchstone.assignment.v1.AudienceService."""

    def __init__(self, backend: Backend, id_sets: IdSets) -> None:
        self._backend = backend
        self._id_sets = id_sets

    async def CreateAudience(
        self, request: pb.CreateAudienceRequest, _context: Any
    ) -> pb.CreateAudienceResponse:
        """Makes an audience."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode.create(request, project)
        name = resource_name(project, decode.COLLECTION, request.audience_id)

        def work(configuration: Configuration) -> pb.CreateAudienceResponse:
            found = create_audience(command, configuration, backend.clock.now())
            return pb.CreateAudienceResponse(audience=encode.audience(found))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetAudience(
        self, request: pb.GetAudienceRequest, _context: Any
    ) -> pb.GetAudienceResponse:
        """Reads one audience."""
        project = current_caller().project
        which = Which(project, require_id(request.name, project, decode.COLLECTION))
        found = await self._backend.read(lambda c: find_resource(c.audiences, NOUN, which))
        return pb.GetAudienceResponse(audience=encode.audience(found))

    async def ListAudiences(
        self, request: pb.ListAudiencesRequest, _context: Any
    ) -> pb.ListAudiencesResponse:
        """Lists audiences by name."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        command = ListResources(project, page.size, page.place(SORT_KEY))
        found, last = await self._backend.read(lambda c: list_resources(command, c.audiences))
        return pb.ListAudiencesResponse(
            audiences=[encode.audience(audience) for audience in found],
            next_page_token=page.token(last) if last else "",
        )

    async def UpdateAudience(
        self, request: pb.UpdateAudienceRequest, _context: Any
    ) -> pb.UpdateAudienceResponse:
        """Changes the fields that the mask names."""
        backend = self._backend
        command = decode.update(request, current_caller().project)

        def work(configuration: Configuration) -> pb.UpdateAudienceResponse:
            found = update_audience(command, configuration, backend.clock.now())
            return pb.UpdateAudienceResponse(audience=encode.audience(found))

        name = request.audience.name
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def DeleteAudience(
        self, request: pb.DeleteAudienceRequest, _context: Any
    ) -> pb.DeleteAudienceResponse:
        """Deletes an audience that nothing asks for."""
        backend, project = self._backend, current_caller().project
        command = Which(project, require_id(request.name, project, decode.COLLECTION), request.etag)

        def work(configuration: Configuration) -> pb.DeleteAudienceResponse:
            delete_audience(command, configuration, backend.clock.now())
            return pb.DeleteAudienceResponse()

        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def UploadAudienceIds(
        self, request: pb.UploadAudienceIdsRequest, _context: Any
    ) -> pb.UploadAudienceIdsResponse:
        """Keeps a part of an upload, by which nobody decides yet: no snapshot is made anew."""
        backend, project = self._backend, current_caller().project

        def keep() -> pb.UploadAudienceIdsResponse:
            command = decode.upload(request, project)
            mutation = Mutation(request, request.name, request.request_id)
            return backend.writer.write(mutation, lambda c: work(command, c))

        def work(command: UploadIds, configuration: Configuration) -> pb.UploadAudienceIdsResponse:
            parts = upload_ids(command, configuration, backend.clock.now())
            return pb.UploadAudienceIdsResponse(parts=parts)

        return await asyncio.to_thread(keep)

    async def CommitAudienceIds(
        self, request: pb.CommitAudienceIdsRequest, _context: Any
    ) -> pb.CommitAudienceIdsResponse:
        """Puts an upload in the place of the list."""
        backend = self._backend
        command = decode.commit(request, current_caller().project)

        def work(configuration: Configuration) -> pb.CommitAudienceIdsResponse:
            found = commit_ids(command, configuration, backend.clock.now())
            return pb.CommitAudienceIdsResponse(audience=encode.audience(found))

        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def TestAudience(
        self, request: pb.TestAudienceRequest, _context: Any
    ) -> pb.TestAudienceResponse:
        """Says who belongs, by the audience as it is stored now."""
        backend = self._backend
        now_s = backend.clock.now().timestamp()
        command = decode.check(request, current_caller().project, now_s)
        members = await backend.read(lambda c: check_members(command, c, self._id_sets))
        return pb.TestAudienceResponse(members=members)
