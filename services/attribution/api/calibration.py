"""CalibrationService: decode, handle, encode."""

import asyncio
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from touchstone.attribution.v1 import calibration_service_pb2 as pb
from touchstone.attribution.v1 import calibration_service_pb2_grpc as rpc

from services.attribution.application.calibrate_report import calibrate_report
from services.attribution.application.calibration_kept import delete_link, find_link, links_to_use
from services.attribution.application.calibration_links import COLLECTION, link_name
from services.attribution.application.calibration_ports import Links, StoredLink
from services.attribution.application.calibration_tests import CalibrationSources
from services.attribution.application.charges import charges_of
from services.attribution.application.reports import COLLECTION as REPORTS
from services.attribution.application.reports import find_report
from services.attribution.ports import Reports, StoredReport
from services.attribution.spend_ports import Ledger
from services.attribution.wire.calibration import decode_calibrate, encode_calibrated
from services.attribution.wire.calibration_links import (
    decode_link,
    decode_stored,
    document_of,
    encode_link,
)
from services.attribution.wire.economics import credited_report, decode_money_rules
from services.attribution.wire.reports import encode_report
from shared.clock import Clock
from shared.lake.analyses import Analyses
from shared.mutations import Mutation, Mutations
from shared.resource_names import require_id, require_parent
from shared.security.caller import current_caller
from shared.state.paging import read_page


@dataclass(frozen=True, slots=True)
class CalibrationServicer(rpc.CalibrationServiceServicer):
    """The links of the caller's project, and reports corrected by them; the work is done in
    threads.
    """

    links: Links
    reports: Reports
    ledger: Ledger
    mutations: Mutations
    clock: Clock
    sources: CalibrationSources
    analyses: Analyses

    async def CreateCalibrationLink(
        self, request: pb.CreateCalibrationLinkRequest, _context: Any
    ) -> pb.CreateCalibrationLinkResponse:
        """Keeps a new link."""
        project, link_id = current_caller().project, request.calibration_link_id
        require_parent(request.parent, project)
        decode_link(request.calibration_link, project, link_id)
        document = document_of(request.calibration_link)
        name = link_name(project, link_id)
        mutation = Mutation(request, name, request.request_id, request.validate_only)

        def work(connection: sa.Connection) -> pb.CreateCalibrationLinkResponse:
            made = StoredLink(project, link_id, self.clock.now(), document)
            self.links.within(connection).insert(made)
            return pb.CreateCalibrationLinkResponse(calibration_link=encode_link(made))

        return await asyncio.to_thread(self.mutations.run, mutation, work)

    async def GetCalibrationLink(
        self, request: pb.GetCalibrationLinkRequest, _context: Any
    ) -> pb.GetCalibrationLinkResponse:
        """Reads a link."""
        project = current_caller().project
        link_id = require_id(request.name, project, COLLECTION)

        def answer() -> pb.GetCalibrationLinkResponse:
            with self.links.read() as store:
                found = find_link(project, link_id, store)
            return pb.GetCalibrationLinkResponse(calibration_link=encode_link(found))

        return await asyncio.to_thread(answer)

    async def ListCalibrationLinks(
        self, request: pb.ListCalibrationLinksRequest, _context: Any
    ) -> pb.ListCalibrationLinksResponse:
        """Lists links by name."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)

        def answer() -> pb.ListCalibrationLinksResponse:
            with self.links.read() as store:
                found = store.page(project, page.after or "", page.size + 1)
            shown, more = found[: page.size], len(found) > page.size
            return pb.ListCalibrationLinksResponse(
                calibration_links=[encode_link(stored) for stored in shown],
                next_page_token=page.token(shown[-1].link_id) if more else "",
            )

        return await asyncio.to_thread(answer)

    async def DeleteCalibrationLink(
        self, request: pb.DeleteCalibrationLinkRequest, _context: Any
    ) -> pb.DeleteCalibrationLinkResponse:
        """Deletes a link."""
        project = current_caller().project
        link_id = require_id(request.name, project, COLLECTION)
        mutation = Mutation(request, request.name, request.request_id, request.validate_only)

        def work(connection: sa.Connection) -> pb.DeleteCalibrationLinkResponse:
            delete_link(project, link_id, self.links.within(connection))
            return pb.DeleteCalibrationLinkResponse()

        return await asyncio.to_thread(self.mutations.run, mutation, work)

    async def CalibrateReport(
        self, request: pb.CalibrateReportRequest, _context: Any
    ) -> pb.CalibrateReportResponse:
        """Corrects the credit of a report by experiments."""
        project = current_caller().project
        report_id = require_id(request.report, project, REPORTS)
        named = [require_id(name, project, COLLECTION) for name in request.links]
        rules = decode_money_rules(request.costs, request.currency, request.exchange_rates)

        def answer() -> pb.CalibrateReportResponse:
            report, links = self._kept(project, report_id, named)
            decoded = tuple(decode_stored(link) for link in links)
            credited = credited_report(encode_report(report))
            charges = charges_of(project, credited, rules, self.ledger)
            command = decode_calibrate(request, report, decoded, charges)
            found = calibrate_report(command, self.sources)
            message = encode_calibrated(command, found, report, links, charges)
            return pb.CalibrateReportResponse(calibrated_report=message)

        return await self.analyses.run(answer)

    def _kept(
        self, project: str, report_id: str, named: list[str]
    ) -> tuple[StoredReport, tuple[StoredLink, ...]]:
        with self.reports.read() as reports:
            report = find_report(project, report_id, reports)
        with self.links.read() as links:
            return report, tuple(links_to_use(project, named, links))
