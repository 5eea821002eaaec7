"""The composed service behind the real server kit, in this process."""

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from services.events.composition import compose
from services.events.settings import Settings
from shared.clock import SystemClock
from shared.errors import DomainError
from shared.ids import RandomIds
from shared.lake.snapshot import LakeEventTables
from shared.security.bootstrap import make_owner_key
from shared.server.run import RunningServer, start_server
from shared.server.status import from_rpc_error
from shared.testing.ports import free_port


@dataclass
class Service:
    settings: Settings
    running: RunningServer
    stub: "events_service_pb2_grpc.EventsServiceAsyncStub"
    keys: dict[str, str]

    async def log(
        self, *events: event_pb2.Event, project: str = "acme"
    ) -> events_service_pb2.LogEventsResponse:
        return await self.stub.LogEvents(
            events_service_pb2.LogEventsRequest(events=events), metadata=self.metadata(project)
        )

    def metadata(self, project: str = "acme") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[project]}"),)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    settings = Settings(data=tmp_path, events_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    platform = application.platform
    keys = {
        project: make_owner_key(
            platform.database, platform.audit_keys, SystemClock(), RandomIds(), project
        ).text
        for project in ("acme", "rival")
    }
    async with grpc.aio.insecure_channel(settings.events_address) as channel:
        stub = events_service_pb2_grpc.EventsServiceStub(channel)
        yield Service(settings, running, stub, keys)
    await running.drain()


def conversion(event_id: str, value: float = 1.0, ahead_s: float = 0.0) -> event_pb2.Event:
    event = event_pb2.Event(event_id=event_id, unit=unit_pb2.UnitId(type="user", id="u1"))
    event.event_time.FromDatetime(
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=ahead_s)
    )
    event.conversion.event_name = "buy"
    event.conversion.value = value
    return event


async def readable(service: Service, token: str, project: str = "acme") -> list[str]:
    tables = LakeEventTables(service.settings.lake_path)
    await tables.wait_until(token, 10)
    with tables.snapshot(project).read() as now:
        return sorted(now["conversions"].event_id.to_pyarrow().to_pylist())


async def test_an_acknowledged_event_becomes_readable(service: Service) -> None:
    reply = await service.log(conversion("a"), conversion("b"))
    assert (reply.accepted, reply.duplicates, list(reply.rejected)) == (2, 0, [])
    assert await readable(service, reply.consistency_token) == ["a", "b"]


async def test_each_item_has_a_status_of_its_own(service: Service) -> None:
    nameless = conversion("n")
    nameless.conversion.event_name = ""
    empty_id = conversion("")
    future = conversion("f", ahead_s=3600 * 24 * 365 * 100)
    infinite = conversion("i", value=float("inf"))
    await service.log(conversion("old"))
    reply = await service.log(
        conversion("a"),
        nameless,
        conversion("old"),
        conversion("old", value=2.0),
        future,
        infinite,
        empty_id,
        conversion("b"),
    )
    reasons = events_service_pb2.RejectionReason
    assert (reply.accepted, reply.duplicates, list(reply.duplicate_items)) == (2, 1, [2])
    assert [(r.item, r.reason, r.field) for r in reply.rejected] == [
        (1, reasons.REJECTION_REASON_INVALID_FIELD, "conversion.event_name"),
        (3, reasons.REJECTION_REASON_CONFLICTING_DUPLICATE, "event_id"),
        (4, reasons.REJECTION_REASON_EVENT_TIME_OUT_OF_RANGE, "event_time"),
        (5, reasons.REJECTION_REASON_INVALID_FIELD, "conversion.value"),
        (6, reasons.REJECTION_REASON_INVALID_FIELD, "event_id"),
    ]
    assert all(r.message for r in reply.rejected)


async def test_two_tenants_may_use_one_id(service: Service) -> None:
    mine = await service.log(conversion("a"))
    theirs = await service.log(conversion("a", value=9.0), project="rival")
    assert (mine.accepted, theirs.accepted) == (1, 1)
    token = theirs.consistency_token
    for project in ("acme", "rival"):
        assert await readable(service, token, project) == ["a"]


async def test_the_watermark_reaches_the_token(service: Service) -> None:
    reply = await service.log(conversion("a"))
    await readable(service, reply.consistency_token)
    mark = await service.stub.GetWatermark(
        events_service_pb2.GetWatermarkRequest(), metadata=service.metadata()
    )
    assert mark.consistency_token == reply.consistency_token
    assert mark.pending_batches == 0
    assert mark.commit_time.seconds > 0


@pytest.mark.parametrize("count", [0, 5001])
async def test_a_batch_has_between_1_and_5000_events(service: Service, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.log(*[conversion(str(i)) for i in range(count)])
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(raised.value).violations[0].field == "events"


async def test_a_batch_without_a_good_event_is_answered(service: Service) -> None:
    reply = await service.log(event_pb2.Event())
    assert (reply.accepted, len(reply.rejected)) == (0, 1)


async def test_a_second_service_on_the_same_folder_is_refused(service: Service) -> None:
    with pytest.raises(DomainError, match="another process uses it"):
        compose(service.settings)


async def test_a_restart_remembers_every_id(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, events_address=f"127.0.0.1:{free_port()}")
    key = ""
    replies = []
    for _ in range(2):
        application = compose(settings)
        platform = application.platform
        key = (
            key
            or make_owner_key(
                platform.database, platform.audit_keys, SystemClock(), RandomIds(), "acme"
            ).text
        )
        running = await start_server(application)
        async with grpc.aio.insecure_channel(settings.events_address) as channel:
            stub = events_service_pb2_grpc.EventsServiceStub(channel)
            replies.append(
                await stub.LogEvents(
                    events_service_pb2.LogEventsRequest(events=[conversion("a")]),
                    metadata=(("authorization", f"Bearer {key}"),),
                )
            )
        await running.drain()
    assert [(r.accepted, r.duplicates) for r in replies] == [(1, 0), (0, 1)]
