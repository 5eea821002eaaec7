"""ResultsService: decode, handle, encode."""

import grpc
from touchstone.results.v1 import results_service_pb2 as pb
from touchstone.results.v1 import results_service_pb2_grpc as rpc

from services.results.application.get_health import get_health
from services.results.application.get_results import Sources, get_results
from services.results.wire.health import encode_health
from services.results.wire.results_decode import decode_get_health, decode_get_results
from services.results.wire.results_encode import encode_results
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.version import VERSION

# The rest of the time is for the answer itself.
_WAITING_PART_OF_DEADLINE = 0.8


class ResultsServicer(rpc.ResultsServiceServicer):
    """What the experiments of the caller's project show.

    Results are computed in the threads of `analyses`, never in those that every call needs.
    """

    def __init__(self, sources: Sources, analyses: Analyses, longest_wait_s: float) -> None:
        self._sources = sources
        self._analyses = analyses
        self._longest_wait_s = longest_wait_s

    async def GetResults(
        self, request: pb.GetResultsRequest, context: grpc.ServicerContext
    ) -> pb.GetResultsResponse:
        """Computes the results of an experiment from the event log as it is now."""
        project = current_caller().project
        command = decode_get_results(request, project)
        wait_s = self._wait_s(context)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        report = await self._analyses.run(lambda: get_results(command, self._sources))
        return pb.GetResultsResponse(results=encode_results(report, project, VERSION))

    async def GetHealth(
        self, request: pb.GetHealthRequest, context: grpc.ServicerContext
    ) -> pb.GetHealthResponse:
        """Checks whether the results of an experiment can be trusted."""
        project = current_caller().project
        command = decode_get_health(request, project)
        wait_s = self._wait_s(context)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        checked = await self._analyses.run(lambda: get_health(command, self._sources))
        return pb.GetHealthResponse(health=encode_health(checked, project, VERSION))

    def _wait_s(self, context: grpc.ServicerContext) -> float:
        left_s = context.time_remaining()
        longest_s = self._longest_wait_s
        return longest_s if left_s is None else min(longest_s, left_s * _WAITING_PART_OF_DEADLINE)
