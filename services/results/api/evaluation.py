"""EvaluationService: decode, handle, encode."""

import grpc
from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone.results.v1 import evaluation_service_pb2_grpc as rpc

from services.results.application.evaluate_control_group import evaluate_control_group
from services.results.application.get_results import Sources
from services.results.wire.evaluation import decode_evaluation, encode_evaluation
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.version import VERSION

LONGEST_WAIT_S = 20.0


class EvaluationServicer(rpc.EvaluationServiceServicer):
    """What the journeys and campaigns of the caller's project have done."""

    def __init__(self, sources: Sources, analyses: Analyses) -> None:
        self._sources = sources
        self._analyses = analyses

    async def EvaluateControlGroup(
        self, request: pb.EvaluateControlGroupRequest, context: grpc.ServicerContext
    ) -> pb.EvaluateControlGroupResponse:
        """Compares every wave, and all together, with the control group."""
        project = current_caller().project
        command = decode_evaluation(request, project)
        await self._sources.moments.wait_until(request.consistency_token, LONGEST_WAIT_S)
        found = await self._analyses.run(lambda: evaluate_control_group(command, self._sources))
        return pb.EvaluateControlGroupResponse(
            evaluation=encode_evaluation(found, project, VERSION)
        )
