"""Results as the bytes of a file, and the file as the parts that it is sent in."""

from collections.abc import Iterator

from google.protobuf.json_format import MessageToJson
from touchstone.results.v1 import export_service_pb2 as pb
from touchstone.results.v1 import results_pb2

from services.results.domain.reading.report import ExperimentReport
from services.results.wire.export.notebook import encode_notebook
from services.results.wire.export.page import encode_html
from services.results.wire.export.table import encode_csv
from services.results.wire.results_encode import encode_results

FORMS = {
    pb.EXPORT_FORMAT_JSON: ("application/json", "json"),
    pb.EXPORT_FORMAT_CSV: ("text/csv", "csv"),
    pb.EXPORT_FORMAT_HTML: ("text/html", "html"),
    pb.EXPORT_FORMAT_NOTEBOOK: ("application/x-ipynb+json", "ipynb"),
}
PART_BYTES = 1 << 20


def encode_file(
    form: pb.ExportFormat.ValueType, report: ExperimentReport, project: str, engine_version: str
) -> Iterator[pb.ExportResultsResponse]:
    """The parts of the file, of which the first says what it is."""
    results = encode_results(report, project, engine_version)
    content = _content(form, report, results, project)
    media_type, ending = FORMS[form]
    first = pb.ExportResultsResponse(
        media_type=media_type,
        file_name=f"{report.plan.experiment_id}.{ending}",
        provenance=results.provenance,
    )
    return in_parts(content, first)


def in_parts(content: bytes, first: pb.ExportResultsResponse) -> Iterator[pb.ExportResultsResponse]:
    """The content in parts; `first` is what the first of them says besides."""
    first.content, first.size_bytes = content[:PART_BYTES], len(content)
    yield first
    for start in range(PART_BYTES, len(content), PART_BYTES):
        yield pb.ExportResultsResponse(content=content[start : start + PART_BYTES])


def _content(
    form: pb.ExportFormat.ValueType,
    report: ExperimentReport,
    results: results_pb2.Results,
    project: str,
) -> bytes:
    if form == pb.EXPORT_FORMAT_NOTEBOOK:
        return encode_notebook(report, project)
    if form == pb.EXPORT_FORMAT_CSV:
        return encode_csv(results)
    if form == pb.EXPORT_FORMAT_HTML:
        return encode_html(results)
    return MessageToJson(results, preserving_proto_field_name=True, indent=2).encode()
