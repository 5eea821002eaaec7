"""Credits of a report: refused when its events changed, and read on from the disk where a stream
broke.
"""

import asyncio
import base64
import csv
import datetime as dt
import fcntl
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from touchstone.attribution.v1 import attribution_pb2, report_service_pb2
from touchstone.attribution.v1 import score_service_pb2 as pb

from services.attribution.adapters.kept_scores import KeptScoreFiles, ScoresRoom
from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.adapters.score_files import csv_parts, with_digest
from services.attribution.api.scores import ScoreFiles, ScoreServicer, score_places
from services.attribution.application.get_attribution import WHILE_WANTED
from services.attribution.application.reports import run_report
from services.attribution.application.stream_credits import CreditPage
from services.attribution.domain.journeys import DAY_US
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents, Reports, StoredReport
from services.attribution.wire.reports import decode_run, stored_report
from shared.errors import Code, DomainError
from shared.lake.analyses import Analyses
from shared.lake.removal import MARKER, drop_days, write_marker
from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock, calling

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
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


@dataclass
class Folder:
    """Where credits are kept, beside event tables that hold days of the project."""

    root: Path
    most_bytes: int = 10**9
    is_report: bool = True

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    def kept(self) -> KeptScoreFiles:
        room = ScoresRoom(self.root / "scores", self.lake, self.most_bytes, 2)
        return KeptScoreFiles(room, lambda *_: self.is_report)

    def files(self) -> list[Path]:
        return sorted((self.root / "scores").glob("*.*"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    days = {"event_id": "e", "project": "demo", "unit_id": "zoe", "event_time": EPOCH}
    tables = {
        "touchpoints": table_of("touchpoints", [days | {"channel": "mail"}]),
        "conversions": table_of("conversions", [days | {"event_name": "other", "value": 1.0}]),
    }
    LakeWriter(made.lake, "journal-a", FixedClock(NOW)).append(tables, 1)
    return made


@pytest.fixture
def servicer(log: CountedLog, folder: Folder) -> Iterator[ScoreServicer]:
    analyses = Analyses(1, 4)
    yield servicer_of(log, folder, analyses)
    analyses.close()


def servicer_of(
    log: CountedLog, folder: Folder, analyses: Analyses, streams: int = 4
) -> ScoreServicer:
    request = report_service_pb2.RunAttributionRequest(
        parent="projects/demo",
        journeys=attribution_pb2.JourneyDefinition(event_name="buy"),
        models=[attribution_pb2.Model(linear=attribution_pb2.Linear())],
        min_units=1,
    )
    command = decode_run(request, "demo")
    report = stored_report("weekly", NOW, command, run_report(command, log, LIMITS, WHILE_WANTED))
    log.reads = 0
    files = ScoreFiles(csv_parts, with_digest)
    reports = cast(Reports, OneReport(report))
    places = score_places(streams)
    return ScoreServicer(reports, log, LIMITS, analyses, folder.kept(), files, places)


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


async def exported(servicer: ScoreServicer, kind: pb.ScoreFormat.ValueType) -> bytes:
    with calling(METHOD):
        request = pb.ExportScoresRequest(report=NAME, format=kind)
        replies = [reply async for reply in servicer.ExportScores(request, None)]
    data = b"".join(reply.data for reply in replies)
    assert replies[-1].sha256 == hashlib.sha256(data).hexdigest()
    return data


async def test_a_broken_stream_reads_on_and_computes_nothing(
    servicer: ScoreServicer, log: CountedLog
) -> None:
    whole = await streamed(servicer)
    assert whole[-1].complete
    for most in range(1, len(whole)):
        first = await streamed(servicer, most=most)
        rest = await streamed(servicer, first[-1].resume_token)
        assert touches_of([*first, *rest]) == touches_of(whole)
    assert log.reads == 1


async def test_another_process_goes_on_with_the_same_bytes(
    servicer: ScoreServicer, log: CountedLog, folder: Folder
) -> None:
    first = await streamed(servicer, most=1)
    file = await exported(servicer, pb.SCORE_FORMAT_PARQUET)
    analyses = Analyses(1, 4)
    other = servicer_of(log, folder, analyses)
    rest = await streamed(other, first[-1].resume_token)
    assert touches_of([*first, *rest]) == touches_of(await streamed(servicer))
    assert await exported(other, pb.SCORE_FORMAT_PARQUET) == file
    assert log.reads == 0
    # What is computed once more is the same, too.
    for path in folder.files():
        path.unlink()
    assert await exported(other, pb.SCORE_FORMAT_PARQUET) == file
    assert log.reads == 1
    analyses.close()


async def test_files_of_both_kinds_hold_what_is_streamed(servicer: ScoreServicer) -> None:
    credits_ = [credit for reply in await streamed(servicer) for credit in reply.credits]
    sheet = (await exported(servicer, pb.SCORE_FORMAT_CSV)).decode()
    rows = list(csv.DictReader(io.StringIO(sheet)))
    table = pq.read_table(io.BytesIO(await exported(servicer, pb.SCORE_FORMAT_PARQUET)))
    for name in ("conversion_id", "touch_id", "channel", "weight", "value"):
        expected = [getattr(credit, name) for credit in credits_]
        assert table[name].to_pylist() == expected
        assert [type(expected[0])(row[name]) for row in rows] == expected
    assert [row["unit_id"] for row in rows] == [credit.unit.id for credit in credits_]


def test_no_text_of_a_sheet_is_a_formula() -> None:
    names = ["=1+1", "+1", "-a", "@a", "\ta", "\ra", "a=1", "'=1", ""]
    count = len(names)
    page = CreditPage(
        names, names, names, names, [0] * count, [0] * count, [-0.5] * count, [-1.0] * count
    )
    sheet = b"".join(csv_parts([page])).decode()
    rows = list(csv.DictReader(io.StringIO(sheet, newline="")))
    expected = ["'=1+1", "'+1", "'-a", "'@a", "'\ta", "'\ra", "a=1", "'=1", ""]
    for name in ("conversion_id", "touch_id", "unit_id", "channel"):
        assert [row[name] for row in rows] == expected
    # A number is one, also below zero.
    assert {(row["weight"], row["value"]) for row in rows} == {("-0.5", "-1.0")}


async def test_two_who_ask_at_once_let_it_be_computed_once(
    servicer: ScoreServicer, log: CountedLog
) -> None:
    one, other = await asyncio.gather(streamed(servicer), streamed(servicer))
    assert one == other
    assert log.reads == 1
    assert not servicer.turns.locks


async def test_more_streams_than_may_be_are_sent_away_with_a_delay(
    log: CountedLog, folder: Folder
) -> None:
    analyses = Analyses(1, 4)
    servicer = servicer_of(log, folder, analyses, streams=2)
    with calling(METHOD):
        slow: Any = servicer.StreamScores(pb.StreamScoresRequest(report=NAME), None)
        await anext(slow)
    # One project has half of the places.
    with pytest.raises(DomainError) as full:
        await streamed(servicer)
    assert full.value.code is Code.RESOURCE_EXHAUSTED
    assert full.value.retry_after_s
    with pytest.raises(DomainError):
        await exported(servicer, pb.SCORE_FORMAT_CSV)
    await slow.aclose()
    assert (await streamed(servicer))[-1].complete
    analyses.close()


async def test_what_nobody_waits_for_is_not_computed_to_its_end(
    servicer: ScoreServicer, log: CountedLog, folder: Folder
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    read = log.read

    def slow(query: EventQuery) -> JourneyEvents:
        begun.set()
        go_on.wait(10)
        return read(query)

    log.read = slow  # type: ignore[method-assign]
    call = asyncio.create_task(streamed(servicer))
    await asyncio.to_thread(begun.wait, 10)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    go_on.set()
    # The thread is free again when this has been computed.
    await servicer.analyses.run(lambda: None)
    assert not folder.files()
    assert not servicer.turns.locks


async def test_what_is_erased_or_removed_leaves_the_disk(
    servicer: ScoreServicer, log: CountedLog, folder: Folder
) -> None:
    await streamed(servicer)
    folder.kept().forget_removed()
    assert len(folder.files()) == 1
    write_marker(folder.lake / MARKER, ["an-erasure"])
    await streamed(servicer)
    assert log.reads == 2
    folder.kept().forget_removed()
    assert len(folder.files()) == 1

    # Retention: the tables begin later than the credits do.
    writer = LakeWriter(folder.lake, "journal-a", FixedClock(NOW))
    row = {"event_id": "f", "project": "demo", "unit_id": "zoe", "channel": "mail"}
    late = table_of("touchpoints", [row | {"event_time": EPOCH + dt.timedelta(days=41)}])
    writer.append({"touchpoints": late}, 2)
    assert (await streamed(servicer))[-1].complete
    day = (EPOCH + dt.timedelta(days=41)).date()
    writer.change("touchpoints", lambda table: drop_days(table, "demo", day, NOW))
    writer.append({"touchpoints": late}, 3)
    assert log.reads == 2
    await streamed(servicer)
    assert log.reads == 3
    folder.kept().forget_removed()
    assert not folder.files()


async def test_what_is_erased_while_it_is_computed_is_not_found(
    servicer: ScoreServicer, log: CountedLog, folder: Folder
) -> None:
    read = log.read

    def erased_meanwhile(query: EventQuery) -> JourneyEvents:
        found = read(query)
        write_marker(folder.lake / MARKER, ["an-erasure"])
        return found

    log.read = erased_meanwhile  # type: ignore[method-assign]
    await streamed(servicer)
    folder.kept().forget_removed()
    assert not folder.files()


async def test_credits_go_with_their_report(servicer: ScoreServicer, folder: Folder) -> None:
    await streamed(servicer)
    folder.is_report = False
    folder.kept().forget_removed()
    assert not folder.files()


async def test_no_more_is_kept_than_there_is_room_for(log: CountedLog, folder: Folder) -> None:
    analyses = Analyses(1, 4)
    servicer = servicer_of(log, folder, analyses)
    await streamed(servicer)
    (path,) = folder.files()
    folder.most_bytes = path.stat().st_size + 10
    other = path.with_name(f"other.{path.suffixes[0][1:]}.parquet")
    path.rename(other)
    servicer = servicer_of(log, folder, analyses)
    await streamed(servicer)
    assert folder.files() == [path]
    folder.most_bytes = 0
    path.unlink()
    servicer = servicer_of(log, folder, analyses)
    whole = await streamed(servicer)
    rest = await streamed(servicer, whole[0].resume_token)
    assert touches_of([whole[0], *rest]) == touches_of(whole)
    assert not folder.files()
    analyses.close()


async def test_where_nothing_can_be_kept_credits_are_streamed_all_the_same(
    servicer: ScoreServicer, log: CountedLog, folder: Folder
) -> None:
    (folder.root / "scores").write_text("no folder")
    whole = await streamed(servicer)
    assert whole[-1].complete
    assert await streamed(servicer, whole[0].resume_token) == whole[1:]
    assert log.reads == 2


async def test_what_a_process_left_that_ended_while_it_wrote_is_removed(folder: Folder) -> None:
    (folder.root / "scores").mkdir()
    left, writing = folder.root / "scores" / "a.new", folder.root / "scores" / "b.new"
    for path in (left, writing):
        path.write_bytes(b"half")
    folder.kept().forget_removed()
    assert folder.files() == [left, writing]
    for path in (left, writing):
        os.utime(path, (0, 0))
    with writing.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        folder.kept().forget_removed()
    assert folder.files() == [writing]


async def test_a_damaged_file_is_refused_and_made_anew(
    servicer: ScoreServicer, log: CountedLog, folder: Folder
) -> None:
    whole = await streamed(servicer)
    (path,) = folder.files()
    good = path.read_bytes()
    # Within the first page of ids: the checksum of the page finds it.
    path.write_bytes(good[:30] + bytes([good[30] ^ 1]) + good[31:])
    with pytest.raises(DomainError) as damaged:
        await streamed(servicer)
    assert damaged.value.code is Code.UNAVAILABLE
    assert await streamed(servicer) == whole
    assert log.reads == 2
    for half in (good[: len(good) // 2], b""):
        path.write_bytes(half)
        assert await streamed(servicer) == whole
    assert log.reads == 4


@pytest.mark.parametrize("place", [-1, 7, 1.5, True, "1", None])
async def test_a_token_of_no_place_of_the_stream_is_refused(
    servicer: ScoreServicer, place: object
) -> None:
    whole = await streamed(servicer)
    digest, result, _ = json.loads(base64.urlsafe_b64decode(whole[-1].resume_token))
    forged = base64.urlsafe_b64encode(json.dumps([digest, result, place]).encode()).decode()
    with pytest.raises(DomainError) as refused_:
        await streamed(servicer, forged)
    assert refused_.value.code is Code.INVALID_ARGUMENT


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
