"""PlanningService: decode, handle, encode."""

import grpc
from touchstone.results.v1 import planning_service_pb2 as pb
from touchstone.results.v1 import planning_service_pb2_grpc as rpc

from services.results.application.plan_experiment import Histories, plan_experiment
from services.results.application.simulate_null_experiment import simulate_null_experiment
from services.results.wire.null_experiment import decode_null_experiment, encode_simulated
from services.results.wire.planning_decode import decode_plan
from services.results.wire.planning_encode import encode_plan
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller


class PlanningServicer(rpc.PlanningServiceServicer):
    """Plans of experiments of the caller's project, computed in the threads of `analyses`."""

    def __init__(self, sources: Histories, analyses: Analyses) -> None:
        self._sources = sources
        self._analyses = analyses

    async def PlanExperiment(
        self, request: pb.PlanExperimentRequest, context: grpc.ServicerContext
    ) -> pb.PlanExperimentResponse:
        """Says for each metric what an experiment needs, and what it can find."""
        command = decode_plan(request, current_caller().project)
        planned = await self._analyses.run(lambda: plan_experiment(command, self._sources))
        return encode_plan(planned)

    async def SimulateNullExperiment(
        self, request: pb.SimulateNullExperimentRequest, context: grpc.ServicerContext
    ) -> pb.SimulateNullExperimentResponse:
        """Says how often a metric finds a difference where there is none."""
        command = decode_null_experiment(request, current_caller().project)
        found = await self._analyses.run(lambda: simulate_null_experiment(command, self._sources))
        return encode_simulated(command, found)
