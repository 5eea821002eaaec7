"""ExportService: decode, handle, encode."""

from collections.abc import AsyncIterator

import grpc
from touchstone.results.v1 import export_service_pb2 as pb
from touchstone.results.v1 import export_service_pb2_grpc as rpc

from services.results.application.get_results import Sources, get_results
from services.results.wire.export.files import encode_file
from services.results.wire.results_decode import decode_get_results
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s
from shared.version import VERSION


class ExportServicer(rpc.ExportServiceServicer):
    """Results of the caller's project as files, made in the threads of `analyses`."""

    def __init__(self, sources: Sources, analyses: Analyses, longest_wait_s: float) -> None:
        self._sources = sources
        self._analyses = analyses
        self._longest_wait_s = longest_wait_s

    async def ExportResults(
        self, request: pb.ExportResultsRequest, context: grpc.ServicerContext
    ) -> AsyncIterator[pb.ExportResultsResponse]:
        """Computes results and sends them as a file, in parts."""
        project = current_caller().project
        command = decode_get_results(request.results, project)
        wait_s = waiting_time_s(context, self._longest_wait_s)
        await self._sources.moments.wait_until(request.results.consistency_token, wait_s)

        def work() -> list[pb.ExportResultsResponse]:
            report = get_results(command, self._sources)
            return list(encode_file(request.format, report, project, VERSION))

        for part in await self._analyses.run(work):
            yield part
