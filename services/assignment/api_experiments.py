"""The servicer of experiments: decode, handle, encode."""

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as pb

from services.assignment import decode_experiment, encode
from services.assignment.application.create_experiment import create_experiment
from services.assignment.application.find import find_experiment
from services.assignment.application.list_experiments import (
    SORT_KEY,
    ListExperiments,
    list_experiments,
)
from services.assignment.application.move_experiment import MoveExperiment, move_experiment
from services.assignment.application.update_experiment import update_experiment
from services.assignment.backend import Backend
from services.assignment.domain.experiment import State
from services.assignment.ports import Configuration
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
            return pb.CreateExperimentResponse(experiment=encode.experiment(found))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetExperiment(
        self, request: pb.GetExperimentRequest, _context: Any
    ) -> pb.GetExperimentResponse:
        """Reads one experiment."""
        project = current_caller().project
        key = require_id(request.name, project, "experiments")
        found = await self._backend.read(lambda c: find_experiment(c, project, key))
        return pb.GetExperimentResponse(experiment=encode.experiment(found))

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
        return pb.ListExperimentsResponse(
            experiments=[encode.experiment(experiment) for experiment in found],
            next_page_token=page.token(last) if last else "",
        )

    async def UpdateExperiment(
        self, request: pb.UpdateExperimentRequest, _context: Any
    ) -> pb.UpdateExperimentResponse:
        """Changes the fields that the mask names."""
        backend = self._backend
        command = decode_experiment.update_experiment(request, current_caller().project)

        def work(configuration: Configuration) -> pb.UpdateExperimentResponse:
            found = update_experiment(command, configuration, backend.clock.now())
            return pb.UpdateExperimentResponse(experiment=encode.experiment(found))

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

    def _move(
        self, request: Verb, to: State
    ) -> Callable[[Configuration], experiment_pb2.Experiment]:
        backend, project = self._backend, current_caller().project
        key = require_id(request.name, project, "experiments")
        command = MoveExperiment(project, key, to, request.etag)
        return lambda configuration: encode.experiment(
            move_experiment(command, configuration, backend.cool_down, backend.clock.now())
        )

    async def _write(self, request: Verb, work: Callable[[Configuration], M]) -> M:
        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await self._backend.write(mutation, work)
