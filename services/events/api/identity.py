"""IdentityService: decode, handle, encode."""

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

import grpc
from touchstone.events.v1 import identity_service_pb2 as pb
from touchstone.events.v1 import identity_service_pb2_grpc as rpc

from services.events.application.identity_policy import PolicyToChange, get_policy, update_policy
from services.events.wire.identity import (
    decode_as_of,
    decode_patch,
    decode_unit,
    encode_edge,
    encode_identity,
    encode_policy,
)
from shared.clock import Clock
from shared.identity.identity import Identity
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlIdentityPolicies, policy_name
from shared.lake.analyses import Analyses
from shared.lake.snapshot import EventTables
from shared.mutations import Mutation, Mutations
from shared.resource_names import OtherTenantError, require_parent
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s
from shared.state.database import Database
from shared.state.paging import read_page

LONGEST_WAIT_S = 20.0

_Reading: TypeAlias = (
    pb.ResolveIdentityRequest | pb.BatchResolveIdentitiesRequest | pb.ListIdentityEdgesRequest
)


@dataclass(frozen=True, slots=True)
class Links:
    """Where identities are read: the event tables, and the threads that may be busy with them."""

    tables: EventTables
    reader: IdentityReader
    analyses: Analyses


@dataclass(frozen=True, slots=True)
class Policies:
    """Where policies are kept."""

    database: Database
    mutations: Mutations
    clock: Clock


class IdentityServicer(rpc.IdentityServiceServicer):
    """See touchstone/events/v1/identity_service.proto."""

    def __init__(self, links: Links, policies: Policies) -> None:
        self._links = links
        self._policies = policies

    async def ResolveIdentity(
        self, request: pb.ResolveIdentityRequest, context: grpc.ServicerContext
    ) -> pb.ResolveIdentityResponse:
        """Says which identity a unit belongs to."""
        as_of_us, unit = decode_as_of(request), decode_unit(request.unit)
        identity = await self._identity(request, context)
        (found,) = await asyncio.to_thread(identity.resolve, [unit], as_of_us)
        return pb.ResolveIdentityResponse(
            identity=encode_identity(found), identity_version=identity.version
        )

    async def BatchResolveIdentities(
        self, request: pb.BatchResolveIdentitiesRequest, context: grpc.ServicerContext
    ) -> pb.BatchResolveIdentitiesResponse:
        """Says which identities several units belong to."""
        as_of_us, units = decode_as_of(request), [decode_unit(unit) for unit in request.units]
        identity = await self._identity(request, context)
        found = await asyncio.to_thread(identity.resolve, units, as_of_us)
        return pb.BatchResolveIdentitiesResponse(
            identities=[encode_identity(one) for one in found], identity_version=identity.version
        )

    async def ListIdentityEdges(
        self, request: pb.ListIdentityEdgesRequest, context: grpc.ServicerContext
    ) -> pb.ListIdentityEdgesResponse:
        """Lists what the log says of one unit."""
        page = read_page(request, current_caller().project)
        place = page.place(r"([0-9]{1,15})")
        identity = await self._identity(request, context)
        after = int(place[0]) if place else -1
        rows = await asyncio.to_thread(identity.entries, decode_unit(request.unit), after)
        shown, more = rows[: page.size], len(rows) > page.size
        return pb.ListIdentityEdgesResponse(
            edges=[encode_edge(identity, row) for row in shown],
            next_page_token=page.token(str(shown[-1])) if more else "",
            identity_version=identity.version,
        )

    async def GetIdentityPolicy(
        self, request: pb.GetIdentityPolicyRequest, context: grpc.ServicerContext
    ) -> pb.GetIdentityPolicyResponse:
        """Reads the project's policy."""
        project = _require_own(request.name)

        def answer() -> pb.GetIdentityPolicyResponse:
            with self._policies.database.read() as connection:
                policies = SqlIdentityPolicies(connection)
                stored = get_policy(project, request.name, request.version, policies)
            return pb.GetIdentityPolicyResponse(policy=encode_policy(stored, project))

        return await asyncio.to_thread(answer)

    async def UpdateIdentityPolicy(
        self, request: pb.UpdateIdentityPolicyRequest, context: grpc.ServicerContext
    ) -> pb.UpdateIdentityPolicyResponse:
        """Changes the fields that the mask names."""
        name = request.policy.name
        project = _require_own(name)
        target = PolicyToChange(project, name, request.policy.etag)
        patch = decode_patch(request.policy, list(request.update_mask.paths))
        now = self._policies.clock.now()
        return await asyncio.to_thread(
            self._policies.mutations.run,
            Mutation(request, name, request.request_id, request.validate_only),
            lambda connection: pb.UpdateIdentityPolicyResponse(
                policy=encode_policy(
                    update_policy(target, patch, SqlIdentityPolicies(connection), now), project
                )
            ),
        )

    async def _identity(self, request: _Reading, context: grpc.ServicerContext) -> Identity:
        project, links = current_caller().project, self._links
        require_parent(request.parent, project)
        wait_s = waiting_time_s(context, LONGEST_WAIT_S)
        await links.tables.wait_until(request.consistency_token, wait_s)

        def read() -> Identity:
            snapshot = links.tables.snapshot(project)
            with snapshot.read() as tables:
                return links.reader.of(project, snapshot.watermark, tables)

        return await links.analyses.run(read)


def _require_own(name: str) -> str:
    """The caller's project, when the name is that of its policy; NOT_FOUND for any other."""
    project = current_caller().project
    if name != policy_name(project):
        raise OtherTenantError("identity policy", name)
    return project
