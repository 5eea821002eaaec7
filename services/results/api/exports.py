"""ExportService: decode, handle, encode."""

import grpc
from google.protobuf.json_format import MessageToJson
from touchstone.results.v1 import export_service_pb2 as pb
from touchstone.results.v1 import export_service_pb2_grpc as rpc

from services.results.application.get_results import Sources, get_results
from services.results.domain.reading.report import ExperimentReport
from services.results.wire.export.notebook import encode_notebook
from services.results.wire.export.page import encode_html
from services.results.wire.export.table import encode_csv
from services.results.wire.results_decode import decode_get_results
from services.results.wire.results_encode import encode_results
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.version import VERSION

FORMS = {
    pb.EXPORT_FORMAT_JSON: ("application/json", "json"),
    pb.EXPORT_FORMAT_CSV: ("text/csv", "csv"),
    pb.EXPORT_FORMAT_HTML: ("text/html", "html"),
    pb.EXPORT_FORMAT_NOTEBOOK: ("application/x-ipynb+json", "ipynb"),
}
LONGEST_WAIT_S = 20.0


class ExportServicer(rpc.ExportServiceServicer):
    """Results of the caller's project as files."""

    def __init__(self, sources: Sources, analyses: Analyses) -> None:
        self._sources = sources
        self._analyses = analyses

    async def ExportResults(
        self, request: pb.ExportResultsRequest, context: grpc.ServicerContext
    ) -> pb.ExportResultsResponse:
        """Computes results and writes them as a file."""
        project = current_caller().project
        command = decode_get_results(request.results, project)
        await self._sources.moments.wait_until(request.results.consistency_token, LONGEST_WAIT_S)

        report = await self._analyses.run(lambda: get_results(command, self._sources))
        media_type, ending = FORMS[request.format]
        return pb.ExportResultsResponse(
            content=_content(request.format, report, project),
            media_type=media_type,
            file_name=f"{command.experiment_id}.{ending}",
        )


def _content(form: pb.ExportFormat.ValueType, report: ExperimentReport, project: str) -> bytes:
    if form == pb.EXPORT_FORMAT_NOTEBOOK:
        return encode_notebook(report, project)
    results = encode_results(report, project, VERSION)
    if form == pb.EXPORT_FORMAT_CSV:
        return encode_csv(results)
    if form == pb.EXPORT_FORMAT_HTML:
        return encode_html(results)
    return MessageToJson(results, preserving_proto_field_name=True, indent=2).encode()
