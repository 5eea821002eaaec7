"""EconomicsService: decode, answer, encode."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc
from touchstone.attribution.v1 import economics_service_pb2 as pb
from touchstone.attribution.v1 import economics_service_pb2_grpc as rpc

from services.attribution.api.budget import BudgetEvidence
from services.attribution.api.channel_groupings import KeptGroupings
from services.attribution.application.budget import allocate_budget
from services.attribution.application.calibrate_report import ALPHA
from services.attribution.application.cohorts import cohort_of
from services.attribution.application.economics import (
    Credited,
    attributed_now,
    economics_of,
    spend_of,
)
from services.attribution.application.lifetime import predict_lifetime
from services.attribution.application.questions import Question
from services.attribution.application.reports import COLLECTION, find_report
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog, Reports, StoredReport
from services.attribution.spend_ports import Ledger
from services.attribution.wire.answers import encode_attribution, encode_provenance
from services.attribution.wire.budget import decode_budget, encode_budget
from services.attribution.wire.definition import decode_definition
from services.attribution.wire.economics import (
    credited_report,
    decode_earning,
    decode_money,
    encode_economics,
)
from services.attribution.wire.lifetime import decode_prediction, encode_lifetime
from services.attribution.wire.models import decode_models
from services.attribution.wire.reports import encode_report, question_of
from services.attribution.wire.times import encode_time
from shared.errors import invalid
from shared.lake.analyses import Analyses
from shared.resource_names import require_id, require_parent
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s

_Answer = tuple[Question, Credited, pb.GetChannelEconomicsResponse]


@dataclass(frozen=True, slots=True)
class EconomicsServicer(rpc.EconomicsServiceServicer):
    """Sets credit against money for the caller's project; answers are computed in `analyses`."""

    log: JourneyLog
    limits: AttributionLimits
    analyses: Analyses
    groupings: KeptGroupings
    reports: Reports
    ledger: Ledger
    evidence: BudgetEvidence

    async def GetChannelEconomics(
        self, request: pb.GetChannelEconomicsRequest, context: grpc.ServicerContext
    ) -> pb.GetChannelEconomicsResponse:
        """Says what channels cost and brought."""
        project = current_caller().project
        require_parent(request.parent, project)
        rules = decode_money(request)
        earning = decode_earning("payback", request.payback)
        credited = await self._credited(request, project, context)

        def answer() -> pb.GetChannelEconomicsResponse:
            question, found, about = credited()
            spend = spend_of(project, found, self.ledger)
            cohort = None
            if request.HasField("payback"):
                cohort = cohort_of(question, earning, self.log, self.limits)
                about.observed_until.CopyFrom(encode_time(cohort.observed_until_us))
            about.MergeFrom(encode_economics(economics_of(found, rules, spend, cohort), found))
            return about

        return await self.analyses.run(answer)

    async def PredictLifetimeValue(
        self, request: pb.PredictLifetimeValueRequest, context: grpc.ServicerContext
    ) -> pb.PredictLifetimeValueResponse:
        """Says what acquired units brought, and predicts what they will bring."""
        project = current_caller().project
        require_parent(request.parent, project)
        definition = decode_definition(await self.groupings.resolved(request.acquisition))
        question = Question(project, definition, as_of=request.as_of)
        command = decode_prediction(request, question)
        wait_s = waiting_time_s(context, self.limits.max_wait_s)
        await self.log.wait_until(request.consistency_token, wait_s)

        def answer() -> pb.PredictLifetimeValueResponse:
            found = predict_lifetime(command, self.log, self.limits, self.ledger)
            told = encode_lifetime(found)
            told.provenance.CopyFrom(encode_provenance(definition, found))
            return told

        return await self.analyses.run(answer)

    async def AllocateBudget(
        self, request: pb.AllocateBudgetRequest, _context: grpc.ServicerContext
    ) -> pb.AllocateBudgetResponse:
        """Spreads a budget over channels."""
        project = current_caller().project

        def answer() -> pb.AllocateBudgetResponse:
            evidence, told = None, None
            if request.HasField("evidence"):
                evidence, told = self.evidence.of(request, project)
            found = allocate_budget(decode_budget(request, evidence))
            reply = encode_budget(found, request.evidence.alpha or ALPHA)
            if told is not None:
                reply.provenance.CopyFrom(told)
            return reply

        return await self.analyses.run(answer)

    async def _credited(
        self, request: pb.GetChannelEconomicsRequest, project: str, context: grpc.ServicerContext
    ) -> Callable[[], _Answer]:
        """What finds the credit, and what the answer says of it."""
        if request.WhichOneof("of") == "report":
            if request.models:
                raise invalid("models", len(request.models), "none with a report: it has its own")
            stored = await asyncio.to_thread(self._find, request.report)
            return lambda: _of_report(stored)
        definition = decode_definition(await self.groupings.resolved(request.journeys))
        question = Question(project, definition, decode_models(request.models))
        wait_s = waiting_time_s(context, self.limits.max_wait_s)
        await self.log.wait_until(request.consistency_token, wait_s)
        return lambda: self._of_journeys(question)

    def _of_journeys(self, question: Question) -> _Answer:
        attribution, credited = attributed_now(question, self.log, self.limits)
        told = encode_attribution(question.definition, attribution)
        about = pb.GetChannelEconomicsResponse(provenance=told.provenance, warnings=told.warnings)
        return replace(question, as_of=attribution.watermark), credited, about

    def _find(self, name: str) -> StoredReport:
        project = current_caller().project
        with self.reports.read() as store:
            return find_report(project, require_id(name, project, COLLECTION), store)


def _of_report(stored: StoredReport) -> _Answer:
    report = encode_report(stored)
    about = pb.GetChannelEconomicsResponse(provenance=report.provenance, warnings=report.warnings)
    return question_of(stored), credited_report(report), about
