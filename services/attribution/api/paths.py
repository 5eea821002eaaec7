"""PathService: decode, count, encode."""

from collections.abc import Callable
from typing import TypeVar

import grpc
from touchstone.attribution.v1 import path_service_pb2 as pb
from touchstone.attribution.v1 import path_service_pb2_grpc as rpc

from services.attribution.api.channel_groupings import KeptGroupings
from services.attribution.application.paths import (
    GetTransitions,
    PathQuestion,
    get_funnel,
    get_path_lengths,
    get_sequence_effect,
    get_time_lags,
    get_transitions,
)
from services.attribution.application.questions import Question
from services.attribution.domain.paths.suppression import MIN_UNITS
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from services.attribution.wire.definition import decode_definition
from services.attribution.wire.paths import (
    decode_funnel,
    decode_lags,
    decode_lengths,
    decode_sequence,
    encode_funnel,
    encode_lags,
    encode_lengths,
    encode_sequence,
    encode_transitions,
)
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s

C = TypeVar("C")
A = TypeVar("A")


class PathServicer(rpc.PathServiceServicer):
    """Counts the journeys of the caller's project, in the threads of `analyses`."""

    def __init__(
        self,
        log: JourneyLog,
        limits: AttributionLimits,
        analyses: Analyses,
        groupings: KeptGroupings,
    ) -> None:
        self._log = log
        self._limits = limits
        self._analyses = analyses
        self._groupings = groupings

    async def GetPathLengths(
        self, request: pb.GetPathLengthsRequest, context: grpc.ServicerContext
    ) -> pb.GetPathLengthsResponse:
        """Counts journeys by their length."""
        command = decode_lengths(request, await self._asked(request.question))
        answer = await self._compute(get_path_lengths, command, request.question, context)
        return encode_lengths(command, answer)

    async def GetTimeLags(
        self, request: pb.GetTimeLagsRequest, context: grpc.ServicerContext
    ) -> pb.GetTimeLagsResponse:
        """Says how long journeys take."""
        command = decode_lags(request, await self._asked(request.question))
        answer = await self._compute(get_time_lags, command, request.question, context)
        return encode_lags(command, answer)

    async def GetTransitions(
        self, request: pb.GetTransitionsRequest, context: grpc.ServicerContext
    ) -> pb.GetTransitionsResponse:
        """Counts the steps of journeys."""
        command = GetTransitions(await self._asked(request.question), request.self_loops)
        answer = await self._compute(get_transitions, command, request.question, context)
        return encode_transitions(command, answer)

    async def GetFunnel(
        self, request: pb.GetFunnelRequest, context: grpc.ServicerContext
    ) -> pb.GetFunnelResponse:
        """Says who comes to which step, by channel of entry."""
        command = decode_funnel(request, await self._asked(request.question))
        answer = await self._compute(get_funnel, command, request.question, context)
        return encode_funnel(command, answer)

    async def GetSequenceEffect(
        self, request: pb.GetSequenceEffectRequest, context: grpc.ServicerContext
    ) -> pb.GetSequenceEffectResponse:
        """Says what would be lost without a sequence."""
        command = decode_sequence(request, await self._asked(request.question))
        answer = await self._compute(get_sequence_effect, command, request.question, context)
        return encode_sequence(command, answer)

    async def _asked(self, question: pb.PathQuestion) -> PathQuestion:
        definition = decode_definition(await self._groupings.resolved(question.journeys))
        asked = Question(current_caller().project, definition, as_of=question.as_of)
        return PathQuestion(asked, question.min_units or MIN_UNITS)

    async def _compute(
        self,
        use_case: Callable[[C, JourneyLog, AttributionLimits], A],
        command: C,
        question: pb.PathQuestion,
        context: grpc.ServicerContext,
    ) -> A:
        wait_s = waiting_time_s(context, self._limits.max_wait_s)
        await self._log.wait_until(question.consistency_token, wait_s)
        return await self._analyses.run(lambda: use_case(command, self._log, self._limits))
