"""Credits of a report: refused when its events changed, and gone on with where a stream broke."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from touchstone.attribution.v1 import attribution_pb2, report_service_pb2
from touchstone.attribution.v1 import score_service_pb2 as pb

from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.adapters.score_files import csv_file, parquet_file
from services.attribution.api.scores import MOST_BROKEN, BrokenStreams, ScoreFiles, ScoreServicer
from services.attribution.application.get_attribution import WHILE_WANTED
from services.attribution.application.reports import run_report
from services.attribution.domain.journeys import DAY_US
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents, Reports, StoredReport
from services.attribution.wire.reports import decode_run, stored_report
from shared.errors import Code, DomainError
from shared.lake.analyses import Analyses
from shared.testing.fakes import calling

NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
LIMITS = AttributionLimits(credits_per_message=2)
NAME = "projects/demo/attributionReports/weekly"
METHOD = "/touchstone.attribution.v1.ScoreService/StreamScores"
TOUCHES = [
    TouchRow(f"t-{unit}-{day}", "demo", unit, day * DAY_US, channel)
    for unit in ("ann", "bob", "cat")
    for day, channel in ((40, "mail"), (50, "ads"))
]
BOUGHT = [
    ConversionRow(f"c-{unit}", "demo", unit, 51 * DAY_US, "buy", 10.0)
    for unit in ("ann", "bob", "cat")
]


class CountedLog:
    """A log in memory that counts how often it is read, and that others may change."""

    def __init__(self, touches: list[TouchRow], bought: list[ConversionRow]) -> None:
        self.reads = 0
        self.change(touches, bought)

    def change(self, touches: list[TouchRow], bought: list[ConversionRow]) -> None:
        self._log = MemoryJourneyLog(touches, bought, NOW)

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """Everything is there."""

    def read(self, query: EventQuery) -> JourneyEvents:
        self.reads += 1
        # A cut of another length is not the cut of the report; what it holds is what counts here.
        return self._log.read(replace(query, as_of=""))


@dataclass(frozen=True)
class OneReport:
    """A store with one report."""

    report: StoredReport

    def get(self, project: str, report_id: str) -> StoredReport | None:
        return self.report if (project, report_id) == ("demo", "weekly") else None

    @contextmanager
    def read(self) -> Iterator["OneReport"]:
        yield self


@pytest.fixture
def log() -> CountedLog:
    return CountedLog(TOUCHES, BOUGHT)


@pytest.fixture
def servicer(log: CountedLog) -> Iterator[ScoreServicer]:
    request = report_service_pb2.RunAttributionRequest(
        parent="projects/demo",
        journeys=attribution_pb2.JourneyDefinition(event_name="buy"),
        models=[attribution_pb2.Model(linear=attribution_pb2.Linear())],
        min_units=1,
    )
    command = decode_run(request, "demo")
    report = stored_report("weekly", NOW, command, run_report(command, log, LIMITS, WHILE_WANTED))
    log.reads = 0
    analyses = Analyses(1, 4)
    files = ScoreFiles(parquet_file, csv_file)
    yield ScoreServicer(cast(Reports, OneReport(report)), log, LIMITS, analyses, files)
    analyses.close()


async def streamed(servicer: ScoreServicer, token: str = "", most: int = 100) -> list[Any]:
    """At most so many messages; then the reader goes away."""
    found: list[Any] = []
    with calling(METHOD):
        stream = servicer.StreamScores(
            pb.StreamScoresRequest(report=NAME, resume_token=token), None
        )
        async for reply in stream:
            found.append(reply)
            if len(found) == most:
                await cast(Any, stream).aclose()
                break
    return found


def touches_of(replies: list[Any]) -> list[str]:
    return [credit.touch_id for reply in replies for credit in reply.credits]


async def test_a_broken_stream_goes_on_with_what_was_computed(
    servicer: ScoreServicer, log: CountedLog
) -> None:
    whole = await streamed(servicer)
    assert whole[-1].complete
    assert log.reads == 1

    first = await streamed(servicer, most=1)
    assert log.reads == 2
    rest = await streamed(servicer, first[-1].resume_token)
    assert log.reads == 2
    assert touches_of([*first, *rest]) == touches_of(whole)
    # It was kept for one, who has it all now: whoever comes next computes it.
    again = await streamed(servicer, first[-1].resume_token)
    assert touches_of(again) == touches_of(rest)
    assert log.reads == 3


async def test_a_new_stream_computes_anew_beside_a_broken_one(
    servicer: ScoreServicer, log: CountedLog
) -> None:
    await streamed(servicer, most=1)
    await streamed(servicer)
    assert log.reads == 2


@pytest.mark.parametrize(
    "changed",
    [
        [*TOUCHES[1:], replace(TOUCHES[0], channel="ads")],
        [*TOUCHES[1:], replace(TOUCHES[0], time_us=TOUCHES[0].time_us + 1)],
        TOUCHES[1:],
        [*TOUCHES, TouchRow("t-dan-40", "demo", "dan", 40 * DAY_US, "ads")],
    ],
    ids=["another channel", "another time", "one touch less", "one journey without conversion"],
)
async def test_credits_of_other_journeys_are_refused(
    servicer: ScoreServicer, log: CountedLog, changed: list[TouchRow]
) -> None:
    log.change(changed, BOUGHT)
    await refused(servicer)


async def test_credits_of_another_value_are_refused(
    servicer: ScoreServicer, log: CountedLog
) -> None:
    log.change(TOUCHES, [replace(BOUGHT[0], value=11.0), *BOUGHT[1:]])
    await refused(servicer)


async def refused(servicer: ScoreServicer) -> None:
    """Neither streamed nor explained."""
    with pytest.raises(DomainError) as stream:
        await streamed(servicer)
    assert stream.value.code is Code.FAILED_PRECONDITION
    with calling(METHOD), pytest.raises(DomainError) as single:
        await servicer.GetConversionCredits(
            pb.GetConversionCreditsRequest(report=NAME, conversion_id="c-bob"), None
        )
    assert single.value.code is Code.FAILED_PRECONDITION


async def test_of_many_broken_streams_the_newest_are_kept(servicer: ScoreServicer) -> None:
    await streamed(servicer, most=1)
    (computed,) = servicer.broken.computed.values()
    streams = BrokenStreams()
    keys = [("demo", "digest", number) for number in range(MOST_BROKEN + 1)]
    for key in keys:
        streams.keep(key, computed)
    assert [streams.take(key) is not None for key in keys] == [False, *[True] * MOST_BROKEN]
    assert streams.take(keys[-1]) is None
