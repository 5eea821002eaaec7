"""Calibrated reports between messages and the domain."""

import hashlib

from touchstone.attribution.v1 import attribution_pb2, report_pb2
from touchstone.attribution.v1 import calibration_pb2 as pb
from touchstone.attribution.v1 import calibration_service_pb2 as service_pb

from services.attribution.application.calibrate_report import (
    ALPHA,
    CalibratedReport,
    CalibrateReport,
    Reported,
    ReportedChannel,
    ReportedResult,
    Untested,
)
from services.attribution.application.calibration_links import CalibrationLink
from services.attribution.application.calibration_ports import StoredLink
from services.attribution.domain.economics import Figure, Undefined
from services.attribution.ports import StoredReport
from services.attribution.wire.calibration_links import encode_link
from services.attribution.wire.calibration_results import encode_finding, encode_result
from services.attribution.wire.calibration_tests import encode_test
from services.attribution.wire.reports import question_of
from shared.version import VERSION

_UNTESTED = {
    pb.UNTESTED_CHANNELS_POOLED: Untested.POOLED,
    pb.UNTESTED_CHANNELS_UNCALIBRATED: Untested.UNCALIBRATED,
}
_UNTESTED_OF = {meant: number for number, meant in _UNTESTED.items()}


def decode_calibrate(
    request: service_pb.CalibrateReportRequest,
    stored: StoredReport,
    links: tuple[CalibrationLink, ...],
) -> CalibrateReport:
    """What to calibrate."""
    return CalibrateReport(
        reported=reported(stored),
        links=links,
        as_of=request.as_of,
        untested=_UNTESTED.get(request.untested, Untested.POOLED),
        alpha=request.alpha or ALPHA,
    )


def reported(stored: StoredReport) -> Reported:
    """The report as far as calibration needs it."""
    report = report_pb2.AttributionReport.FromString(stored.document)
    mixed = any(
        warning.kind == attribution_pb2.WARNING_KIND_MIXED_CURRENCIES for warning in report.warnings
    )
    costs = {activity.channel: _cost(activity, mixed=mixed) for activity in report.activity}
    partly = {
        activity.channel
        for activity in report.activity
        if 0 < activity.touches_without_cost < activity.touches
    }
    summary = report.summary
    return Reported(
        question=question_of(stored),
        results=tuple(
            ReportedResult(
                result.additive,
                tuple(
                    ReportedChannel(
                        each.channel,
                        each.conversions,
                        each.value,
                        costs.get(each.channel, Undefined.COST_UNKNOWN),
                        each.channel in partly,
                    )
                    for each in result.channels
                ),
            )
            for result in report.results
        ),
        conversions=summary.converting_journeys + summary.conversions_without_touch,
        units=summary.units,
    )


def _cost(activity: attribution_pb2.ChannelActivity, *, mixed: bool) -> Figure:
    if mixed:
        return Undefined.MIXED_CURRENCIES
    if activity.touches_without_cost == activity.touches:
        return Undefined.COST_UNKNOWN
    return activity.cost


def encode_calibrated(
    command: CalibrateReport,
    found: CalibratedReport,
    stored: StoredReport,
    links: tuple[StoredLink, ...],
) -> pb.CalibratedReport:
    """The calibrated report; links in the order of the tests."""
    source = report_pb2.AttributionReport.FromString(stored.document)
    answer = pb.CalibratedReport(
        report=source.name,
        results=[
            encode_result(result, said)
            for result, said in zip(found.results, source.results, strict=True)
        ],
        tests=[
            encode_test(test, encode_link(link))
            for test, link in zip(found.tested.tests, links, strict=True)
        ],
        findings=[encode_finding(finding) for finding in found.findings],
        provenance=pb.CalibrationProvenance(
            report_digest=source.digest,
            watermark=command.as_of or source.provenance.watermark,
            identity_version=found.tested.identity_version,
            engine_version=VERSION,
            alpha=command.alpha,
            untested=_UNTESTED_OF[command.untested],
        ),
    )
    answer.digest = hashlib.sha256(answer.SerializeToString(deterministic=True)).hexdigest()
    return answer
