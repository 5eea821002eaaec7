"""Reports between messages, what is kept of them, and the domain."""

import datetime as dt
import hashlib

from touchstone.attribution.v1 import report_pb2 as pb
from touchstone.attribution.v1 import report_service_pb2 as service_pb

from services.attribution.application.questions import Question
from services.attribution.application.reporting import REPORT_S, Reporting
from services.attribution.application.reports import MIN_UNITS, Found, RunReport, report_name
from services.attribution.domain.paths.table import PathTotals, TopPaths
from services.attribution.ports import HowRead, StoredReport, WhyAll
from services.attribution.wire.answers import encode_attribution
from services.attribution.wire.definition import decode_definition
from services.attribution.wire.models import decode_models
from services.attribution.wire.reporting import decode_bootstrap, decode_held_out

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_WHY_ALL = {
    None: pb.WHOLE_READING_REASON_UNSPECIFIED,
    WhyAll.PAST_CUT: pb.WHOLE_READING_REASON_PAST_CUT,
    WhyAll.NOTHING_KEPT: pb.WHOLE_READING_REASON_NOTHING_KEPT,
    WhyAll.EARLIER_START: pb.WHOLE_READING_REASON_EARLIER_START,
    WhyAll.IDENTITIES_CHANGED: pb.WHOLE_READING_REASON_IDENTITIES_CHANGED,
    WhyAll.EVENTS_REMOVED: pb.WHOLE_READING_REASON_EVENTS_REMOVED,
}
_SUMMARY = ("name", "create_time", "summary", "provenance", "scores", "min_units", "digest")


def decode_run(request: service_pb.RunAttributionRequest, project: str) -> RunReport:
    """What to compute; INVALID_ARGUMENT where parts of it contradict each other."""
    question = Question(
        project,
        decode_definition(request.journeys),
        decode_models(request.models),
        request.as_of,
    )
    reporting = Reporting(
        decode_bootstrap(request.bootstrap),
        decode_held_out(request.held_out),
        request.min_units or MIN_UNITS,
        REPORT_S,
    )
    return RunReport(question, reporting)


def stored_report(
    report_id: str, now: dt.datetime, command: RunReport, found: Found
) -> StoredReport:
    """What is kept of a report."""
    project = command.question.project
    answer = encode_attribution(command.question.definition, found.attribution)
    paths = _paths(found.paths)
    report = pb.AttributionReport(
        summary=answer.summary,
        activity=answer.activity,
        results=answer.results,
        warnings=answer.warnings,
        provenance=answer.provenance,
        scores=found.credits,
        scores_digest=found.journeys_digest,
        min_units=command.reporting.min_units,
        fits=answer.fits,
        suppressed_channels=answer.suppressed_channels,
        bootstrap=answer.bootstrap,
        held_out=answer.held_out,
        reading=_reading(found.how),
        currencies=found.attribution.currencies,
    )
    report.digest = _digest(report, paths)
    report.name = report_name(project, report_id)
    report.create_time.FromDatetime(now)
    return StoredReport(
        project=project,
        report_id=report_id,
        create_time=now,
        document=report.SerializeToString(deterministic=True),
        paths=paths.SerializeToString(deterministic=True),
    )


def encode_report(stored: StoredReport) -> pb.AttributionReport:
    """The report as it was computed."""
    return pb.AttributionReport.FromString(stored.document)


def encode_report_summary(stored: StoredReport) -> pb.AttributionReport:
    """The report without what it found of channels."""
    report = encode_report(stored)
    for field in pb.AttributionReport.DESCRIPTOR.fields:
        if field.name not in _SUMMARY:
            report.ClearField(field.name)  # type: ignore[arg-type]
    return report


def question_of(stored: StoredReport) -> Question:
    """What the report was asked, at its cut."""
    report = encode_report(stored)
    models = decode_models(result.model for result in report.results)
    return Question(
        stored.project,
        decode_definition(report.provenance.journeys),
        tuple(dict.fromkeys(models)),
        report.provenance.watermark,
    )


def encode_place(stored: StoredReport) -> str:
    """Where the report stands in the list."""
    since = (stored.create_time - _EPOCH) // dt.timedelta(microseconds=1)
    return f"{since}:{stored.report_id}"


def decode_place(time_us: str, report_id: str) -> tuple[dt.datetime, str]:
    """The place behind which a page starts."""
    return _EPOCH + dt.timedelta(microseconds=int(time_us)), report_id


def _digest(report: pb.AttributionReport, paths: pb.ReportPaths) -> str:
    """What the report says. When the cut was committed is known of the newest cut alone, and how
    events were read plays no part.
    """
    said = pb.AttributionReport()
    said.CopyFrom(report)
    said.provenance.ClearField("watermark_time")
    said.ClearField("reading")
    parts = (
        said.SerializeToString(deterministic=True),
        paths.SerializeToString(deterministic=True),
    )
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _reading(how: HowRead | None) -> pb.EventReading | None:
    if how is None:
        return None
    return pb.EventReading(
        whole_reading_reason=_WHY_ALL[how.why_all],
        since_watermark=how.since,
        kept_events=how.kept,
        read_events=how.new,
    )


def _paths(found: TopPaths) -> pb.ReportPaths:
    rows = [_row(pb.PATH_ROW_KIND_PATH, path.totals, path.path) for path in found.top]
    if found.others is not None:
        rows.append(_row(pb.PATH_ROW_KIND_OTHERS, found.others))
    if found.suppressed is not None:
        rows.append(_row(pb.PATH_ROW_KIND_SUPPRESSED, found.suppressed))
    return pb.ReportPaths(rows=rows, withheld_paths=found.withheld_paths)


def _row(
    kind: pb.PathRowKind.ValueType, totals: PathTotals, channels: tuple[str, ...] = ()
) -> pb.PathRow:
    return pb.PathRow(
        channels=channels,
        kind=kind,
        paths=totals.paths,
        units=totals.units,
        journeys=totals.journeys,
        conversions=totals.conversions,
        value=totals.value,
        nulls=totals.nulls,
    )
