"""AttributionService: decode, answer, encode."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

import grpc
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as rpc

from services.attribution.api.channel_groupings import KeptGroupings
from services.attribution.api.scores import in_thread
from services.attribution.application.evaluate_paths import EvaluatePaths, evaluate_paths
from services.attribution.application.get_attribution import GetAttribution, get_attribution
from services.attribution.application.questions import Question
from services.attribution.application.stream_credits import (
    Credits,
    StreamCredits,
    stream_credits,
)
from services.attribution.domain.models import AskedModel
from services.attribution.domain.paths.aggregated import PathColumns
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from services.attribution.score_ports import KeptScores, ScoreRows
from services.attribution.wire.answers import encode_attribution, encode_credits, encode_evaluation
from services.attribution.wire.definition import decode_definition, decode_transforms
from services.attribution.wire.grouping import grouped_touches
from services.attribution.wire.models import decode_model, decode_models
from services.attribution.wire.reporting import decode_reporting
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.server.places import StreamPlaces
from shared.server.waiting import waiting_time_s

C = TypeVar("C")
A = TypeVar("A")
_Request = pb.GetAttributionRequest | pb.StreamCreditsRequest


class AttributionServicer(rpc.AttributionServiceServicer):
    """Answers for the project of the caller.

    Answers are computed in the threads of `analyses`: their number bounds how many are computed
    at once, also when callers give up on some, and a few more wait in line.
    """

    def __init__(
        self,
        log: JourneyLog,
        limits: AttributionLimits,
        analyses: Analyses,
        groupings: KeptGroupings,
        scores: tuple[KeptScores, StreamPlaces],
    ) -> None:
        self._log = log
        self._kept, self._places = scores
        self._groupings = groupings
        self._limits = limits
        self._analyses = analyses

    async def GetAttribution(
        self, request: pb.GetAttributionRequest, context: grpc.ServicerContext
    ) -> pb.GetAttributionResponse:
        """Credits channels by one or several models over the same journeys."""
        question = await self._question(request, decode_models(request.models))
        command = GetAttribution(question, decode_reporting(request))
        await self._wait(request, context)
        answer = await self._compute(get_attribution, command)
        return encode_attribution(question.definition, answer)

    async def EvaluatePaths(
        self, request: pb.EvaluatePathsRequest, context: grpc.ServicerContext
    ) -> pb.EvaluatePathsResponse:
        """Credits channels over aggregated paths."""
        columns = PathColumns(
            paths=[row.path for row in request.paths],
            conversions=[row.conversions for row in request.paths],
            values=[row.value for row in request.paths],
            nulls=[row.nulls for row in request.paths],
        )
        models = decode_models(request.models)
        reporting = decode_reporting(request)
        transforms = decode_transforms(request.path_transforms)
        command = EvaluatePaths(columns, request.separator or ">", models, reporting, transforms)
        answer = await self._analyses.run(lambda: evaluate_paths(command, self._limits))
        return encode_evaluation(answer)

    async def TestChannelGrouping(
        self, request: pb.TestChannelGroupingRequest, context: grpc.ServicerContext
    ) -> pb.TestChannelGroupingResponse:
        """Says which channel a grouping gives to touches."""
        return grouped_touches(request, await self._groupings.kept(request.grouping))

    async def StreamCredits(
        self, request: pb.StreamCreditsRequest, context: grpc.ServicerContext
    ) -> AsyncIterator[pb.StreamCreditsResponse]:
        """Streams the credit of every touch of every conversion by one model."""
        with self._places.place(current_caller().project):
            question = await self._question(request, (decode_model(request.model),))
            await self._wait(request, context)
            credits_, rows = await self._analyses.run(lambda: self._spooled(question))
            try:
                replies = in_thread(encode_credits(question.definition, credits_))
                async with aclosing(replies):
                    async for reply in replies:
                        yield reply
            finally:
                rows.close()

    def _spooled(self, question: Question) -> tuple[Credits, ScoreRows]:
        """The credits of a question, on the disk: a slow reader holds no more than a part."""
        found: list[Credits] = []

        def compute() -> Credits:
            found.append(stream_credits(StreamCredits(question), self._log, self._limits))
            return found[0]

        rows = self._kept.spool(compute)
        return replace(found.pop(), pages=rows.pages()), rows

    async def _compute(
        self, use_case: Callable[[C, JourneyLog, AttributionLimits], A], command: C
    ) -> A:
        return await self._analyses.run(lambda: use_case(command, self._log, self._limits))

    async def _wait(self, request: _Request, context: grpc.ServicerContext) -> None:
        wait_s = waiting_time_s(context, self._limits.max_wait_s)
        await self._log.wait_until(request.consistency_token, wait_s)

    async def _question(self, request: _Request, models: tuple[AskedModel, ...]) -> Question:
        definition = decode_definition(await self._groupings.resolved(request.journeys))
        return Question(current_caller().project, definition, models)
