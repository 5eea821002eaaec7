"""ScoreService: decode, handle, encode."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from touchstone.attribution.v1 import score_service_pb2 as pb
from touchstone.attribution.v1 import score_service_pb2_grpc as rpc

from services.attribution.application.explain import explain
from services.attribution.application.reports import COLLECTION, find_report
from services.attribution.application.stream_credits import (
    ComputedCredits,
    Credits,
    StreamCredits,
    computed_credits,
)
from services.attribution.domain.journeys_digest import journeys_digest
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
from shared.errors import DomainError, wrong_state
from shared.lake.analyses import Analyses
from shared.resource_names import require_id
from shared.security.caller import current_caller

MOST_BROKEN = 2
BROKEN_S = 60.0
ScoreFile = Callable[[Credits], Iterator[tuple[bytes, str]]]
"""Writes a file: its parts, and with the last, which is empty, the SHA-256 of the whole."""


@dataclass(frozen=True, slots=True)
class ScoreFiles:
    """Writers of the kinds of files."""

    parquet: ScoreFile
    csv: ScoreFile


@dataclass(frozen=True, slots=True)
class BrokenStreams:
    """What streams that broke had computed, for a minute and a few of them: whoever goes on need
    not wait for it again. The minute is little beside the ten that a stream may take.
    """

    computed: dict[tuple[str, str, int], ComputedCredits] = field(default_factory=dict)

    def keep(self, key: tuple[str, str, int], computed: ComputedCredits) -> None:
        """Keep it for a minute; of many the newest."""
        while len(self.computed) >= MOST_BROKEN:
            self.computed.pop(next(iter(self.computed)), None)
        self.computed[key] = computed
        asyncio.get_running_loop().call_later(BROKEN_S, self._drop, key, computed)

    def take(self, key: tuple[str, str, int]) -> ComputedCredits | None:
        """What was kept, which is kept no longer; or None."""
        return self.computed.pop(key, None)

    def _drop(self, key: tuple[str, str, int], computed: ComputedCredits) -> None:
        if self.computed.get(key) is computed:
            del self.computed[key]


@dataclass(frozen=True, slots=True)
class ScoreServicer(rpc.ScoreServiceServicer):
    """The credits behind the reports of the caller's project; computed in the analysis threads."""

    reports: Reports
    log: JourneyLog
    limits: AttributionLimits
    analyses: Analyses
    files: ScoreFiles
    broken: BrokenStreams = field(default_factory=BrokenStreams)

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
        _require_unchanged(stored, found.journeys_digest, "GetConversionCredits")
        return encode_explanation(conversion_id, question.definition.unit_type, found)

    async def StreamScores(
        self, request: pb.StreamScoresRequest, _context: Any
    ) -> AsyncIterator[pb.StreamScoresResponse]:
        """Streams credits, from the beginning or behind those that arrived."""
        stored = await asyncio.to_thread(self._find, request.report)
        index = request.result_index
        place = decode_place(stored, index, request.resume_token)
        unit_type = question_of(stored).definition.unit_type
        key = (stored.project, encode_report(stored).digest, index)
        computed = self.broken.take(key) if place else None
        if computed is None:
            computed = await self._credits(stored, index, "StreamScores")
        complete = False
        try:
            credits_ = computed.credits(place)
            while (page := await asyncio.to_thread(next, credits_.pages, None)) is not None:
                place += len(page.weights)
                token = encode_place(stored, index, place)
                yield encode_scores(page, unit_type, credits_.identity_version, token)
            complete = True
        finally:
            if not complete:
                self.broken.keep(key, computed)
        yield pb.StreamScoresResponse(
            resume_token=encode_place(stored, index, place), complete=True
        )

    async def ExportScores(
        self, request: pb.ExportScoresRequest, _context: Any
    ) -> AsyncIterator[pb.ExportScoresResponse]:
        """Sends a file of credits."""
        stored = await asyncio.to_thread(self._find, request.report)
        computed = await self._credits(stored, request.result_index, "ExportScores")
        credits_ = computed.credits()
        chosen = request.format == pb.SCORE_FORMAT_CSV
        parts = (self.files.csv if chosen else self.files.parquet)(credits_)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            data, digest = part
            yield pb.ExportScoresResponse(data=data, sha256=digest)

    async def _credits(self, stored: StoredReport, index: int, verb: str) -> ComputedCredits:
        question = replace(question_of(stored), models=(decode_result(stored, index),))
        command = StreamCredits(question)

        def compute() -> tuple[ComputedCredits, str]:
            computed = computed_credits(command, self.log, self.limits)
            return computed, journeys_digest(computed.cut.journeys)

        computed, digest = await self.analyses.run(compute)
        _require_unchanged(stored, digest, verb)
        expected = encode_report(stored).scores
        if len(computed.weights) != expected:
            raise _changed(stored, verb)
        return computed

    def _find(self, name: str) -> StoredReport:
        project = current_caller().project
        with self.reports.read() as store:
            return find_report(project, require_id(name, project, COLLECTION), store)


def _require_unchanged(stored: StoredReport, digest: str, verb: str) -> None:
    """Raise FAILED_PRECONDITION unless the events of the cut still give the journeys of the report.

    A report from before there were digests of journeys has none to compare.
    """
    if encode_report(stored).scores_digest not in ("", digest):
        raise _changed(stored, verb)


def _changed(stored: StoredReport, verb: str) -> DomainError:
    return wrong_state(
        encode_report(stored).name,
        "of journeys that its events do not give any more, as some were erased or removed",
        verb,
        "a report all of whose events are there: run it again",
    )
