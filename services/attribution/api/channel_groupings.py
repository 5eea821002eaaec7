"""ChannelGroupingService: decode, handle, encode; and what other calls look up of groupings."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import grouping_service_pb2 as pb
from touchstone.attribution.v1 import grouping_service_pb2_grpc as rpc

from services.attribution.application.channel_groupings import (
    COLLECTION,
    GroupingToChange,
    NewGrouping,
    create_grouping,
    delete_grouping,
    find_grouping,
    grouping_name,
    update_grouping,
)
from services.attribution.limits import KEPT_LIMITS, KeptLimits
from services.attribution.ports import Groupings, GroupingStore
from services.attribution.wire.channel_groupings import (
    decode_patch,
    document_of,
    encode_kept,
    encode_version,
    kept_grouping,
    resolved_definition,
)
from shared.clock import Clock
from shared.mutations import Mutation, Mutations
from shared.resource_names import require_id, require_parent
from shared.security.caller import current_caller
from shared.state.paging import read_page

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class KeptGroupings:
    """Looks up what definitions of the caller's project name."""

    groupings: Groupings

    async def resolved(
        self, definition: attribution_pb2.JourneyDefinition
    ) -> attribution_pb2.JourneyDefinition:
        """The definition with the rules of the grouping that it names; see resolved_definition."""
        if not definition.channel_grouping.name:
            return definition
        project = current_caller().project

        def look_up() -> attribution_pb2.JourneyDefinition:
            with self.groupings.read() as store:
                return resolved_definition(definition, project, store)

        return await asyncio.to_thread(look_up)

    async def kept(
        self, grouping: attribution_pb2.ChannelGrouping
    ) -> attribution_pb2.ChannelGrouping | None:
        """The grouping that the message names, None where it names none."""
        if not grouping.name:
            return None
        project = current_caller().project

        def look_up() -> attribution_pb2.ChannelGrouping:
            with self.groupings.read() as store:
                return kept_grouping(grouping, project, store)

        return await asyncio.to_thread(look_up)


@dataclass(frozen=True, slots=True)
class ChannelGroupingServicer(rpc.ChannelGroupingServiceServicer):
    """The channel groupings of the caller's project; the work is done in threads."""

    groupings: Groupings
    mutations: Mutations
    clock: Clock
    limits: KeptLimits = KEPT_LIMITS

    async def CreateChannelGrouping(
        self, request: pb.CreateChannelGroupingRequest, _context: Any
    ) -> pb.CreateChannelGroupingResponse:
        """Keeps a new grouping."""
        project, grouping_id = current_caller().project, request.channel_grouping_id
        require_parent(request.parent, project)
        new = NewGrouping(project, grouping_id, document_of(request.channel_grouping))
        name = grouping_name(project, grouping_id)

        def work(store: GroupingStore) -> pb.CreateChannelGroupingResponse:
            made = create_grouping(new, store, self.clock.now(), self.limits)
            return pb.CreateChannelGroupingResponse(channel_grouping=encode_kept(made))

        return await self._change(request, name, work)

    async def GetChannelGrouping(
        self, request: pb.GetChannelGroupingRequest, _context: Any
    ) -> pb.GetChannelGroupingResponse:
        """Reads a grouping."""
        project, version = current_caller().project, request.version
        grouping_id = require_id(request.name, project, COLLECTION)

        def answer() -> pb.GetChannelGroupingResponse:
            with self.groupings.read() as store:
                found = find_grouping(project, grouping_id, store, version)
            shown = encode_version(found) if version else encode_kept(found)
            return pb.GetChannelGroupingResponse(channel_grouping=shown)

        return await asyncio.to_thread(answer)

    async def ListChannelGroupings(
        self, request: pb.ListChannelGroupingsRequest, _context: Any
    ) -> pb.ListChannelGroupingsResponse:
        """Lists groupings by name."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)

        def answer() -> pb.ListChannelGroupingsResponse:
            with self.groupings.read() as store:
                found = store.page(project, page.after or "", page.size + 1)
            shown, more = found[: page.size], len(found) > page.size
            return pb.ListChannelGroupingsResponse(
                channel_groupings=[encode_kept(each) for each in shown],
                next_page_token=page.token(shown[-1].grouping_id) if more else "",
            )

        return await asyncio.to_thread(answer)

    async def ListChannelGroupingVersions(
        self, request: pb.ListChannelGroupingVersionsRequest, _context: Any
    ) -> pb.ListChannelGroupingVersionsResponse:
        """Lists the versions of a grouping, newest first."""
        project = current_caller().project
        grouping_id = require_id(request.name, project, COLLECTION)
        page = read_page(request, project)
        place = page.place(r"([0-9]{1,18})")
        before = None if place is None else int(place[0])

        def answer() -> pb.ListChannelGroupingVersionsResponse:
            with self.groupings.read() as store:
                find_grouping(project, grouping_id, store)
                found = store.versions(project, grouping_id, before, page.size + 1)
            shown, more = found[: page.size], len(found) > page.size
            return pb.ListChannelGroupingVersionsResponse(
                channel_groupings=[encode_version(each) for each in shown],
                next_page_token=page.token(str(shown[-1].version)) if more else "",
            )

        return await asyncio.to_thread(answer)

    async def UpdateChannelGrouping(
        self, request: pb.UpdateChannelGroupingRequest, _context: Any
    ) -> pb.UpdateChannelGroupingResponse:
        """Keeps the changed grouping as the next version."""
        wanted = request.channel_grouping
        target = _target(wanted.name, wanted.etag)
        patch = decode_patch(wanted, list(request.update_mask.paths))

        def work(store: GroupingStore) -> pb.UpdateChannelGroupingResponse:
            changed = update_grouping(target, patch, store, self.clock.now(), self.limits)
            return pb.UpdateChannelGroupingResponse(channel_grouping=encode_kept(changed))

        return await self._change(request, wanted.name, work)

    async def DeleteChannelGrouping(
        self, request: pb.DeleteChannelGroupingRequest, _context: Any
    ) -> pb.DeleteChannelGroupingResponse:
        """Deletes a grouping."""
        target = _target(request.name, request.etag)

        def work(store: GroupingStore) -> pb.DeleteChannelGroupingResponse:
            delete_grouping(target, store, self.clock.now())
            return pb.DeleteChannelGroupingResponse()

        return await self._change(request, request.name, work)

    async def _change(self, request: Any, name: str, work: Callable[[GroupingStore], M]) -> M:
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await asyncio.to_thread(
            self.mutations.run,
            mutation,
            lambda connection: work(self._store(connection)),
        )

    def _store(self, connection: sa.Connection) -> GroupingStore:
        return self.groupings.within(connection)


def _target(name: str, etag: str) -> GroupingToChange:
    project = current_caller().project
    return GroupingToChange(project, require_id(name, project, COLLECTION), etag)
