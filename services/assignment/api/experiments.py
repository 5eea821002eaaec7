"""The servicer of experiments: decode, handle, encode."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as pb

from services.assignment.application.backend import Backend
from services.assignment.application.create_experiment import create_experiment
from services.assignment.application.find import find_experiment
from services.assignment.application.forced_variants import SORT_KEY as FORCED_SORT_KEY
from services.assignment.application.forced_variants import (
    clear_forced_variant,
    list_forced_variants,
    set_forced_variant,
)
from services.assignment.application.kill_experiment import kill_experiment, revive_experiment
from services.assignment.application.list_experiments import (
    SORT_KEY,
    ListExperiments,
    list_experiments,
)
from services.assignment.application.move_experiment import MoveExperiment, move_experiment
from services.assignment.application.set_weights import SetWeights, set_weights
from services.assignment.application.update_experiment import update_experiment
from services.assignment.domain.experiment import Experiment, State
from services.assignment.ports import Configuration
from services.assignment.wire import decode_experiment, encode
from services.assignment.wire.server_only import is_server_only
from shared.errors import Code, DomainError
from shared.mutations import Mutation
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import current_caller
from shared.state.paging import read_page

M = TypeVar("M", bound=Message)
Verb = (
    pb.StartExperimentRequest
    | pb.PauseExperimentRequest
    | pb.StopExperimentRequest
    | pb.ArchiveExperimentRequest
)
Named = Verb | pb.KillExperimentRequest | pb.ReviveExperimentRequest | pb.SetVariantWeightsRequest


def _sent(found: Experiment, configuration: Configuration) -> experiment_pb2.Experiment:
    return encode.experiment(found, server_only=is_server_only(found, configuration))


class ExperimentServicer:
    """touchstone.assignment.v1.ExperimentService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateExperiment(
        self, request: pb.CreateExperimentRequest, _context: Any
    ) -> pb.CreateExperimentResponse:
        """Makes a draft."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode_experiment.create_experiment(request, project)
        name = resource_name(project, "experiments", request.experiment_id)

        def work(configuration: Configuration) -> pb.CreateExperimentResponse:
            found = create_experiment(command, configuration, backend.ids, backend.clock.now())
            return pb.CreateExperimentResponse(experiment=_sent(found, configuration))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetExperiment(
        self, request: pb.GetExperimentRequest, _context: Any
    ) -> pb.GetExperimentResponse:
        """Reads one experiment."""
        project = current_caller().project
        key = require_id(request.name, project, "experiments")
        found = await self._backend.read(lambda c: _sent(find_experiment(c, project, key), c))
        return pb.GetExperimentResponse(experiment=found)

    async def ListExperiments(
        self, request: pb.ListExperimentsRequest, _context: Any
    ) -> pb.ListExperimentsResponse:
        """Lists experiments, newest first."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        place = page.place(SORT_KEY)
        command = ListExperiments(project, page.size, encode.states(request.states), place)
        found, last = await self._backend.read(lambda c: list_experiments(command, c))
        alone = await asyncio.to_thread(self._decided_by_server, project)
        return pb.ListExperimentsResponse(
            experiments=[
                encode.experiment(one, server_only=one.experiment_id in alone) for one in found
            ],
            next_page_token=page.token(last) if last else "",
        )

    def _decided_by_server(self, project: str) -> frozenset[str]:
        """Those of the rules that decide now; none while these cannot be understood."""
        try:
            rules = self._backend.snapshots.of(project).ruleset.experiments
        except DomainError as error:
            if error.code is not Code.INTERNAL:
                raise
            return frozenset()
        return frozenset(rule.experiment for rule in rules if rule.server_only)

    async def UpdateExperiment(
        self, request: pb.UpdateExperimentRequest, _context: Any
    ) -> pb.UpdateExperimentResponse:
        """Changes the fields that the mask names."""
        backend = self._backend
        command = decode_experiment.update_experiment(request, current_caller().project)

        def work(configuration: Configuration) -> pb.UpdateExperimentResponse:
            found = update_experiment(command, configuration, backend.clock.now())
            return pb.UpdateExperimentResponse(experiment=_sent(found, configuration))

        name = request.experiment.name
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def StartExperiment(
        self, request: pb.StartExperimentRequest, _context: Any
    ) -> pb.StartExperimentResponse:
        """Starts a draft or resumes a paused experiment."""
        moved = self._move(request, State.RUNNING)
        return await self._write(request, lambda c: pb.StartExperimentResponse(experiment=moved(c)))

    async def PauseExperiment(
        self, request: pb.PauseExperimentRequest, _context: Any
    ) -> pb.PauseExperimentResponse:
        """Stops assigning without giving up the slots."""
        moved = self._move(request, State.PAUSED)
        return await self._write(request, lambda c: pb.PauseExperimentResponse(experiment=moved(c)))

    async def StopExperiment(
        self, request: pb.StopExperimentRequest, _context: Any
    ) -> pb.StopExperimentResponse:
        """Ends the experiment and releases its slots."""
        moved = self._move(request, State.STOPPED)
        return await self._write(request, lambda c: pb.StopExperimentResponse(experiment=moved(c)))

    async def ArchiveExperiment(
        self, request: pb.ArchiveExperimentRequest, _context: Any
    ) -> pb.ArchiveExperimentResponse:
        """Puts a draft or a stopped experiment away."""
        moved = self._move(request, State.ARCHIVED)
        return await self._write(
            request, lambda c: pb.ArchiveExperimentResponse(experiment=moved(c))
        )

    async def KillExperiment(
        self, request: pb.KillExperimentRequest, _context: Any
    ) -> pb.KillExperimentResponse:
        """Turns the kill switch on."""
        backend, project = self._backend, current_caller().project
        key = require_id(request.name, project, "experiments")

        def work(configuration: Configuration) -> pb.KillExperimentResponse:
            now = backend.clock.now()
            found = kill_experiment(configuration, project, key, request.reason, now)
            return pb.KillExperimentResponse(experiment=_sent(found, configuration))

        return await self._write(request, work)

    async def ReviveExperiment(
        self, request: pb.ReviveExperimentRequest, _context: Any
    ) -> pb.ReviveExperimentResponse:
        """Turns the kill switch off."""
        backend, project = self._backend, current_caller().project
        key = require_id(request.name, project, "experiments")

        def work(configuration: Configuration) -> pb.ReviveExperimentResponse:
            now = backend.clock.now()
            found = revive_experiment(configuration, project, key, request.etag, now)
            return pb.ReviveExperimentResponse(experiment=_sent(found, configuration))

        return await self._write(request, work)

    async def SetVariantWeights(
        self, request: pb.SetVariantWeightsRequest, _context: Any
    ) -> pb.SetVariantWeightsResponse:
        """Sets the weights of a bandit."""
        backend, project = self._backend, current_caller().project
        key = require_id(request.name, project, "experiments")
        command = SetWeights(project, key, dict(request.weights), request.etag)

        def work(configuration: Configuration) -> pb.SetVariantWeightsResponse:
            found = set_weights(command, configuration, backend.clock.now())
            return pb.SetVariantWeightsResponse(experiment=_sent(found, configuration))

        return await self._write(request, work)

    async def SetForcedVariant(
        self, request: pb.SetForcedVariantRequest, _context: Any
    ) -> pb.SetForcedVariantResponse:
        """Gives a unit a variant whatever the rules say."""
        backend, project = self._backend, current_caller().project
        sent = request.forced_variant
        unit = decode_experiment.forced_unit(request.experiment, sent.unit, project)

        def work(configuration: Configuration) -> pb.SetForcedVariantResponse:
            now = backend.clock.now()
            found = set_forced_variant(unit, sent.variant, sent.note, configuration, now)
            return pb.SetForcedVariantResponse(forced_variant=encode.forced_variant(found))

        return await self._write_forced(request, work)

    async def ClearForcedVariant(
        self, request: pb.ClearForcedVariantRequest, _context: Any
    ) -> pb.ClearForcedVariantResponse:
        """Takes a forced variant back."""
        backend, project = self._backend, current_caller().project
        unit = decode_experiment.forced_unit(request.experiment, request.unit, project)

        def work(configuration: Configuration) -> pb.ClearForcedVariantResponse:
            clear_forced_variant(unit, configuration, backend.clock.now())
            return pb.ClearForcedVariantResponse()

        return await self._write_forced(request, work)

    async def ListForcedVariants(
        self, request: pb.ListForcedVariantsRequest, _context: Any
    ) -> pb.ListForcedVariantsResponse:
        """Lists the forced variants of an experiment, by unit."""
        project = current_caller().project
        key = require_id(request.experiment, project, "experiments")
        page = read_page(request, project)
        place = page.place(FORCED_SORT_KEY)
        found, last = await self._backend.read(
            lambda c: list_forced_variants(c, project, key, page.size, place)
        )
        return pb.ListForcedVariantsResponse(
            forced_variants=[encode.forced_variant(forced) for forced in found],
            next_page_token=page.token(last) if last else "",
        )

    def _move(
        self, request: Verb, to: State
    ) -> Callable[[Configuration], experiment_pb2.Experiment]:
        backend, project = self._backend, current_caller().project
        key = require_id(request.name, project, "experiments")
        command = MoveExperiment(project, key, to, request.etag)

        def moved(configuration: Configuration) -> experiment_pb2.Experiment:
            now = backend.clock.now()
            found = move_experiment(command, configuration, backend.cool_down, now)
            return _sent(found, configuration)

        return moved

    async def _write(self, request: Named, work: Callable[[Configuration], M]) -> M:
        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await self._backend.write(mutation, work)

    async def _write_forced(
        self,
        request: pb.SetForcedVariantRequest | pb.ClearForcedVariantRequest,
        work: Callable[[Configuration], M],
    ) -> M:
        mutation = Mutation(request, request.experiment, request.request_id, request.validate_only)
        return await self._backend.write(mutation, work)
