"""ScoreService: decode, handle, encode."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from touchstone.attribution.v1 import score_service_pb2 as pb
from touchstone.attribution.v1 import score_service_pb2_grpc as rpc

from services.attribution.application.explain import explain
from services.attribution.application.questions import Question
from services.attribution.application.reports import COLLECTION, find_report
from services.attribution.application.stream_credits import Credits, StreamCredits, stream_credits
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog, Reports, StoredReport
from services.attribution.wire.reports import encode_report, question_of
from services.attribution.wire.scores import (
    decode_place,
    decode_result,
    encode_explanation,
    encode_place,
    encode_scores,
)
from shared.errors import wrong_state
from shared.lake.analyses import Analyses
from shared.resource_names import require_id
from shared.security.caller import current_caller

ScoreFile = Callable[[Credits], Iterator[tuple[bytes, str]]]
"""Writes a file: its parts, and with the last, which is empty, the SHA-256 of the whole."""


@dataclass(frozen=True, slots=True)
class ScoreFiles:
    """Writers of the kinds of files."""

    parquet: ScoreFile
    csv: ScoreFile


@dataclass(frozen=True, slots=True)
class ScoreServicer(rpc.ScoreServiceServicer):
    """The credits behind the reports of the caller's project; computed in the analysis threads."""

    reports: Reports
    log: JourneyLog
    limits: AttributionLimits
    analyses: Analyses
    files: ScoreFiles

    async def GetConversionCredits(
        self, request: pb.GetConversionCreditsRequest, _context: Any
    ) -> pb.GetConversionCreditsResponse:
        """Explains one conversion."""
        stored = await asyncio.to_thread(self._find, request.report)
        question = question_of(stored)
        conversion_id = request.conversion_id
        found = await self.analyses.run(
            lambda: explain(question, conversion_id, self.log, self.limits)
        )
        return encode_explanation(conversion_id, question.definition.unit_type, found)

    async def StreamScores(
        self, request: pb.StreamScoresRequest, _context: Any
    ) -> AsyncIterator[pb.StreamScoresResponse]:
        """Streams credits, from the beginning or behind those that arrived."""
        stored = await asyncio.to_thread(self._find, request.report)
        index = request.result_index
        place = decode_place(stored, index, request.resume_token)
        question, credits_ = await self._credits(stored, index, place, "StreamScores")
        while (page := await asyncio.to_thread(next, credits_.pages, None)) is not None:
            place += len(page.weights)
            token = encode_place(stored, index, place)
            yield encode_scores(
                page, question.definition.unit_type, credits_.identity_version, token
            )
        yield pb.StreamScoresResponse(
            resume_token=encode_place(stored, index, place), complete=True
        )

    async def ExportScores(
        self, request: pb.ExportScoresRequest, _context: Any
    ) -> AsyncIterator[pb.ExportScoresResponse]:
        """Sends a file of credits."""
        stored = await asyncio.to_thread(self._find, request.report)
        _, credits_ = await self._credits(stored, request.result_index, 0, "ExportScores")
        chosen = request.format == pb.SCORE_FORMAT_CSV
        parts = (self.files.csv if chosen else self.files.parquet)(credits_)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            data, digest = part
            yield pb.ExportScoresResponse(data=data, sha256=digest)

    async def _credits(
        self, stored: StoredReport, index: int, skip: int, verb: str
    ) -> tuple[Question, Credits]:
        question = replace(question_of(stored), models=(decode_result(stored, index),))
        command = StreamCredits(question, skip)
        credits_ = await self.analyses.run(lambda: stream_credits(command, self.log, self.limits))
        expected = encode_report(stored).scores
        if credits_.count != expected:
            raise wrong_state(
                encode_report(stored).name,
                f"of {expected} credits, and its events now give {credits_.count}",
                verb,
                "a report all of whose events are there: run it again",
            )
        return question, credits_

    def _find(self, name: str) -> StoredReport:
        project = current_caller().project
        with self.reports.read() as store:
            return find_report(project, require_id(name, project, COLLECTION), store)
