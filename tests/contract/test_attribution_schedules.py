"""Schedules of reports: real stores, real operations, and a clock that the test moves."""

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import code_pb2
from touchstone.attribution.v1 import (
    attribution_pb2,
    grouping_service_pb2,
    report_pb2,
    report_service_pb2,
    schedule_service_pb2_grpc,
)
from touchstone.attribution.v1 import schedule_service_pb2 as pb

from services.attribution.adapters.lake import LakeJourneyLog
from services.attribution.adapters.refresh_keeper import Kept, RefreshKeeper
from services.attribution.adapters.reports_sql import SqlReports, migrate_attribution
from services.attribution.api.channel_groupings import KeptGroupings
from services.attribution.api.reports import ReportRun
from services.attribution.composition import compose
from services.attribution.limits import AttributionLimits
from services.attribution.schedule_composition import kept_groupings, scheduling
from services.attribution.settings import Settings
from shared.errors import Code, DomainError
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource, migrate_identity
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.mutations import Mutations
from shared.operations.runner import OperationRunner
from shared.operations.store import migrate_operations
from shared.security.audit import SCHEDULE, SqlAuditLog
from shared.security.caller import Role
from shared.server.platform import open_platform
from shared.server.run import Platform, start_server
from shared.testing.fakes import FixedClock, calling
from shared.testing.ports import free_port
from tests.contract.attribution_world import NOW, key_of, timestamp, write_events

PARENT = "projects/demo"
NAME = f"{PARENT}/reportSchedules/daily"
HOUR = dt.timedelta(hours=1)
BUY = attribution_pb2.JourneyDefinition(event_name="buy")


@dataclass
class Process:
    """What one process of the service has: a keeper, a runner and the services."""

    platform: Platform
    clock: FixedClock
    runner: OperationRunner
    keeper: RefreshKeeper
    schedules: Any
    groupings: Any
    reports: SqlReports

    async def create(self, **fields: Any) -> pb.ReportSchedule:
        return await self.create_as("daily", **fields)

    async def create_as(self, schedule_id: str, **fields: Any) -> pb.ReportSchedule:
        run = report_service_pb2.RunAttributionRequest(parent=PARENT, journeys=BUY, min_units=1)
        asked: dict[str, Any] = {"run": run, "interval": Duration(seconds=3600)} | fields
        request = pb.CreateReportScheduleRequest(
            parent=PARENT,
            report_schedule_id=schedule_id,
            report_schedule=pb.ReportSchedule(**asked),
        )
        with calling("/touchstone.attribution.v1.ReportScheduleService/CreateReportSchedule"):
            reply = await self.schedules.CreateReportSchedule(request, None)
        found: pb.ReportSchedule = reply.report_schedule
        return found

    async def update(self, *paths: str, **fields: Any) -> pb.ReportSchedule:
        request = pb.UpdateReportScheduleRequest(
            report_schedule=pb.ReportSchedule(**{"name": NAME} | fields),
            update_mask=FieldMask(paths=paths),
        )
        with calling("/touchstone.attribution.v1.ReportScheduleService/UpdateReportSchedule"):
            reply = await self.schedules.UpdateReportSchedule(request, None)
        found: pb.ReportSchedule = reply.report_schedule
        return found

    async def get(self, name: str = NAME) -> pb.ReportSchedule:
        with calling("/touchstone.attribution.v1.ReportScheduleService/GetReportSchedule"):
            reply = await self.schedules.GetReportSchedule(
                pb.GetReportScheduleRequest(name=name), None
            )
        found: pb.ReportSchedule = reply.report_schedule
        return found

    async def ended(self) -> pb.ReportSchedule:
        """The schedule after its run ended."""
        until = time.monotonic() + 30
        while (await self.get()).HasField("running"):
            assert time.monotonic() < until, await self.get()
            self.keeper.keep_once()
            await asyncio.sleep(0.02)
        return await self.get()

    def kept(self) -> list[report_pb2.AttributionReport]:
        with self.reports.read() as store:
            found = store.page("demo", None, 100)
        return [report_pb2.AttributionReport.FromString(each.document) for each in found]


def process_over(folder: Path, clock: FixedClock) -> Process:
    """A process of the service; its operations are not run before its runner is started."""
    platform = open_platform(Settings(data=folder))
    for migrate in (migrate_identity, migrate_operations, migrate_attribution):
        migrate(platform.database)
    log = LakeJourneyLog(
        LakeEventTables(folder / "lake", EngineLimits(threads=1, memory_limit_mb=512)),
        IdentityReader(SqlPolicySource(platform.database)),
    )
    reports = SqlReports(platform.database)
    mutations = Mutations(platform.database, platform.audit_keys, clock)
    run = ReportRun(log, AttributionLimits(), reports, clock)
    runner = OperationRunner(platform.database, clock, platform.ids, [run.kind()])
    groupings: KeptGroupings = kept_groupings(platform.database)
    made = scheduling(replace(platform, clock=clock), mutations, groupings, reports, runner)
    grouping, schedule = (servicer.implementation for servicer in made.servicers)
    return Process(platform, clock, runner, made.keeper, schedule, grouping, reports)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def process(tmp_path: Path, clock: FixedClock) -> Iterator[Process]:
    write_events(tmp_path / "lake")
    made = process_over(tmp_path, clock)
    made.runner.start()
    yield made
    made.runner.close()
    made.platform.database.close()


async def test_a_run_is_begun_when_it_is_due_and_its_end_is_noticed(process: Process) -> None:
    made = await process.create()
    assert made.next_run_time.ToDatetime(dt.UTC) == NOW
    assert process.keeper.keep_once() == 1
    running = await process.get()
    assert running.running.due_time.ToDatetime(dt.UTC) == NOW
    assert running.next_run_time.ToDatetime(dt.UTC) == NOW + HOUR

    done = await process.ended()
    (report,) = process.kept()
    assert (done.last_run.report, done.failures) == (report.name, 0)
    assert not done.last_run.HasField("error")
    assert report.summary.converting_journeys == 1
    assert done.etag == made.etag
    # Nothing is due before the next hour.
    process.clock.advance(HOUR - dt.timedelta(seconds=1))
    assert process.keeper.keep_once() == 0
    process.clock.advance(dt.timedelta(seconds=1))
    assert process.keeper.keep_once() == 1


async def test_of_several_processes_one_begins_the_run(
    process: Process, tmp_path: Path, clock: FixedClock
) -> None:
    others = [process_over(tmp_path, clock) for _ in range(3)]
    await process.create()
    everybody = [process, *others]
    together = threading.Barrier(len(everybody))

    def look(one: Process) -> int:
        together.wait(10)
        return one.keeper.keep_once()

    with ThreadPoolExecutor(len(everybody)) as threads:
        assert sum(threads.map(look, everybody)) == 1
    await process.ended()
    assert len(process.kept()) == 1
    for other in others:
        other.platform.database.close()


async def test_missed_runs_are_made_up_for_once_after_a_restart(
    process: Process, tmp_path: Path, clock: FixedClock
) -> None:
    await process.create()
    process.keeper.keep_once()
    await process.ended()
    clock.advance(dt.timedelta(days=2, minutes=5))
    later = process_over(tmp_path, clock)
    assert later.keeper.keep_once() == 1
    done = await process.ended()
    assert later.keeper.keep_once() == 0
    assert len(process.kept()) == 2
    assert done.last_run.due_time.ToDatetime(dt.UTC) == NOW + HOUR
    assert done.next_run_time.ToDatetime(dt.UTC) == NOW + dt.timedelta(days=2, hours=1)
    later.platform.database.close()


async def test_a_run_that_a_stopped_process_began_goes_on_in_another(
    tmp_path: Path, clock: FixedClock
) -> None:
    write_events(tmp_path / "lake")
    stopped = process_over(tmp_path, clock)
    await stopped.create()
    assert stopped.keeper.keep_once() == 1
    stopped.platform.database.close()

    other = process_over(tmp_path, clock)
    # Until it has ended no other run begins, however much is due.
    clock.advance(5 * HOUR)
    assert other.keeper.keep_once() == 0
    other.runner.start()
    await other.ended()
    assert len(other.kept()) == 1
    assert other.keeper.keep_once() == 1
    other.runner.close()
    other.platform.database.close()


async def test_only_the_newest_reports_of_a_schedule_are_kept(process: Process) -> None:
    await process.create(keep=2)
    names = []
    for _ in range(4):
        process.keeper.keep_once()
        names.append((await process.ended()).last_run.report)
        process.clock.advance(HOUR)
    assert [report.name for report in process.kept()] == names[:1:-1]
    with process.platform.database.read() as connection:
        entries = SqlAuditLog(connection, process.platform.audit_keys).entries("demo")
    acted = [e.event.method.rpartition("/")[2] for e in entries if e.event.actor == SCHEDULE]
    assert sorted(acted) == ["DeleteReport"] * 2 + ["RunAttribution"] * 4


async def test_a_failure_is_seen_on_the_schedule_and_counted(process: Process) -> None:
    grouping = attribution_pb2.ChannelGrouping(otherwise="All")
    name = f"{PARENT}/channelGroupings/main"
    with calling("/touchstone.attribution.v1.ChannelGroupingService/CreateChannelGrouping"):
        await process.groupings.CreateChannelGrouping(
            grouping_service_pb2.CreateChannelGroupingRequest(
                parent=PARENT, channel_grouping_id="main", channel_grouping=grouping
            ),
            None,
        )
    run = report_service_pb2.RunAttributionRequest(parent=PARENT, journeys=BUY, min_units=1)
    run.journeys.channel_grouping.name = name
    await process.create(run=run)
    process.keeper.keep_once()
    await process.ended()
    (report,) = process.kept()
    assert report.provenance.journeys.channel_grouping.version == 1
    with calling("/touchstone.attribution.v1.ChannelGroupingService/DeleteChannelGrouping"):
        await process.groupings.DeleteChannelGrouping(
            grouping_service_pb2.DeleteChannelGroupingRequest(name=name), None
        )

    for failures in (1, 2):
        process.clock.advance(HOUR)
        assert process.keeper.keep_once() == 1
        found = await process.get()
        assert (found.failures, found.last_run.error.code) == (failures, code_pb2.NOT_FOUND)
        assert "channelGroupings/main" in found.last_run.error.message
    # It is run again as soon as it can be.
    plain = report_service_pb2.RunAttributionRequest(parent=PARENT, journeys=BUY, min_units=1)
    await process.update("run", run=plain)
    process.clock.advance(HOUR)
    process.keeper.keep_once()
    assert (await process.ended()).failures == 0


async def test_a_run_that_cannot_begin_for_no_known_reason_is_seen_too(process: Process) -> None:
    def broken(*_: Any) -> operations_pb2.Operation:
        raise RuntimeError("no reason")

    await process.create()
    kept = Kept(process.schedules.schedules, process.groupings.groupings, process.reports)
    mutations = process.schedules.mutations
    times = (process.clock, process.platform.ids)
    keeper = RefreshKeeper(process.platform.database, kept, mutations, broken, times)
    assert keeper.keep_once() == 1
    found = await process.get()
    assert (found.failures, found.last_run.error.code) == (1, code_pb2.INTERNAL)
    assert "no reason" not in found.last_run.error.message
    assert found.next_run_time.ToDatetime(dt.UTC) == NOW + HOUR
    assert not process.kept()


async def test_a_pause_is_not_made_up_for(process: Process) -> None:
    made = await process.create()
    paused = await process.update("paused", paused=True)
    assert not paused.HasField("next_run_time")
    process.clock.advance(10 * HOUR)
    assert process.keeper.keep_once() == 0
    again = await process.update("paused", paused=False)
    assert again.next_run_time.ToDatetime(dt.UTC) == NOW + 11 * HOUR
    assert process.keeper.keep_once() == 0
    assert made.etag != paused.etag != again.etag


async def test_a_period_ends_when_the_run_is_due(process: Process) -> None:
    await process.create(period=Duration(seconds=30 * 86_400))
    process.keeper.keep_once()
    await process.ended()
    definition = process.kept()[0].provenance.journeys
    assert definition.end_time.ToDatetime(dt.UTC) == NOW
    assert definition.start_time.ToDatetime(dt.UTC) == NOW - dt.timedelta(days=30)


async def test_what_could_never_run_is_refused(process: Process) -> None:
    def run(**fields: Any) -> report_service_pb2.RunAttributionRequest:
        asked: dict[str, Any] = {"parent": PARENT, "journeys": BUY} | fields
        return report_service_pb2.RunAttributionRequest(**asked)

    began = attribution_pb2.JourneyDefinition(event_name="buy", start_time=timestamp(1))
    unknown = attribution_pb2.JourneyDefinition(event_name="buy")
    unknown.channel_grouping.name = f"{PARENT}/channelGroupings/none"
    day = Duration(seconds=86_400)
    for code, fields in (
        (Code.INVALID_ARGUMENT, {"run": run(report_id="mine")}),
        (Code.INVALID_ARGUMENT, {"run": run(journeys=began), "period": day}),
        (Code.NOT_FOUND, {"run": run(journeys=unknown)}),
        (Code.NOT_FOUND, {"run": run(parent="projects/other")}),
    ):
        with pytest.raises(DomainError) as refused:
            await process.create(**fields)
        assert refused.value.code is code
    await process.create()
    with pytest.raises(DomainError) as taken:
        await process.create()
    assert taken.value.code is Code.ALREADY_EXISTS
    with pytest.raises(DomainError) as stale:
        await process.update("keep", keep=3, etag="old")
    assert stale.value.code is Code.ABORTED


async def test_schedules_over_their_contract(tmp_path: Path) -> None:
    write_events(tmp_path / "lake")
    settings = Settings(data=tmp_path, attribution_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    keys = {
        "demo": key_of(application, "demo", Role.VIEWER, Role.EXPERIMENTER),
        "viewer": key_of(application, "demo", Role.VIEWER),
        "other": key_of(application, "other", Role.VIEWER, Role.EXPERIMENTER),
    }
    metadata = {who: (("authorization", f"Bearer {key}"),) for who, key in keys.items()}
    run = report_service_pb2.RunAttributionRequest(parent=PARENT, journeys=BUY)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        stub: Any = schedule_service_pb2_grpc.ReportScheduleServiceStub(channel)
        for schedule_id in ("b", "a", "c"):
            request = pb.CreateReportScheduleRequest(
                parent=PARENT,
                report_schedule_id=schedule_id,
                report_schedule=pb.ReportSchedule(
                    run=run, daily=pb.TimeOfDay(hour=6), display_name=schedule_id, paused=True
                ),
            )
            with pytest.raises(grpc.aio.AioRpcError) as denied:
                await stub.CreateReportSchedule(request, metadata=metadata["viewer"])
            assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
            await stub.CreateReportSchedule(request, metadata=metadata["demo"])
        ask = pb.ListReportSchedulesRequest(parent=PARENT, page_size=2)
        page = await stub.ListReportSchedules(ask, metadata=metadata["viewer"])
        ask.page_token = page.next_page_token
        rest = await stub.ListReportSchedules(ask, metadata=metadata["viewer"])
        both = [*page.report_schedules, *rest.report_schedules]
        assert [one.name[-1] for one in both] == ["a", "b", "c"]
        get = pb.GetReportScheduleRequest(name=both[0].name)
        with pytest.raises(grpc.aio.AioRpcError) as hidden:
            await stub.GetReportSchedule(get, metadata=metadata["other"])
        assert hidden.value.code() is grpc.StatusCode.NOT_FOUND
        gone = pb.DeleteReportScheduleRequest(name=both[0].name, etag=both[0].etag)
        await stub.DeleteReportSchedule(gone, metadata=metadata["demo"])
        with pytest.raises(grpc.aio.AioRpcError) as deleted:
            await stub.GetReportSchedule(get, metadata=metadata["demo"])
        assert deleted.value.code() is grpc.StatusCode.NOT_FOUND
    await running.drain()
