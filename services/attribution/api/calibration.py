"""CalibrationService: decode, handle, encode."""

import asyncio
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from touchstone.attribution.v1 import calibration_service_pb2 as pb
from touchstone.attribution.v1 import calibration_service_pb2_grpc as rpc

from services.attribution.api.kept_calibration import KeptCalibration
from services.attribution.application.calibration_kept import create_link, delete_link, find_link
from services.attribution.application.calibration_links import COLLECTION, link_name
from services.attribution.application.calibration_ports import Links, StoredLink
from services.attribution.limits import KEPT_LIMITS, KeptLimits
from services.attribution.wire.calibration_links import (
    decode_link,
    document_of,
    encode_link,
)
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
    mutations: Mutations
    clock: Clock
    kept: KeptCalibration
    analyses: Analyses
    limits: KeptLimits = KEPT_LIMITS

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
            create_link(made, self.links.within(connection), self.limits)
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

        def answer() -> pb.CalibrateReportResponse:
            report = self.kept.report(project, request.report)
            _, message = self.kept.calibrated(request, report)
            return pb.CalibrateReportResponse(calibrated_report=message)

        return await self.analyses.run(answer)
