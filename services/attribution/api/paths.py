"""PathService: decode, count, encode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import grpc
from touchstone.attribution.v1 import path_service_pb2 as pb
from touchstone.attribution.v1 import path_service_pb2_grpc as rpc

from services.attribution.api.channel_groupings import KeptGroupings
from services.attribution.application.paths import (
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
    decode_transitions,
    encode_funnel,
    encode_lags,
    encode_lengths,
    encode_sequence,
    encode_transitions,
)
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s


class _Asking(Protocol):
    """A request about the journeys of a question."""

    @property
    def question(self) -> pb.PathQuestion:
        """Which journeys."""


Q = TypeVar("Q", bound=_Asking)
C = TypeVar("C")
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Call(Generic[Q, C, A, R]):
    """What a call is: a request decoded, a command computed, an answer encoded."""

    decode: Callable[[Q, PathQuestion], C]
    use_case: Callable[[C, JourneyLog, AttributionLimits], A]
    encode: Callable[[C, A], R]


_LENGTHS = _Call(decode_lengths, get_path_lengths, encode_lengths)
_LAGS = _Call(decode_lags, get_time_lags, encode_lags)
_TRANSITIONS = _Call(decode_transitions, get_transitions, encode_transitions)
_FUNNEL = _Call(decode_funnel, get_funnel, encode_funnel)
_SEQUENCE = _Call(decode_sequence, get_sequence_effect, encode_sequence)


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
        return await self._answer(_LENGTHS, request, context)

    async def GetTimeLags(
        self, request: pb.GetTimeLagsRequest, context: grpc.ServicerContext
    ) -> pb.GetTimeLagsResponse:
        """Says how long journeys take."""
        return await self._answer(_LAGS, request, context)

    async def GetTransitions(
        self, request: pb.GetTransitionsRequest, context: grpc.ServicerContext
    ) -> pb.GetTransitionsResponse:
        """Counts the steps of journeys."""
        return await self._answer(_TRANSITIONS, request, context)

    async def GetFunnel(
        self, request: pb.GetFunnelRequest, context: grpc.ServicerContext
    ) -> pb.GetFunnelResponse:
        """Says who comes to which step, by channel of entry."""
        return await self._answer(_FUNNEL, request, context)

    async def GetSequenceEffect(
        self, request: pb.GetSequenceEffectRequest, context: grpc.ServicerContext
    ) -> pb.GetSequenceEffectResponse:
        """Says what would be lost without a sequence."""
        return await self._answer(_SEQUENCE, request, context)

    async def _answer(
        self, call: _Call[Q, C, A, R], request: Q, context: grpc.ServicerContext
    ) -> R:
        question = request.question
        definition = decode_definition(await self._groupings.resolved(question.journeys))
        asked = Question(current_caller().project, definition, as_of=question.as_of)
        command = call.decode(request, PathQuestion(asked, question.min_units or MIN_UNITS))
        wait_s = waiting_time_s(context, self._limits.max_wait_s)
        await self._log.wait_until(question.consistency_token, wait_s)
        answer = await self._analyses.run(lambda: call.use_case(command, self._log, self._limits))
        return call.encode(command, answer)
