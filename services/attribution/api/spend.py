"""SpendService: decode, handle, encode."""

import asyncio
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from touchstone.attribution.v1 import spend_service_pb2 as pb
from touchstone.attribution.v1 import spend_service_pb2_grpc as rpc

from services.attribution.application.spend import import_spend
from services.attribution.limits import KEPT_LIMITS, KeptLimits
from services.attribution.spend_ports import Ledger
from services.attribution.wire.spend import (
    PLACE,
    decode_import,
    decode_place,
    decode_selection,
    encode_place,
    encode_spend,
)
from shared.mutations import Mutation, Mutations
from shared.resource_names import require_parent
from shared.security.caller import current_caller
from shared.state.paging import read_page


@dataclass(frozen=True, slots=True)
class SpendServicer(rpc.SpendServiceServicer):
    """The spend of the caller's project; the work is done in threads."""

    ledger: Ledger
    mutations: Mutations
    limits: KeptLimits = KEPT_LIMITS

    async def ImportSpend(
        self, request: pb.ImportSpendRequest, _context: Any
    ) -> pb.ImportSpendResponse:
        """Imports spend."""
        project = current_caller().project
        require_parent(request.parent, project)
        command = decode_import(request, project)

        def work(connection: sa.Connection) -> pb.ImportSpendResponse:
            done = import_spend(command, self.ledger.within(connection), self.limits)
            return pb.ImportSpendResponse(
                added=done.added,
                replaced=done.replaced,
                unchanged=done.unchanged,
                deleted=done.deleted,
            )

        return await asyncio.to_thread(self.mutations.run, _mutation(request), work)

    async def ListSpend(self, request: pb.ListSpendRequest, _context: Any) -> pb.ListSpendResponse:
        """Lists spend."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        place = page.place(PLACE)
        selection = decode_selection(request, project)

        def answer() -> pb.ListSpendResponse:
            behind = None if place is None else decode_place(*place)
            with self.ledger.read() as store:
                found = store.page(selection, behind, page.size + 1)
            shown = found[: page.size]
            return pb.ListSpendResponse(
                rows=[encode_spend(row) for row in shown],
                next_page_token=(
                    page.token(encode_place(shown[-1])) if len(found) > page.size else ""
                ),
            )

        return await asyncio.to_thread(answer)

    async def DeleteSpend(
        self, request: pb.DeleteSpendRequest, _context: Any
    ) -> pb.DeleteSpendResponse:
        """Deletes spend of one source."""
        project = current_caller().project
        require_parent(request.parent, project)
        selection = decode_selection(request, project)

        def work(connection: sa.Connection) -> pb.DeleteSpendResponse:
            return pb.DeleteSpendResponse(deleted=self.ledger.within(connection).delete(selection))

        return await asyncio.to_thread(self.mutations.run, _mutation(request), work)


def _mutation(request: pb.ImportSpendRequest | pb.DeleteSpendRequest) -> Mutation:
    resource = f"{request.parent}/spend"
    return Mutation(request, resource, request.request_id, request.validate_only)
