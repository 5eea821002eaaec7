"""How much a project may keep in the attribution service: more is refused, and nothing kept."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call
from touchstone.attribution.v1 import (
    attribution_pb2,
    calibration_pb2,
    calibration_service_pb2,
    calibration_service_pb2_grpc,
    grouping_service_pb2,
    grouping_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
    schedule_service_pb2,
    schedule_service_pb2_grpc,
    spend_service_pb2,
    spend_service_pb2_grpc,
)

from services.attribution.api.reports import ReportServicer
from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.errors import Code, DomainError
from shared.security.caller import Role
from shared.server.run import start_server
from shared.testing.fakes import calling
from shared.testing.ports import free_port
from tests.contract.attribution_world import key_of, write_events

PARENT = "projects/demo"
BUY = attribution_pb2.JourneyDefinition(event_name="buy")
RUN = report_service_pb2.RunAttributionRequest(parent=PARENT, journeys=BUY, min_units=1)


@dataclass
class World:
    """A server with small limits, and a key."""

    channel: grpc.aio.Channel
    key: str

    async def call(self, stub: Any, method: str, request: Any) -> Any:
        metadata = (("authorization", f"Bearer {self.key}"),)
        return await getattr(stub(self.channel), method)(request, metadata=metadata)

    async def refused(self, stub: Any, method: str, request: Any) -> tuple[str, str, bool]:
        """The reason, the message, and whether a delay is told."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.call(stub, method, request)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error.value
        info, delay = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        status = from_call(error.value)
        details = [detail for detail in status.details if detail.Unpack(info)]
        assert details
        told = any(detail.Unpack(delay) for detail in status.details)
        return info.reason, status.message, told


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    write_events(tmp_path / "lake")
    settings = Settings(
        data=tmp_path,
        attribution_address=f"127.0.0.1:{free_port()}",
        attribution_max_unfinished_reports=2,
        attribution_max_reports=3,
        attribution_max_schedules=1,
        attribution_max_channel_groupings=1,
        attribution_max_grouping_versions=2,
        attribution_max_calibration_links=1,
        attribution_max_spend_rows=2,
    )
    application = compose(settings)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        yield World(channel, key_of(application, "demo", Role.EXPERIMENTER, Role.VIEWER))
    await running.drain()


def grouping(name: str) -> grouping_service_pb2.CreateChannelGroupingRequest:
    return grouping_service_pb2.CreateChannelGroupingRequest(
        parent=PARENT,
        channel_grouping_id=name,
        channel_grouping=attribution_pb2.ChannelGrouping(otherwise="All"),
    )


async def test_groupings_and_their_versions(world: World) -> None:
    stub = grouping_service_pb2_grpc.ChannelGroupingServiceStub
    await world.call(stub, "CreateChannelGrouping", grouping("one"))
    reason, message, _ = await world.refused(stub, "CreateChannelGrouping", grouping("two"))
    assert reason == "LIMIT_EXCEEDED"
    assert message == "the number of channel groupings of the project is 2; at most 1"
    # One that is there is told to be there, however many there are.
    with pytest.raises(grpc.aio.AioRpcError) as taken:
        await world.call(stub, "CreateChannelGrouping", grouping("one"))
    assert taken.value.code() is grpc.StatusCode.ALREADY_EXISTS

    name = f"{PARENT}/channelGroupings/one"
    change = grouping_service_pb2.UpdateChannelGroupingRequest(
        channel_grouping=attribution_pb2.ChannelGrouping(name=name, otherwise="Rest"),
        update_mask=FieldMask(paths=["otherwise"]),
    )
    changed = await world.call(stub, "UpdateChannelGrouping", change)
    assert changed.channel_grouping.version == 2
    reason, message, _ = await world.refused(stub, "UpdateChannelGrouping", change)
    assert "versions of projects/demo/channelGroupings/one is 3; at most 2" in message
    gone = grouping_service_pb2.DeleteChannelGroupingRequest(name=name)
    await world.call(stub, "DeleteChannelGrouping", gone)
    # Made anew it begins to count again.
    await world.call(stub, "CreateChannelGrouping", grouping("one"))
    await world.call(stub, "UpdateChannelGrouping", change)
    await world.refused(stub, "UpdateChannelGrouping", change)


async def test_schedules(world: World) -> None:
    stub = schedule_service_pb2_grpc.ReportScheduleServiceStub

    def create(name: str) -> schedule_service_pb2.CreateReportScheduleRequest:
        return schedule_service_pb2.CreateReportScheduleRequest(
            parent=PARENT,
            report_schedule_id=name,
            report_schedule=schedule_service_pb2.ReportSchedule(
                run=RUN, daily=schedule_service_pb2.TimeOfDay(hour=6), paused=True
            ),
        )

    await world.call(stub, "CreateReportSchedule", create("one"))
    _, message, _ = await world.refused(stub, "CreateReportSchedule", create("two"))
    assert message == "the number of report schedules of the project is 2; at most 1"
    gone = schedule_service_pb2.DeleteReportScheduleRequest(name=f"{PARENT}/reportSchedules/one")
    await world.call(stub, "DeleteReportSchedule", gone)
    await world.call(stub, "CreateReportSchedule", create("two"))


async def test_links(world: World) -> None:
    stub = calibration_service_pb2_grpc.CalibrationServiceStub

    def create(name: str) -> calibration_service_pb2.CreateCalibrationLinkRequest:
        request = calibration_service_pb2.CreateCalibrationLinkRequest(
            parent=PARENT, calibration_link_id=name
        )
        link = request.calibration_link
        link.channel, link.metric = "ads", f"{PARENT}/metrics/orders"
        link.treatment = calibration_pb2.CHANNEL_SWITCH_ON
        compared = link.experiment_comparison
        compared.experiment = f"{PARENT}/experiments/holdout"
        compared.treatment_variant, compared.control_variant = "on", "off"
        return request

    await world.call(stub, "CreateCalibrationLink", create("one"))
    _, message, _ = await world.refused(stub, "CreateCalibrationLink", create("two"))
    assert message == "the number of calibration links of the project is 2; at most 1"


async def test_spend(world: World) -> None:
    stub = spend_service_pb2_grpc.SpendServiceStub

    def spend(*days: int, amount: float = 1.0) -> spend_service_pb2.ImportSpendRequest:
        rows = [
            spend_service_pb2.Spend(
                source="file",
                channel="ads",
                day=f"2026-01-{day:02d}",
                amount=amount,
                currency="EUR",
            )
            for day in days
        ]
        return spend_service_pb2.ImportSpendRequest(parent=PARENT, rows=rows)

    await world.call(stub, "ImportSpend", spend(1, 2))
    _, message, _ = await world.refused(stub, "ImportSpend", spend(2, 3, 4))
    assert message == "the number of rows of spend of the project is 4; at most 2"
    # What only takes the place of others needs no room.
    done = await world.call(stub, "ImportSpend", spend(1, 2, amount=2.0))
    assert (done.added, done.replaced) == (0, 2)


async def test_reports(world: World) -> None:
    stub, operations = report_service_pb2_grpc.ReportServiceStub, operations_pb2_grpc.OperationsStub
    for _ in range(3):
        begun = await world.call(stub, "RunAttribution", RUN)
        wait = operations_pb2.WaitOperationRequest(name=begun.operation.name)
        wait.timeout.FromSeconds(20)
        ends = [await world.call(operations, "WaitOperation", wait) for _ in range(3)]
        assert ends[-1].done
    reason, message, delayed = await world.refused(stub, "RunAttribution", RUN)
    assert (reason, delayed) == ("LIMIT_EXCEEDED", False)
    assert message == "the number of reports of the project is 4; at most 3"


async def test_reports_that_wait(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, attribution_max_unfinished_reports=2)
    application = compose(settings)
    # Nothing works on operations before the service starts: what is begun waits.
    (servicer,) = (
        one.implementation
        for one in application.servicers
        if isinstance(one.implementation, ReportServicer)
    )
    with calling("/touchstone.attribution.v1.ReportService/RunAttribution"):
        begun = [await servicer.RunAttribution(RUN, None) for _ in range(2)]
        with pytest.raises(DomainError) as full:
            await servicer.RunAttribution(RUN, None)
    assert full.value.code is Code.RESOURCE_EXHAUSTED
    assert full.value.retry_after_s
    # Another project waits for nobody.
    other = report_service_pb2.RunAttributionRequest(parent="projects/other", journeys=BUY)
    with calling("/touchstone.attribution.v1.ReportService/RunAttribution", "other"):
        assert await servicer.RunAttribution(other, None)
    assert len({answer.operation.name for answer in begun}) == 2
    application.platform.database.close()
