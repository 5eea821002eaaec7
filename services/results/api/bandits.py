"""BanditService: decode, handle, encode."""

from dataclasses import dataclass

import grpc
from touchstone.results.v1 import bandit_service_pb2 as pb
from touchstone.results.v1 import bandit_service_pb2_grpc as rpc

from services.results.application.bandit_weights import apply_weights, compute_weights
from services.results.application.get_results import Sources
from services.results.ports import Bandits
from services.results.wire.bandits import decode_handover, decode_weights, encode_weights
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s
from shared.version import VERSION


@dataclass(frozen=True, slots=True)
class Computing:
    """Data, bandits, the threads that compute, and how long fresh data is waited for at most."""

    sources: Sources
    bandits: Bandits
    analyses: Analyses
    longest_wait_s: float


class BanditServicer(rpc.BanditServiceServicer):
    """Weights of the bandits of the caller's project."""

    def __init__(self, computing: Computing) -> None:
        self._computing = computing

    async def ComputeBanditWeights(
        self, request: pb.ComputeBanditWeightsRequest, context: grpc.ServicerContext
    ) -> pb.ComputeBanditWeightsResponse:
        """Says which weights the evidence asks for."""
        project, own = current_caller().project, self._computing
        command = decode_weights(request, project)
        wait_s = waiting_time_s(context, own.longest_wait_s)
        await own.sources.moments.wait_until(request.consistency_token, wait_s)
        found = await own.analyses.run(lambda: compute_weights(command, own.sources, own.bandits))
        return pb.ComputeBanditWeightsResponse(weights=encode_weights(found, project, VERSION))

    async def ApplyBanditWeights(
        self, request: pb.ApplyBanditWeightsRequest, _context: grpc.ServicerContext
    ) -> pb.ApplyBanditWeightsResponse:
        """Sets the weights that the evidence asks for, unless they are held."""
        project, own = current_caller().project, self._computing
        command, handover = decode_weights(request, project), decode_handover(request)
        found, applied = await own.analyses.run(
            lambda: apply_weights(command, handover, own.sources, own.bandits)
        )
        weights = encode_weights(found, project, VERSION)
        return pb.ApplyBanditWeightsResponse(weights=weights, applied=applied)
