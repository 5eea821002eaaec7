"""The servicer of what is kept of single units: decode, handle, encode."""

from typing import Any

from touchstone.assignment.v1 import unit_service_pb2 as pb

from services.assignment.application.backend import Backend
from services.assignment.ports import Configuration
from shared.mutations import Mutation
from shared.resource_names import require_parent
from shared.security.caller import current_caller


class UnitServicer:
    """touchstone.assignment.v1.UnitService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def ForgetUnit(
        self, request: pb.ForgetUnitRequest, _context: Any
    ) -> pb.ForgetUnitResponse:
        """Forgets a unit."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)

        def work(configuration: Configuration) -> pb.ForgetUnitResponse:
            # A version of its own, so that no process goes on deciding by what was forced.
            configuration.next_revision(project, backend.clock.now())
            found = configuration.forget_unit(project, request.unit.type, request.unit.id)
            return pb.ForgetUnitResponse(
                kept_variants=found.kept_variants, forced_variants=found.forced_variants
            )

        mutation = Mutation(request, request.parent, request.request_id, request.validate_only)
        return await backend.write(mutation, work)
