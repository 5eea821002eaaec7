"""Row 73: the attribution service ends while it computes reports, keeps them and sends credits."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import (
    attribution_pb2,
    report_pb2,
    report_service_pb2,
    report_service_pb2_grpc,
    schedule_service_pb2,
    schedule_service_pb2_grpc,
    score_service_pb2,
    score_service_pb2_grpc,
)

from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from tests.robustness.fault import SERVICE, Fault, Play
from tests.robustness.faults import EventsProcess, make_key
from tests.robustness.history import History
from tests.robustness.model import Verdict

START = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
PARENT = "projects/acme"
UNITS, NEW_UNITS = 20_000, 200
CALL_S, END_S = 30.0, 60.0
AGAIN = frozenset({"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"})
EVERY = dt.timedelta(minutes=10)


@dataclass
class Reports:
    """A service with journeys, and a client that was told which reports it will have."""

    play: Play
    process: EventsProcess
    key: str
    history: History = field(default_factory=History)
    acknowledged: int = 0
    _position: int = 0

    def write(self, units: int) -> None:
        """More journeys, as the events service writes them: two touches each, one in four buys."""
        first, self._position = self._position, self._position + units
        rows = [
            {
                "event_id": f"e{number}",
                "project": "acme",
                "event_time": START + dt.timedelta(seconds=number % 864_000),
                "unit_id": f"u{number // 2}",
                "position": self._position,
            }
            for number in range(2 * first, 2 * self._position)
        ]
        touches = [row | {"channel": f"c{i * i % 7}"} for i, row in enumerate(rows)]
        bought = [
            row | {"event_id": f"b{row['event_id']}", "event_name": "buy", "value": 1.0}
            for row in rows[1::8]
        ]
        tables = {
            "touchpoints": table_of("touchpoints", touches),
            "conversions": table_of("conversions", bought),
        }
        writer = LakeWriter(self.process.lake, "journal", FixedClock(START))
        writer.append(tables, self._position)

    def call(self, stub: Any, method: str, request: Any) -> Any:
        """An answer, however often the process has to be asked: only a crash may refuse one."""
        end = time.monotonic() + END_S
        while True:
            try:
                with grpc.insecure_channel(self.process.address) as channel:
                    call = getattr(stub(channel), method)
                    return call(request, timeout=CALL_S, metadata=self.metadata())
            except grpc.RpcError as error:
                if error.code().name not in AGAIN or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The credential."""
        return (("authorization", f"Bearer {self.key}"),)

    def begin(self, report_id: str) -> str:
        """Begin a report; the name of its operation."""
        request = _run(report_id, request_id=report_id)
        stub = report_service_pb2_grpc.ReportServiceStub
        name: str = self.call(stub, "RunAttribution", request).operation.name
        self.acknowledged += 1
        return name

    def ended(self, name: str) -> operations_pb2.Operation | None:
        """The operation when it is done; None, and a complaint, when it takes too long."""
        stub = operations_pb2_grpc.OperationsStub
        end = time.monotonic() + END_S
        while time.monotonic() < end:
            request = operations_pb2.GetOperationRequest(name=name)
            found: operations_pb2.Operation = self.call(stub, "GetOperation", request)
            if found.done:
                return found
            time.sleep(0.1)
        self.history.complain("ends", f"{name} neither ends nor says why")
        return None

    def report(self, report_id: str) -> report_pb2.AttributionReport:
        """A report that is kept."""
        name = f"{PARENT}/attributionReports/{report_id}"
        request = report_service_pb2.GetReportRequest(name=name)
        stub = report_service_pb2_grpc.ReportServiceStub
        found: report_pb2.AttributionReport = self.call(stub, "GetReport", request).report
        return found

    def kill_during(
        self, work: Callable[[], None], within_s: float, begun: threading.Event | None = None
    ) -> None:
        """kill -9 at a moment of the work, or as soon as it has begun, and start again."""
        worker = threading.Thread(target=work)
        worker.start()
        if begun is None:
            time.sleep(float(self.dice.uniform(0, within_s)))
        else:
            begun.wait(within_s)
        self.process.kill()
        self.process.start()
        worker.join(END_S)
        if worker.is_alive():
            self.history.complain("served", "a client has no answer")

    def __post_init__(self) -> None:
        self.dice = np.random.default_rng(self.play.seed)


def _run(report_id: str = "", **fields: Any) -> report_service_pb2.RunAttributionRequest:
    linear = attribution_pb2.Model(linear=attribution_pb2.Linear())
    markov = attribution_pb2.Model(markov=attribution_pb2.Markov())
    return report_service_pb2.RunAttributionRequest(
        parent=PARENT,
        report_id=report_id,
        journeys=attribution_pb2.JourneyDefinition(event_name="buy"),
        models=[linear, markov],
        **fields,
    )


def _reports(world: Reports, number: int) -> None:
    """Kill it while it computes a report; what is told of it afterwards is that of another one."""
    world.write(NEW_UNITS)
    names: list[str] = []
    world.kill_during(lambda: names.append(world.begin(f"killed-{number}")), 1.5)
    world.ended(world.begin(f"whole-{number}"))
    done = world.ended(names[0]) if names else None
    if done is None:
        return
    if done.HasField("error"):
        world.history.complain("ends", f"{done.error.code}: {done.error.message}")
        return
    killed, other = (world.report(f"{which}-{number}") for which in ("killed", "whole"))
    if killed.digest != other.digest:
        world.history.complain("same", f"report {number} says something else after a crash")


def _credits(world: Reports, number: int) -> None:
    """Kill it while credits are read; who goes on has each credit once, in order."""
    report = f"{PARENT}/attributionReports/whole-{number}"
    expected = world.report(f"whole-{number}").scores
    seen: list[tuple[str, str]] = []
    begun, messages = threading.Event(), int(world.dice.integers(1, 4))

    def read() -> None:
        token, complete, end = "", False, time.monotonic() + END_S
        while not complete and time.monotonic() < end:
            request = score_service_pb2.StreamScoresRequest(report=report, resume_token=token)
            try:
                with grpc.insecure_channel(world.process.address) as channel:
                    stub: Any = score_service_pb2_grpc.ScoreServiceStub(channel)
                    stream = stub.StreamScores(request, timeout=CALL_S, metadata=world.metadata())
                    for reply in stream:
                        seen.extend((one.conversion_id, one.touch_id) for one in reply.credits)
                        token, complete = reply.resume_token, reply.complete
                        if len(seen) >= 1_000 * messages:
                            begun.set()
                        time.sleep(0.05)
            except grpc.RpcError as error:
                if error.code().name not in AGAIN:
                    world.history.complain("code", f"{error.code().name}: {error.details()}")
                    return
                time.sleep(0.05)

    world.kill_during(read, END_S, begun)
    if len(set(seen)) != len(seen):
        world.history.complain("doubled", f"{len(seen) - len(set(seen))} credits came twice")
    if len(set(seen)) != expected:
        world.history.complain("lost", f"{len(set(seen))} credits came of {expected}")


def _files(world: Reports, number: int) -> None:
    """Kill it while a file is sent; a file with a digest is whole, and the same every time."""
    report = f"{PARENT}/attributionReports/whole-{number}"
    whole: list[bytes] = []

    def read() -> None:
        end = time.monotonic() + END_S
        while time.monotonic() < end:
            request = score_service_pb2.ExportScoresRequest(report=report, result_index=2)
            parts: list[bytes] = []
            try:
                with grpc.insecure_channel(world.process.address) as channel:
                    stub: Any = score_service_pb2_grpc.ScoreServiceStub(channel)
                    sent = stub.ExportScores(request, timeout=CALL_S, metadata=world.metadata())
                    for reply in sent:
                        parts.append(reply.data)
                        if reply.sha256:
                            data = b"".join(parts)
                            whole.append(data)
                            if hashlib.sha256(data).hexdigest() != reply.sha256:
                                world.history.complain("half", "a file is not of its digest")
                            return
                world.history.complain("half", "a file has neither a digest nor an error")
            except grpc.RpcError as error:
                if error.code().name not in AGAIN:
                    world.history.complain("code", f"{error.code().name}: {error.details()}")
                    return
                time.sleep(0.05)

    world.kill_during(read, 1.0)
    read()
    if len(set(whole)) > 1:
        world.history.complain("same", f"the file of report {number} changed")


def _schedules(world: Reports, number: int) -> None:
    """Kill it while a schedule runs; its run ends, once, and the schedule says so."""
    stub = schedule_service_pb2_grpc.ReportScheduleServiceStub
    name = f"{PARENT}/reportSchedules/often-{number}"
    made = schedule_service_pb2.CreateReportScheduleRequest(
        parent=PARENT,
        report_schedule_id=f"often-{number}",
        report_schedule=schedule_service_pb2.ReportSchedule(
            run=_run(), interval=Duration(seconds=int(EVERY.total_seconds()))
        ),
        request_id=f"often-{number}",
    )
    world.write(NEW_UNITS)
    world.kill_during(lambda: world.call(stub, "CreateReportSchedule", made), 7.0)
    get = schedule_service_pb2.GetReportScheduleRequest(name=name)
    end = time.monotonic() + END_S
    while time.monotonic() < end:
        found = world.call(stub, "GetReportSchedule", get).report_schedule
        if found.HasField("last_run"):
            break
        time.sleep(0.2)
    else:
        world.history.complain("ends", f"{name} has no run that ended")
        return
    if found.last_run.HasField("error"):
        world.history.complain("ends", f"{found.last_run.error.message}")
    stub_of_reports = report_service_pb2_grpc.ReportServiceStub
    listed = world.call(
        stub_of_reports, "ListReports", report_service_pb2.ListReportsRequest(parent=PARENT)
    )
    mine = [one.name for one in listed.reports if f"/often-{number}-" in one.name]
    if mine != [found.last_run.report]:
        world.history.complain("doubled", f"{name} made {len(mine)} reports")


def _crashes(play: Play) -> Verdict:
    play.folder.mkdir(parents=True, exist_ok=True)
    module = play.module.replace(SERVICE, "services.attribution")
    process = EventsProcess(play.folder / "data", module, service="attribution")
    world = Reports(play, process, make_key(process.data, "acme"))
    world.write(UNITS)
    process.start()
    try:
        for number in range(play.rounds):
            for attack in (_reports, _credits, _files, _schedules):
                attack(world, number)
        _complain_of_halves(process.data, world.history)
    finally:
        process.kill()
    broken, examples = dict(world.history.complaints), tuple(world.history.examples)
    return Verdict(world.acknowledged, faults=4 * play.rounds, broken=broken, examples=examples)


def _complain_of_halves(data: Path, history: History) -> None:
    """Whatever has the name of a whole file is one."""
    for path in [
        *data.glob("attribution-scores/*.parquet"),
        *data.glob("attribution-kept/*.arrow"),
    ]:
        try:
            if path.suffix == ".parquet":
                pq.ParquetFile(path, page_checksum_verification=True).read()
                continue
            with pa.memory_map(str(path)) as source:
                while source.tell() < source.size():
                    pa.ipc.open_stream(source).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            history.complain("half", f"{path.name}: {error}")


CRASHES = Fault(
    73,
    "kill -9 while attribution computes reports, keeps events and sends credits",
    _crashes,
    twins={"rewinds_scores": 1, "forgets_reports": 1},
    short=1,
    rounds=15,
    long_twins=("rewinds_scores", "forgets_reports"),
)
