"""ScoreService: decode, handle, encode."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from touchstone.attribution.v1 import score_service_pb2 as pb
from touchstone.attribution.v1 import score_service_pb2_grpc as rpc

from services.attribution.application.explain import explain
from services.attribution.application.reports import COLLECTION, find_report
from services.attribution.application.stream_credits import (
    CreditPage,
    Credits,
    StreamCredits,
    computed_credits,
)
from services.attribution.domain.journeys_digest import journeys_digest
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog, Reports, StoredReport
from services.attribution.score_ports import KeptScores, ScoreRows, ScoresKey
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
from shared.server.places import StreamPlaces

T = TypeVar("T")
RETRY_S = 5.0


def score_places(streams: int) -> StreamPlaces:
    """The places of streams and files of credits."""
    remedy = "end one, or ask the operator for more (TOUCHSTONE_ATTRIBUTION_SCORE_STREAMS)"
    return StreamPlaces(streams, "streams of credits", remedy, RETRY_S)


@dataclass(frozen=True, slots=True)
class ScoreFiles:
    """How files are made: a text file out of pages, and the SHA-256 behind the parts of any."""

    csv_parts: Callable[[Iterable[CreditPage]], Iterator[bytes]]
    with_digest: Callable[[Iterable[bytes]], Iterator[tuple[bytes, str]]]


@dataclass(frozen=True, slots=True)
class Turns:
    """Whoever asks for what another computes waits for that, and does not compute it too."""

    locks: dict[ScoresKey, tuple[asyncio.Lock, list[None]]] = field(default_factory=dict)

    @contextmanager
    def of(self, key: ScoresKey) -> Iterator[asyncio.Lock]:
        """The lock of a key, for as long as somebody uses it."""
        lock, users = self.locks.setdefault(key, (asyncio.Lock(), []))
        users.append(None)
        try:
            yield lock
        finally:
            users.pop()
            if not users:
                self.locks.pop(key, None)


@dataclass(frozen=True, slots=True)
class ScoreServicer(rpc.ScoreServiceServicer):
    """The credits behind the reports of the caller's project; computed in the analysis threads,
    and read from the disk, so that a slow reader holds little memory.
    """

    reports: Reports
    log: JourneyLog
    limits: AttributionLimits
    analyses: Analyses
    kept: KeptScores
    files: ScoreFiles
    places: StreamPlaces
    turns: Turns = field(default_factory=Turns)

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
        with self.places.place(current_caller().project):
            stored = await asyncio.to_thread(self._find, request.report)
            index = request.result_index
            place = decode_place(stored, index, request.resume_token)
            rows = await self._opened(stored, index, "StreamScores")
            try:
                replies = in_thread(_replies(stored, index, place, rows))
                async with aclosing(replies):
                    async for reply in replies:
                        yield reply
            finally:
                rows.close()

    async def ExportScores(
        self, request: pb.ExportScoresRequest, _context: Any
    ) -> AsyncIterator[pb.ExportScoresResponse]:
        """Sends a file of credits."""
        with self.places.place(current_caller().project):
            stored = await asyncio.to_thread(self._find, request.report)
            rows = await self._opened(stored, request.result_index, "ExportScores")
            try:
                as_text = request.format == pb.SCORE_FORMAT_CSV
                parts = self.files.csv_parts(rows.pages()) if as_text else rows.parts()
                sent = in_thread(self.files.with_digest(parts))
                async with aclosing(sent):
                    async for data, digest in sent:
                        yield pb.ExportScoresResponse(data=data, sha256=digest)
            finally:
                rows.close()

    async def _opened(self, stored: StoredReport, index: int, verb: str) -> ScoreRows:
        """The credits of a result, computed where they are not kept."""
        question = replace(question_of(stored), models=(decode_result(stored, index),))
        expected = encode_report(stored)

        def compute() -> Credits:
            computed = computed_credits(StreamCredits(question), self.log, self.limits)
            _require_unchanged(stored, journeys_digest(computed.cut.journeys), verb)
            if len(computed.weights) != expected.scores:
                raise _changed(stored, verb)
            return computed.credits()

        key = ScoresKey(stored.project, stored.report_id, expected.digest, index)
        with self.turns.of(key) as turn:
            async with turn:
                found = await asyncio.to_thread(self.kept.find, key)
                if found is None:
                    found = await self.analyses.run(lambda: self.kept.keep(key, compute))
                return found

    def _find(self, name: str) -> StoredReport:
        project = current_caller().project
        with self.reports.read() as store:
            return find_report(project, require_id(name, project, COLLECTION), store)


async def in_thread(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """The items, each made in a thread when it is asked for; no more than one waits."""
    end = object()
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield item  # type: ignore[misc]


def _replies(
    stored: StoredReport, index: int, place: int, rows: ScoreRows
) -> Iterator[pb.StreamScoresResponse]:
    unit_type = question_of(stored).definition.unit_type
    for page in rows.pages(place):
        place += len(page.weights)
        token = encode_place(stored, index, place)
        yield encode_scores(page, unit_type, rows.identity_version, token)
    yield pb.StreamScoresResponse(resume_token=encode_place(stored, index, place), complete=True)


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
