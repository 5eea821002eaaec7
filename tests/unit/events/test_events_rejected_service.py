"""RejectedEventsService behind the real server kit, in this process: real files, real log."""

import datetime as dt
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import (
    event_pb2,
    events_service_pb2,
    events_service_pb2_grpc,
    rejected_events_service_pb2_grpc,
)
from touchstone.events.v1 import rejected_events_service_pb2 as pb

from services.events.composition import compose
from services.events.settings import Settings
from shared.clock import SystemClock
from shared.errors import Code, DomainError
from shared.lake.snapshot import LakeEventTables
from shared.security.audit import SqlAuditLog
from shared.security.caller import Role
from shared.server.run import RunningServer, start_server
from shared.server.status import from_rpc_error
from shared.testing.ports import free_port
from shared.testing.serving import Metadata, add_key, bearer

ACCEPTED, DUPLICATE, REJECTED = (
    pb.REPLAY_OUTCOME_ACCEPTED,
    pb.REPLAY_OUTCOME_DUPLICATE,
    pb.REPLAY_OUTCOME_REJECTED,
)
NOW = dt.datetime.now(dt.UTC)


@dataclass
class Service:
    settings: Settings
    running: RunningServer
    log: "events_service_pb2_grpc.EventsServiceAsyncStub"
    rejected: "rejected_events_service_pb2_grpc.RejectedEventsServiceAsyncStub"
    owner: Metadata

    async def send(self, *events: event_pb2.Event) -> events_service_pb2.LogEventsResponse:
        return await self.log.LogEvents(
            events_service_pb2.LogEventsRequest(events=events), metadata=self.owner
        )

    async def listed(
        self, page_size: int = 0, page_token: str = "", **wanted: Any
    ) -> pb.ListRejectedEventsResponse:
        request = pb.ListRejectedEventsRequest(
            parent="projects/acme",
            page_size=page_size,
            page_token=page_token,
            filter=pb.RejectedEventsFilter(**wanted),
        )
        return await self.rejected.ListRejectedEvents(request, metadata=self.owner)

    async def ids(self, **wanted: Any) -> list[str]:
        return [one.event_id for one in (await self.listed(**wanted)).rejected_events]

    async def name(self, event_id: str) -> str:
        (one,) = (await self.listed(event_id=event_id)).rejected_events
        return one.name

    async def replay(
        self,
        *items: tuple[str, event_pb2.Event | None],
        request_id: str = "",
        validate_only: bool = False,
    ) -> pb.ReplayRejectedEventsResponse:
        named = pb.RejectedEventReplays(
            items=[
                pb.RejectedEventReplay(name=name, corrected_event=corrected)
                for name, corrected in items
            ]
        )
        request = pb.ReplayRejectedEventsRequest(
            parent="projects/acme",
            named=named,
            request_id=request_id,
            validate_only=validate_only,
        )
        return await self.rejected.ReplayRejectedEvents(request, metadata=self.owner)

    async def stored(self, token: str) -> list[tuple[str, float]]:
        tables = LakeEventTables(self.settings.lake_path)
        await tables.wait_until(token, 10)
        with tables.snapshot("acme").read() as now:
            rows = now["conversions"].select("event_id", "value").to_pyarrow().to_pylist()
        return sorted((row["event_id"], row["value"]) for row in rows)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    settings = Settings(
        data=tmp_path, events_address=f"127.0.0.1:{free_port()}", flush_interval_s=0.1
    )
    application = compose(settings)
    owner = bearer(add_key(application.platform, "acme", *Role).text)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.events_address) as channel:
        log = events_service_pb2_grpc.EventsServiceStub(channel)
        rejected = rejected_events_service_pb2_grpc.RejectedEventsServiceStub(channel)
        yield Service(settings, running, log, rejected, owner)
    await running.drain()


def conversion(
    event_id: str, value: float = 1.0, name: str = "buy", ahead_h: float = -1.0
) -> event_pb2.Event:
    event = event_pb2.Event(
        event_id=event_id, unit=unit_pb2.UnitId(type="user", id="u1"), source="shop"
    )
    event.event_time.FromDatetime(NOW + dt.timedelta(hours=ahead_h))
    event.conversion.event_name = name
    event.conversion.value = value
    return event


def outcomes(reply: pb.ReplayRejectedEventsResponse) -> list[int]:
    return [result.outcome for result in reply.results]


async def failure(call: Awaitable[object]) -> DomainError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return from_rpc_error(raised.value)


async def test_a_rejected_event_is_kept_with_reason_source_door_time_and_payload(
    service: Service,
) -> None:
    bad = conversion("bad", name="NO")
    await service.send(bad, conversion("good"))
    (listed,) = (await service.listed()).rejected_events
    got = await service.rejected.GetRejectedEvent(
        pb.GetRejectedEventRequest(name=listed.name), metadata=service.owner
    )
    one = got.rejected_event
    assert (one.event_id, one.source, one.door) == ("bad", "shop", "EventsService/LogEvents")
    assert one.reason == events_service_pb2.REJECTION_REASON_INVALID_FIELD
    assert one.field == "conversion.event_name"
    assert "NO" in one.message
    assert abs(one.receive_time.ToDatetime(dt.UTC) - SystemClock().now()) < dt.timedelta(minutes=5)
    assert one.event == bad
    assert event_pb2.Event.FromString(one.payload) == bad
    assert (listed.payload_bytes, listed.payload) == (len(one.payload), b"")
    assert not listed.HasField("event")


async def test_the_list_is_paged_newest_first_and_filtered(service: Service) -> None:
    await service.send(*[conversion(str(n), name="NO") for n in range(5)])
    await service.send(conversion("late", ahead_h=30), conversion("ok"))
    reasons = [events_service_pb2.REJECTION_REASON_EVENT_TIME_OUT_OF_RANGE]
    assert await service.ids(reasons=reasons) == ["late"]
    assert await service.ids(event_id="3") == ["3"]
    assert await service.ids(source="other") == []
    assert await service.ids(source="shop") == ["late", "4", "3", "2", "1", "0"]
    future = Timestamp()
    future.FromDatetime(NOW + dt.timedelta(hours=1))
    assert await service.ids(start_time=future) == []
    assert len(await service.ids(end_time=future)) == 6
    first = await service.listed(page_size=4)
    second = await service.listed(page_size=4, page_token=first.next_page_token)
    assert [one.event_id for one in second.rejected_events] == ["1", "0"]
    assert second.next_page_token == ""
    error = await failure(service.listed(page_token=first.next_page_token, source="shop"))
    assert error.reason == "INVALID_PAGE_TOKEN"


async def test_a_conflict_is_stored_under_another_id(service: Service) -> None:
    await service.send(conversion("a", 1.0))
    await service.send(conversion("a", 2.0))
    name = await service.name("a")
    again = await service.replay((name, None))
    assert outcomes(again) == [REJECTED]
    assert again.results[0].reason == events_service_pb2.REJECTION_REASON_CONFLICTING_DUPLICATE
    assert await service.ids() == ["a"]
    reply = await service.replay((name, conversion("a-2", 2.0)))
    assert outcomes(reply) == [ACCEPTED]
    assert await service.ids() == []
    assert await service.stored(reply.consistency_token) == [("a", 1.0), ("a-2", 2.0)]


async def test_a_mended_field_and_a_bad_one_in_one_call(service: Service) -> None:
    await service.send(conversion("m", name="NO"), conversion("n", name="NO"))
    m, n = await service.name("m"), await service.name("n")
    reply = await service.replay((n, conversion("n", name="STILL")), (m, conversion("m")))
    assert outcomes(reply) == [REJECTED, ACCEPTED]
    assert reply.results[0].field == "conversion.event_name"
    assert "STILL" in reply.results[0].message
    # What is kept is what was sent, with the reason that is true of it.
    (kept,) = (await service.listed()).rejected_events
    assert (kept.name, "NO" in kept.message) == (n, True)


async def test_what_was_stored_meanwhile_is_a_duplicate_and_leaves(service: Service) -> None:
    """As after a crash between the log and the store of rejected events."""
    await service.send(conversion("a", name="NO"))
    name = await service.name("a")
    await service.send(conversion("a"))
    reply = await service.replay((name, conversion("a")))
    assert outcomes(reply) == [DUPLICATE]
    assert await service.ids() == []
    assert await service.stored(reply.consistency_token) == [("a", 1.0)]


async def test_a_replay_that_is_repeated_doubles_and_loses_nothing(service: Service) -> None:
    await service.send(conversion("a", name="NO"))
    name = await service.name("a")
    first = await service.replay((name, conversion("a")), request_id="once")
    assert await service.replay((name, conversion("a")), request_id="once") == first
    third = await service.replay((name, conversion("a")), request_id="twice")
    assert outcomes(third) == [pb.REPLAY_OUTCOME_NOT_FOUND]
    assert await service.stored(first.consistency_token) == [("a", 1.0)]
    error = await failure(service.replay((name, conversion("b")), request_id="once"))
    assert error.reason == "REQUEST_ID_REUSED"


async def test_values_of_events_are_told_once_and_not_remembered(service: Service) -> None:
    await service.send(conversion("a", name="NO"))
    name = await service.name("a")
    first = await service.replay((name, None), request_id="once")
    again = await service.replay((name, None), request_id="once")
    assert "NO" in first.results[0].message
    assert (again.results[0].outcome, again.results[0].message) == (REJECTED, "")


async def test_a_trial_judges_and_changes_nothing(service: Service) -> None:
    await service.send(conversion("a", name="NO"), conversion("b", name="NO"))
    a, b = await service.name("a"), await service.name("b")
    for _ in range(2):
        reply = await service.replay((a, conversion("a")), (b, None), validate_only=True)
        assert outcomes(reply) == [ACCEPTED, REJECTED]
        assert reply.consistency_token == ""
    assert await service.ids() == ["b", "a"]
    done = await service.send(conversion("c"))
    assert await service.stored(done.consistency_token) == [("c", 1.0)]


async def test_a_filter_is_replayed_page_by_page_to_its_end(service: Service) -> None:
    await service.send(*[conversion(str(n), name="NO") for n in range(7)])
    await service.send(conversion("late", ahead_h=30))
    reasons = [events_service_pb2.REJECTION_REASON_INVALID_FIELD]
    token, rests, tried = "", [], []
    while True:
        request = pb.ReplayRejectedEventsRequest(
            parent="projects/acme",
            filter=pb.RejectedEventsFilter(reasons=reasons),
            page_size=3,
            page_token=token,
            request_id=f"page-{token}"[:100],
        )
        reply = await service.rejected.ReplayRejectedEvents(request, metadata=service.owner)
        rests.append(reply.remaining)
        tried += [result.name for result in reply.results]
        token = reply.next_page_token
        if not token:
            break
    assert rests == [4, 1, 0]
    assert len(set(tried)) == 7


async def test_a_payload_that_was_cut_needs_a_corrected_event(service: Service) -> None:
    huge = conversion("huge")
    huge.properties.update({"x": "y" * 100_000})
    await service.send(huge)
    (kept,) = (await service.listed()).rejected_events
    assert (kept.truncated, kept.payload_bytes) == (True, 64 * 1024)
    reply = await service.replay((kept.name, None))
    assert outcomes(reply) == [pb.REPLAY_OUTCOME_NOT_REPLAYABLE]
    assert "first 65536 bytes" in reply.results[0].message
    assert outcomes(await service.replay((kept.name, conversion("huge")))) == [ACCEPTED]


async def test_who_may_not_log_may_not_look_either(service: Service) -> None:
    await service.send(conversion("a", name="NO"))
    platform = service.running.application.platform
    for role in (Role.INGEST, Role.VIEWER, Role.ASSIGN):
        metadata = bearer(add_key(platform, "acme", role).text)
        call = service.rejected.ListRejectedEvents(
            pb.ListRejectedEventsRequest(parent="projects/acme"), metadata=metadata
        )
        assert (await failure(call)).code is Code.PERMISSION_DENIED


async def test_another_projects_events_do_not_exist(service: Service) -> None:
    await service.send(conversion("a", name="NO"))
    name = await service.name("a")
    platform = service.running.application.platform
    service.owner = bearer(add_key(platform, "rival", *Role).text)
    number = name.rpartition("/")[2]
    calls: list[Awaitable[object]] = [
        service.replay((name, None)),
        service.listed(),
        service.rejected.GetRejectedEvent(
            pb.GetRejectedEventRequest(name=name), metadata=service.owner
        ),
        service.rejected.GetRejectedEvent(
            pb.GetRejectedEventRequest(name=f"projects/rival/rejectedEvents/{number}"),
            metadata=service.owner,
        ),
    ]
    for call in calls:
        assert (await failure(call)).code is Code.NOT_FOUND


@pytest.mark.parametrize("number", ["x", "-1", "1" * 30, "9" * 19, "٣", "1.0"])
async def test_a_name_that_cannot_be_is_not_found(service: Service, number: str) -> None:
    call = service.rejected.GetRejectedEvent(
        pb.GetRejectedEventRequest(name=f"projects/acme/rejectedEvents/{number}"),
        metadata=service.owner,
    )
    assert (await failure(call)).code is Code.NOT_FOUND


async def test_a_replay_is_in_the_audit_log_and_a_trial_is_not(service: Service) -> None:
    await service.send(conversion("a", name="NO"))
    name = await service.name("a")
    await service.replay((name, conversion("a")), validate_only=True)
    await service.replay((name, conversion("a")))
    platform = service.running.application.platform
    with platform.database.read() as connection:
        entries = SqlAuditLog(connection, platform.audit_keys).entries("acme", limit=100)
    methods = [entry.event.method for entry in entries]
    path = "/touchstone.events.v1.RejectedEventsService/ReplayRejectedEvents"
    assert methods.count(path) == 1
