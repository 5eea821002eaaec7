"""AttributionService: decode, answer, encode."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as rpc

from services.attribution.application.get_attribution import GetAttribution, get_attribution
from services.attribution.application.questions import Question
from services.attribution.application.stream_credits import StreamCredits, stream_credits
from services.attribution.decode import decode_definition, decode_model, decode_models
from services.attribution.encode import encode_attribution, encode_credits
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from shared.security.caller import current_caller

# The rest of the time is for the answer itself.
_WAITING_PART_OF_DEADLINE = 0.8

_Request = pb.GetAttributionRequest | pb.StreamCreditsRequest


class AttributionServicer(rpc.AttributionServiceServicer):
    """Answers for the project of the caller; the work is done in threads."""

    def __init__(self, log: JourneyLog, limits: AttributionLimits) -> None:
        self._log = log
        self._limits = limits

    async def GetAttribution(
        self, request: pb.GetAttributionRequest, context: grpc.ServicerContext
    ) -> pb.GetAttributionResponse:
        """Credits channels by one or several models over the same journeys."""
        question = self._question(request, context)
        command = GetAttribution(question, decode_models(request.models))
        answer = await asyncio.to_thread(get_attribution, command, self._log, self._limits)
        return encode_attribution(question.definition, answer)

    async def StreamCredits(
        self, request: pb.StreamCreditsRequest, context: grpc.ServicerContext
    ) -> AsyncIterator[pb.StreamCreditsResponse]:
        """Streams the credit of every touch of every conversion by one model."""
        question = self._question(request, context)
        command = StreamCredits(question, decode_model(request.model))
        credits_ = await asyncio.to_thread(stream_credits, command, self._log, self._limits)
        replies = encode_credits(question.definition, credits_)
        while (reply := await asyncio.to_thread(next, replies, None)) is not None:
            yield reply

    def _question(self, request: _Request, context: grpc.ServicerContext) -> Question:
        left_s = context.time_remaining()
        longest_s = self._limits.max_wait_s
        return Question(
            project=current_caller().project,
            definition=decode_definition(request.journeys),
            at_least=request.consistency_token,
            wait_s=longest_s
            if left_s is None
            else min(longest_s, left_s * _WAITING_PART_OF_DEADLINE),
        )
