"""The servicers: decode, handle, encode."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.message import Message
from touchstone.assignment.v1 import assignment_service_pb2 as assignment_pb
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiment_pb
from touchstone.assignment.v1 import layer_service_pb2 as layer_pb

from services.assignment import decode, encode, encode_decisions
from services.assignment.application.assign import assign, explain
from services.assignment.application.create_experiment import create_experiment
from services.assignment.application.create_layer import create_layer
from services.assignment.application.find import find_experiment, find_layer
from services.assignment.application.list_experiments import SORT_KEY as EXPERIMENT_SORT_KEY
from services.assignment.application.list_experiments import ListExperiments, list_experiments
from services.assignment.application.list_layers import SORT_KEY as LAYER_SORT_KEY
from services.assignment.application.list_layers import ListLayers, list_layers
from services.assignment.application.move_experiment import MoveExperiment, move_experiment
from services.assignment.application.snapshots import Snapshots
from services.assignment.application.update_experiment import update_experiment
from services.assignment.domain.experiment import State
from services.assignment.ports import Configuration, ConfigurationReader, ConfigurationWriter
from shared.clock import Clock
from shared.errors import DomainError
from shared.ids import IdGenerator
from shared.mutations import Mutation
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import current_caller
from shared.state.paging import read_page

_LOG = logging.getLogger("touchstone.assignment")
M = TypeVar("M", bound=Message)
Verb = (
    experiment_pb.StartExperimentRequest
    | experiment_pb.PauseExperimentRequest
    | experiment_pb.StopExperimentRequest
    | experiment_pb.ArchiveExperimentRequest
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backend:
    """What the servicers work on. The store blocks, so it is used from threads."""

    reader: ConfigurationReader
    writer: ConfigurationWriter
    snapshots: Snapshots
    clock: Clock
    ids: IdGenerator
    cool_down: timedelta

    async def read(self, work: Callable[[Configuration], T]) -> T:
        """Do `work` in a read transaction."""

        def run() -> T:
            with self.reader.read() as configuration:
                return work(configuration)

        return await asyncio.to_thread(run)

    async def write(self, mutation: Mutation, work: Callable[[Configuration], M]) -> M:
        """Do `work` in a write transaction, then decide by its outcome."""
        project = current_caller().project

        def run() -> M:
            response = self.writer.write(mutation, work)
            try:
                self.snapshots.refresh(project)
            except DomainError as error:
                # The change is kept; the next poll brings it in.
                _LOG.warning("refresh after a change failed", extra={"reason": error.reason})
            return response

        return await asyncio.to_thread(run)


class AssignmentServicer:
    """touchstone.assignment.v1.AssignmentService."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def Assign(
        self, request: assignment_pb.AssignRequest, _context: Any
    ) -> assignment_pb.AssignResponse:
        """Decides from memory; only a project that was never seen is loaded first."""
        project = current_caller().project
        snapshot = self._snapshots.known(project)
        if snapshot is None:
            snapshot = await asyncio.to_thread(self._snapshots.of, project)
        command, units = decode.assign(request), len(request.units)
        if request.explain:
            return encode_decisions.explained(snapshot, units, explain(command, snapshot))
        return encode_decisions.assigned(snapshot, units, assign(command, snapshot))


class ExperimentServicer:
    """touchstone.assignment.v1.ExperimentService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateExperiment(
        self, request: experiment_pb.CreateExperimentRequest, _context: Any
    ) -> experiment_pb.CreateExperimentResponse:
        """Makes a draft."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode.create_experiment(request, project)
        name = resource_name(project, "experiments", request.experiment_id)

        def work(configuration: Configuration) -> experiment_pb.CreateExperimentResponse:
            found = create_experiment(command, configuration, backend.ids, backend.clock.now())
            return experiment_pb.CreateExperimentResponse(experiment=encode.experiment(found))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetExperiment(
        self, request: experiment_pb.GetExperimentRequest, _context: Any
    ) -> experiment_pb.GetExperimentResponse:
        """Reads one experiment."""
        project = current_caller().project
        key = require_id(request.name, project, "experiments")
        found = await self._backend.read(lambda c: find_experiment(c, project, key))
        return experiment_pb.GetExperimentResponse(experiment=encode.experiment(found))

    async def ListExperiments(
        self, request: experiment_pb.ListExperimentsRequest, _context: Any
    ) -> experiment_pb.ListExperimentsResponse:
        """Lists experiments, newest first."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        place = page.place(EXPERIMENT_SORT_KEY)
        command = ListExperiments(project, page.size, encode.states(request.states), place)
        found, last = await self._backend.read(lambda c: list_experiments(command, c))
        return experiment_pb.ListExperimentsResponse(
            experiments=[encode.experiment(experiment) for experiment in found],
            next_page_token=page.token(last) if last else "",
        )

    async def UpdateExperiment(
        self, request: experiment_pb.UpdateExperimentRequest, _context: Any
    ) -> experiment_pb.UpdateExperimentResponse:
        """Changes the fields that the mask names."""
        backend = self._backend
        command = decode.update_experiment(request, current_caller().project)

        def work(configuration: Configuration) -> experiment_pb.UpdateExperimentResponse:
            found = update_experiment(command, configuration, backend.clock.now())
            return experiment_pb.UpdateExperimentResponse(experiment=encode.experiment(found))

        name = request.experiment.name
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def StartExperiment(
        self, request: experiment_pb.StartExperimentRequest, _context: Any
    ) -> experiment_pb.StartExperimentResponse:
        """Starts a draft or resumes a paused experiment."""
        moved = self._move(request, State.RUNNING)
        return await self._write(
            request, lambda c: experiment_pb.StartExperimentResponse(experiment=moved(c))
        )

    async def PauseExperiment(
        self, request: experiment_pb.PauseExperimentRequest, _context: Any
    ) -> experiment_pb.PauseExperimentResponse:
        """Stops assigning without giving up the slots."""
        moved = self._move(request, State.PAUSED)
        return await self._write(
            request, lambda c: experiment_pb.PauseExperimentResponse(experiment=moved(c))
        )

    async def StopExperiment(
        self, request: experiment_pb.StopExperimentRequest, _context: Any
    ) -> experiment_pb.StopExperimentResponse:
        """Ends the experiment and releases its slots."""
        moved = self._move(request, State.STOPPED)
        return await self._write(
            request, lambda c: experiment_pb.StopExperimentResponse(experiment=moved(c))
        )

    async def ArchiveExperiment(
        self, request: experiment_pb.ArchiveExperimentRequest, _context: Any
    ) -> experiment_pb.ArchiveExperimentResponse:
        """Puts a draft or a stopped experiment away."""
        moved = self._move(request, State.ARCHIVED)
        return await self._write(
            request, lambda c: experiment_pb.ArchiveExperimentResponse(experiment=moved(c))
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


class LayerServicer:
    """touchstone.assignment.v1.LayerService."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateLayer(
        self, request: layer_pb.CreateLayerRequest, _context: Any
    ) -> layer_pb.CreateLayerResponse:
        """Makes an empty layer."""
        backend, project = self._backend, current_caller().project
        require_parent(request.parent, project)
        command = decode.create_layer(request, project)
        name = resource_name(project, "layers", request.layer_id)

        def work(configuration: Configuration) -> layer_pb.CreateLayerResponse:
            now = backend.clock.now()
            found = create_layer(command, configuration, backend.ids, now)
            return layer_pb.CreateLayerResponse(layer=encode.layer(found, now))

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await backend.write(mutation, work)

    async def GetLayer(
        self, request: layer_pb.GetLayerRequest, _context: Any
    ) -> layer_pb.GetLayerResponse:
        """Reads one layer with its ledger."""
        project = current_caller().project
        key = require_id(request.name, project, "layers")
        found = await self._backend.read(lambda c: find_layer(c, project, key))
        return layer_pb.GetLayerResponse(layer=encode.layer(found, self._backend.clock.now()))

    async def ListLayers(
        self, request: layer_pb.ListLayersRequest, _context: Any
    ) -> layer_pb.ListLayersResponse:
        """Lists layers by name, without their ledgers."""
        project, now = current_caller().project, self._backend.clock.now()
        require_parent(request.parent, project)
        page = read_page(request, project)
        command = ListLayers(project, page.size, page.place(LAYER_SORT_KEY))
        found, last = await self._backend.read(lambda c: list_layers(command, c))
        return layer_pb.ListLayersResponse(
            layers=[encode.layer(layer, now, ledger=False) for layer in found],
            next_page_token=page.token(last) if last else "",
        )
