"""Kept reports, corrected by kept links."""

from dataclasses import dataclass, replace

from touchstone.attribution.v1 import calibration_pb2
from touchstone.attribution.v1 import calibration_service_pb2 as pb

from services.attribution.application.calibrate_report import CalibratedReport, calibrate_report
from services.attribution.application.calibration_kept import links_to_use, other_links
from services.attribution.application.calibration_links import COLLECTION
from services.attribution.application.calibration_ports import Links
from services.attribution.application.calibration_tests import CalibrationSources
from services.attribution.application.charges import charges_of
from services.attribution.application.reports import COLLECTION as REPORTS
from services.attribution.application.reports import find_report
from services.attribution.ports import Reports, StoredReport
from services.attribution.spend_ports import Ledger
from services.attribution.wire.calibration import decode_calibrate, encode_calibrated
from services.attribution.wire.calibration_links import decode_stored
from services.attribution.wire.economics import credited_report, decode_money_rules
from services.attribution.wire.reports import encode_report
from shared.resource_names import require_id


@dataclass(frozen=True, slots=True)
class KeptCalibration:
    """Corrects reports by experiments, which are read with the caller's own credential."""

    links: Links
    reports: Reports
    ledger: Ledger
    sources: CalibrationSources

    def report(self, project: str, name: str) -> StoredReport:
        """The report of this name; NOT_FOUND unless it is the project's."""
        with self.reports.read() as store:
            return find_report(project, require_id(name, project, REPORTS), store)

    def calibrated(
        self, request: pb.CalibrateReportRequest, report: StoredReport
    ) -> tuple[CalibratedReport, calibration_pb2.CalibratedReport]:
        """The report, corrected, and the message that says so."""
        project = report.project
        named = [require_id(name, project, COLLECTION) for name in request.links]
        rules = decode_money_rules(request.costs, request.currency, request.exchange_rates)
        with self.links.read() as store:
            links = tuple(links_to_use(project, named, store))
            known = tuple(other_links(project, links, store))
        charges = charges_of(project, credited_report(encode_report(report)), rules, self.ledger)
        decoded = tuple(decode_stored(link) for link in links)
        command = replace(
            decode_calibrate(request, report, decoded, charges),
            known=tuple(decode_stored(link) for link in known),
        )
        found = calibrate_report(command, self.sources)
        return found, encode_calibrated(command, found, report, links, charges)
