"""The work behind RunAttribution: what it stores as progress when it is begun again."""

import datetime as dt
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from touchstone.attribution.v1 import attribution_pb2, report_pb2
from touchstone.attribution.v1 import report_service_pb2 as pb

from services.attribution.adapters.memory import MemoryJourneyLog
from services.attribution.adapters.only_process import is_only_process
from services.attribution.api.reports import KIND, ReportRun
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents, StoredReport
from shared.errors import DomainError, unavailable
from shared.operations.operation import Operation, packed
from shared.operations.task import Interrupted, Task
from shared.testing.fakes import FixedClock

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


class LogThatIsBehind:
    """A log whose tables have not come to the watermark that is asked for."""

    def journeys(self, *_: Any, **__: Any) -> Any:
        raise unavailable("NOT_YET_FRESH", "the tables stand at position 45")

    def __getattr__(self, _: str) -> Any:
        return self.journeys


class NoReports:
    """A store of reports without any."""

    @contextmanager
    def read(self) -> Any:
        yield self

    def get(self, *_: str) -> None:
        return None


def attempt(progress: bytes) -> list[bytes]:
    """What one attempt stores; it fails."""
    stored: list[bytes] = []
    request = pb.RunAttributionRequest(
        parent="projects/p",
        report_id="r",
        journeys=attribution_pb2.JourneyDefinition(event_name="buy"),
        as_of="later",
    )
    operation = Operation(
        "p", "o", KIND, packed(request), progress, False, None, None, False, 0, NOW, None
    )

    def store(data: bytes) -> bool:
        stored.append(data)
        return False

    task = Task(operation, store, threading.Event(), True)
    run = ReportRun(LogThatIsBehind(), AttributionLimits(), NoReports(), FixedClock(NOW))  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="position 45"):
        run.run(task)
    return stored


def test_an_attempt_that_comes_no_further_stores_no_progress() -> None:
    # Stored progress begins the count of attempts again: they would never end.
    begun = packed(pb.RunAttributionProgress(report="projects/p/attributionReports/r", models=1))
    first = attempt(begun)

    assert len(first) == 1
    assert attempt(first[-1]) == []


class OneOtherReport:
    """A store in which the report appears while it is computed."""

    def __init__(self) -> None:
        self.looks = 0

    @contextmanager
    def read(self) -> Any:
        yield self

    begin = read

    def get(self, project: str, report_id: str) -> StoredReport | None:
        self.looks += 1
        if self.looks == 1:
            return None
        document = report_pb2.AttributionReport(digest="of the other").SerializeToString()
        return StoredReport(project, report_id, NOW, document, b"")


def test_a_report_that_another_process_kept_meanwhile_is_the_result() -> None:
    progress = packed(pb.RunAttributionProgress(report="projects/p/attributionReports/r", models=1))
    request = pb.RunAttributionRequest(
        parent="projects/p",
        report_id="r",
        journeys=attribution_pb2.JourneyDefinition(event_name="buy"),
    )
    operation = Operation(
        "p", "o", KIND, packed(request), progress, False, None, None, False, 0, NOW, None
    )
    task = Task(operation, lambda _: False, threading.Event(), True)
    log = MemoryJourneyLog([], [], NOW)
    run = ReportRun(log, AttributionLimits(), OneOtherReport(), FixedClock(NOW))  # type: ignore[arg-type]
    assert run.run(task).report.digest == "of the other"


def test_whether_a_process_is_the_only_one_is_known_until_it_ends(tmp_path: Path) -> None:
    assert is_only_process(tmp_path)
    asks = "import sys, pathlib; from services.attribution.adapters.only_process import *; "
    asks += "print(is_only_process(pathlib.Path(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", asks, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
    done = subprocess.run(
        [sys.executable, "-c", asks, str(tmp_path / "other")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"
    assert is_only_process(tmp_path / "other")


class SlowLog(MemoryJourneyLog):
    """Notes how many read it at once."""

    def __init__(self) -> None:
        super().__init__([], [], NOW)
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def read(self, query: EventQuery) -> JourneyEvents:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.05)
        with self.lock:
            self.at_once -= 1
        return super().read(query)


class NewReports(NoReports):
    """A store that takes any report."""

    begin = NoReports.read

    def insert(self, report: StoredReport) -> None:
        """Nothing is kept."""


def task_of(stopping: threading.Event) -> Task:
    progress = packed(pb.RunAttributionProgress(report="projects/p/attributionReports/r", models=1))
    request = pb.RunAttributionRequest(
        parent="projects/p",
        report_id="r",
        journeys=attribution_pb2.JourneyDefinition(event_name="buy"),
    )
    operation = Operation(
        "p", "o", KIND, packed(request), progress, False, None, None, False, 0, NOW, None
    )
    return Task(operation, lambda _: False, stopping, True)


def test_only_so_many_reports_are_computed_at_once_and_a_stop_is_heard_in_line() -> None:
    log, places, stopping = SlowLog(), threading.Semaphore(2), threading.Event()
    run = ReportRun(log, AttributionLimits(), NewReports(), FixedClock(NOW), places=places)  # type: ignore[arg-type]
    with ThreadPoolExecutor(6) as threads:
        ended = [threads.submit(run.run, task_of(stopping)) for _ in range(6)]
        assert all(one.result().report.digest for one in ended)
    assert log.most == 2
    for _ in range(2):
        places.acquire()
    stopping.set()
    with pytest.raises(Interrupted):
        run.run(task_of(stopping))


def test_a_stop_is_heard_where_an_earlier_attempt_came_further() -> None:
    stopping = threading.Event()
    stopping.set()
    task = task_of(stopping)
    last = pb.RUN_ATTRIBUTION_STAGE_PATHS
    name = "projects/p/attributionReports/r"
    told = pb.RunAttributionProgress(report=name, models=1, models_done=1, stage=last)
    again = replace(task.operation, progress=packed(told))
    log = SlowLog()
    run = ReportRun(log, AttributionLimits(), NewReports(), FixedClock(NOW))  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        run.run(Task(again, lambda _: False, stopping, True))
    assert log.most == 0
