"""EvaluationService: decode, handle, encode."""

import grpc
from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone.results.v1 import evaluation_service_pb2_grpc as rpc

from services.results.application.evaluate_control_group import evaluate_control_group
from services.results.application.get_interactions import Beside, get_interactions
from services.results.application.get_program_effect import get_program_effect
from services.results.application.get_results import Sources
from services.results.wire.evaluations import decode_evaluation, encode_evaluation
from services.results.wire.interactions import decode_interactions, encode_interactions
from services.results.wire.program import decode_program, encode_program
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s
from shared.version import VERSION


class EvaluationServicer(rpc.EvaluationServiceServicer):
    """What several experiments of the caller's project show, computed in the threads of
    `analyses`.
    """

    def __init__(
        self, sources: Sources, beside: Beside, analyses: Analyses, longest_wait_s: float
    ) -> None:
        self._sources = sources
        self._beside = beside
        self._analyses = analyses
        self._longest_wait_s = longest_wait_s

    async def EvaluateControlGroup(
        self, request: pb.EvaluateControlGroupRequest, context: grpc.ServicerContext
    ) -> pb.EvaluateControlGroupResponse:
        """Compares many treated groups with one control group."""
        project = current_caller().project
        command = decode_evaluation(request, project)
        wait_s = waiting_time_s(context, self._longest_wait_s)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        found = await self._analyses.run(lambda: evaluate_control_group(command, self._sources))
        return encode_evaluation(found, project, VERSION)

    async def GetInteractions(
        self, request: pb.GetInteractionsRequest, context: grpc.ServicerContext
    ) -> pb.GetInteractionsResponse:
        """Says whether experiments that run at the same time act on each other."""
        project = current_caller().project
        command = decode_interactions(request, project)
        wait_s = waiting_time_s(context, self._longest_wait_s)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        found = await self._analyses.run(
            lambda: get_interactions(command, self._sources, self._beside)
        )
        return encode_interactions(found, project, VERSION)

    async def GetProgramEffect(
        self, request: pb.GetProgramEffectRequest, context: grpc.ServicerContext
    ) -> pb.GetProgramEffectResponse:
        """Says what the finished experiments of a project gained together."""
        project = current_caller().project
        command = decode_program(request, project)
        wait_s = waiting_time_s(context, self._longest_wait_s)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        found = await self._analyses.run(
            lambda: get_program_effect(command, self._sources, self._beside.catalogue)
        )
        return encode_program(found, project, VERSION)
