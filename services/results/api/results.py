"""ResultsService: decode, handle, encode."""

from collections.abc import AsyncIterator

import grpc
from touchstone.results.v1 import results_service_pb2 as pb
from touchstone.results.v1 import results_service_pb2_grpc as rpc

from services.results.application.get_health import get_health
from services.results.application.get_results import Sources, get_results
from services.results.application.get_time_series import get_time_series
from services.results.application.watch_results import watch_results
from services.results.wire.health import encode_health
from services.results.wire.results_decode import (
    decode_get_health,
    decode_get_results,
    decode_get_time_series,
    decode_watch_results,
)
from services.results.wire.results_encode import encode_results, encode_told
from services.results.wire.time_series import encode_time_series
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s
from shared.version import VERSION

WATCH_INTERVAL_S = 10.0


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
        wait_s = waiting_time_s(context, self._longest_wait_s)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        report = await self._analyses.run(lambda: get_results(command, self._sources))
        return pb.GetResultsResponse(results=encode_results(report, project, VERSION))

    async def GetHealth(
        self, request: pb.GetHealthRequest, context: grpc.ServicerContext
    ) -> pb.GetHealthResponse:
        """Checks whether the results of an experiment can be trusted."""
        project = current_caller().project
        command = decode_get_health(request, project)
        wait_s = waiting_time_s(context, self._longest_wait_s)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        checked = await self._analyses.run(lambda: get_health(command, self._sources))
        return pb.GetHealthResponse(health=encode_health(checked, project, VERSION))

    async def GetTimeSeries(
        self, request: pb.GetTimeSeriesRequest, context: grpc.ServicerContext
    ) -> pb.GetTimeSeriesResponse:
        """Computes how an experiment stood at the end of each day."""
        project = current_caller().project
        command = decode_get_time_series(request, project)
        wait_s = waiting_time_s(context, self._longest_wait_s)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        found = await self._analyses.run(lambda: get_time_series(command, self._sources))
        return pb.GetTimeSeriesResponse(time_series=encode_time_series(found, project))

    async def WatchResults(
        self, request: pb.WatchResultsRequest, context: grpc.ServicerContext
    ) -> AsyncIterator[pb.WatchResultsResponse]:
        """Sends the results of an experiment whenever the data moves on."""
        project = current_caller().project
        command = decode_watch_results(request, project)
        wanted = request.results.consistency_token
        await self._sources.moments.wait_until(wanted, self._longest_wait_s)
        interval_s = request.interval_s or WATCH_INTERVAL_S
        told = watch_results(command, self._sources, self._analyses.run, interval_s)
        async for one in told:
            yield encode_told(one, project, VERSION)
