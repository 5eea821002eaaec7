"""Calibrated reports between messages and the domain."""

import hashlib

from touchstone.attribution.v1 import calibration_pb2 as pb
from touchstone.attribution.v1 import calibration_service_pb2 as service_pb
from touchstone.attribution.v1 import report_pb2, uncertainty_pb2

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
from services.attribution.application.charges import Charges
from services.attribution.domain.economics import Undefined
from services.attribution.ports import StoredReport
from services.attribution.wire.calibration_links import encode_link
from services.attribution.wire.calibration_results import encode_finding, encode_result
from services.attribution.wire.calibration_tests import encode_test
from services.attribution.wire.economics import encode_conflicts, encode_costs
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
    charges: Charges,
) -> CalibrateReport:
    """What to calibrate."""
    return CalibrateReport(
        reported=reported(stored, charges),
        links=links,
        as_of=request.as_of,
        untested=_UNTESTED.get(request.untested, Untested.POOLED),
        alpha=request.alpha or ALPHA,
    )


def reported(stored: StoredReport, charges: Charges) -> Reported:
    """The report as far as calibration needs it, its values in the currency of costs."""
    report = report_pb2.AttributionReport.FromString(stored.document)
    partly, mixed = charges.incomplete, isinstance(charges.worth, Undefined)
    worth = 1.0 if isinstance(charges.worth, Undefined) else charges.worth
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
                        each.value * worth,
                        charges.cost(each.channel),
                        each.channel in partly,
                        mixed,
                        _errors(each.intervals, worth),
                    )
                    for each in result.channels
                ),
            )
            for result in report.results
        ),
        conversions=summary.converting_journeys + summary.conversions_without_touch,
        units=summary.units,
    )


def _errors(intervals: uncertainty_pb2.ChannelIntervals, worth: float) -> tuple[float, float]:
    """The standard errors of conversions and value, 0 where the report has none.

    That of value is to that of conversions as their intervals are, whatever their level.
    """
    counted, value = intervals.conversions, intervals.value
    width = counted.high - counted.low
    wider = (value.high - value.low) / width if width > 0 else 0.0
    return intervals.conversions_std_err, intervals.conversions_std_err * wider * worth


def encode_calibrated(
    command: CalibrateReport,
    found: CalibratedReport,
    stored: StoredReport,
    links: tuple[StoredLink, ...],
    charges: Charges,
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
            spend_digest=charges.spend_digest,
        ),
        currency=charges.currency,
        costs=encode_costs(charges.costs, charges.touched),
        conflicts=encode_conflicts(charges.costs),
    )
    answer.digest = hashlib.sha256(answer.SerializeToString(deterministic=True)).hexdigest()
    return answer
