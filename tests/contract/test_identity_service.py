"""IdentityService as the composed events service serves it."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc
from touchstone.events.v1 import identity_service_pb2 as pb
from touchstone.events.v1 import identity_service_pb2_grpc as rpc

from services.events.composition import compose
from services.events.settings import Settings
from shared.errors import Code, DomainError
from shared.security.audit import SqlAuditLog
from shared.security.caller import Role
from shared.server.run import RunningServer, start_server
from shared.server.status import from_rpc_error
from shared.testing.ports import free_port
from shared.testing.serving import Metadata, add_key, bearer

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
NAME = "projects/acme/identityPolicy"
Unit = tuple[str, str]
PHONE, TABLET = ("device", "phone"), ("device", "tablet")
ANN, BOB = ("customer", "ann"), ("customer", "bob")


def stamp(minutes: float) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(START + dt.timedelta(minutes=minutes))
    return time


def unit(of: Unit) -> unit_pb2.UnitId:
    return unit_pb2.UnitId(type=of[0], id=of[1])


@dataclass
class Service:
    running: RunningServer
    identity: Any
    events: Any
    owner: Metadata
    rival: Metadata
    token: str = ""
    sent: int = 0

    async def link(self, one: Unit, other: Unit, minutes: float = 0, unlink: bool = False) -> None:
        event = event_pb2.Event(
            event_id=f"link-{self.sent}", unit=unit(one), event_time=stamp(minutes)
        )
        self.sent += 1
        event.identify.other_unit.CopyFrom(unit(other))
        if unlink:
            event.identify.action = event_pb2.IDENTIFY_ACTION_UNLINK
        request = events_service_pb2.LogEventsRequest(events=[event])
        reply = await self.events.LogEvents(request, metadata=self.owner)
        assert reply.accepted == 1, reply
        self.token = reply.consistency_token

    async def resolve(self, of: Unit, **more: Any) -> pb.ResolveIdentityResponse:
        request = pb.ResolveIdentityRequest(
            parent="projects/acme", unit=unit(of), consistency_token=self.token, **more
        )
        found: pb.ResolveIdentityResponse = await self.identity.ResolveIdentity(
            request, metadata=self.owner
        )
        return found

    async def edges(self, of: Unit, **more: Any) -> pb.ListIdentityEdgesResponse:
        request = pb.ListIdentityEdgesRequest(
            parent="projects/acme", unit=unit(of), consistency_token=self.token, **more
        )
        found: pb.ListIdentityEdgesResponse = await self.identity.ListIdentityEdges(
            request, metadata=self.owner
        )
        return found

    async def update(self, *paths: str, **more: Any) -> pb.IdentityPolicy:
        top = {k: more.pop(k) for k in ("request_id", "validate_only") if k in more}
        request = pb.UpdateIdentityPolicyRequest(
            policy=pb.IdentityPolicy(**{"name": NAME} | more),
            update_mask=FieldMask(paths=paths),
            **top,
        )
        reply = await self.identity.UpdateIdentityPolicy(request, metadata=self.owner)
        policy: pb.IdentityPolicy = reply.policy
        return policy

    async def policy(self, version: int = 0) -> pb.IdentityPolicy:
        request = pb.GetIdentityPolicyRequest(name=NAME, version=version)
        reply = await self.identity.GetIdentityPolicy(request, metadata=self.owner)
        policy: pb.IdentityPolicy = reply.policy
        return policy


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    settings = Settings(
        data=tmp_path, events_address=f"127.0.0.1:{free_port()}", flush_interval_s=0.05
    )
    running = await start_server(compose(settings))
    platform = running.application.platform
    every = [role for role in Role if role.name != "OPERATOR"]
    keys = {project: add_key(platform, project, *every) for project in ("acme", "rival")}
    async with grpc.aio.insecure_channel(settings.events_address) as channel:
        yield Service(
            running,
            rpc.IdentityServiceStub(channel),
            events_service_pb2_grpc.EventsServiceStub(channel),
            bearer(keys["acme"].text),
            bearer(keys["rival"].text),
        )
    await running.drain()


async def failure(call: Awaitable[Any]) -> DomainError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def units(identity: pb.Identity) -> list[Unit]:
    return [(member.unit.type, member.unit.id) for member in identity.members]


async def test_a_unit_resolves_to_what_it_is_linked_to(service: Service) -> None:
    await service.link(PHONE, ANN, 5)
    await service.link(TABLET, ANN, 3)
    found = await service.resolve(TABLET)
    assert found.identity.canonical == unit(ANN)
    assert units(found.identity) == [PHONE, ANN, TABLET]
    assert [m.first_seen_time for m in found.identity.members] == [stamp(5), stamp(5), stamp(3)]
    assert found.identity_version.startswith("p0-e")
    assert (await service.resolve(PHONE)).identity_version == found.identity_version


async def test_the_identity_of_a_time_has_the_links_until_then(service: Service) -> None:
    await service.link(PHONE, ANN, 5)
    assert units((await service.resolve(PHONE, as_of_time=stamp(4.9))).identity) == [PHONE]
    assert units((await service.resolve(PHONE, as_of_time=stamp(5))).identity) == [PHONE, ANN]


async def test_several_units_are_resolved_from_one_cut(service: Service) -> None:
    await service.link(PHONE, ANN)
    request = pb.BatchResolveIdentitiesRequest(
        parent="projects/acme",
        units=[unit(BOB), unit(PHONE), unit(PHONE)],
        consistency_token=service.token,
    )
    reply = await service.identity.BatchResolveIdentities(request, metadata=service.owner)
    assert [one.canonical for one in reply.identities] == [unit(BOB), unit(ANN), unit(ANN)]
    assert reply.identity_version


async def test_the_units_of_another_project_are_unknown(service: Service) -> None:
    await service.link(PHONE, ANN)
    await service.resolve(PHONE)
    request = pb.ResolveIdentityRequest(parent="projects/rival", unit=unit(PHONE))
    theirs = await service.identity.ResolveIdentity(request, metadata=service.rival)
    assert (units(theirs.identity), theirs.identity_version) == ([PHONE], "")
    error = await failure(service.identity.ResolveIdentity(request, metadata=service.owner))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_the_log_of_a_unit_says_what_became_of_each_entry(service: Service) -> None:
    await service.link(PHONE, ANN)
    await service.link(PHONE, BOB)
    await service.link(PHONE, ("login", "null"))
    await service.link(PHONE, PHONE)
    await service.link(TABLET, BOB)
    found = await service.edges(PHONE)
    states = [pb.IdentityEdgeState.Name(edge.state)[20:] for edge in found.edges]
    assert states == ["ACTIVE", "REFUSED_LIMIT", "REFUSED_BLOCKED_ID", "REFUSED_SAME_UNIT"]
    assert found.edges[1].other_unit == unit(BOB)
    assert "customer than the 1" in found.edges[1].reason
    assert "'null' is a placeholder" in found.edges[2].reason
    assert found.edges[0].reason == ""
    await service.link(ANN, PHONE, unlink=True)
    states = [pb.IdentityEdgeState.Name(e.state)[20:] for e in (await service.edges(PHONE)).edges]
    assert states[:2] == ["UNLINKED", "ACTIVE"]
    assert states[-1] == "UNLINK"
    assert units((await service.resolve(PHONE)).identity) == [PHONE, BOB, TABLET]


async def test_the_log_of_a_unit_comes_in_pages(service: Service) -> None:
    for number in range(5):
        await service.link(PHONE, ("session", str(number)), number)
    whole = [edge.event_id for edge in (await service.edges(PHONE)).edges]
    seen, token = [], ""
    for _ in range(3):
        page = await service.edges(PHONE, page_size=2, page_token=token)
        seen += [edge.event_id for edge in page.edges]
        token = page.next_page_token
    assert (seen, token) == (whole, "")
    assert len(whole) == 5
    page = await service.edges(PHONE, page_size=2)
    error = await failure(service.edges(TABLET, page_token=page.next_page_token))
    assert error.reason == "INVALID_PAGE_TOKEN"


async def test_the_policy_decides_and_every_version_is_kept(service: Service) -> None:
    await service.link(PHONE, ANN)
    await service.link(PHONE, BOB)
    assert units((await service.resolve(BOB)).identity) == [BOB]
    before = await service.policy()
    assert (before.version, before.default_limit, before.etag) == (0, 5, "0")
    assert ("customer", 1) in {(one.type, one.limit) for one in before.id_types}

    types = [pb.IdTypePolicy(type="customer", limit=2, rank=1), pb.IdTypePolicy(type="login")]
    after = await service.update("id_types", id_types=types, etag="0", default_limit=9)
    assert (after.version, after.default_limit, len(after.id_types)) == (1, 5, 2)
    found = await service.resolve(BOB)
    assert units(found.identity) == [PHONE, ANN, BOB]
    assert found.identity_version.startswith("p1-e")
    assert await service.policy() == after
    assert await service.policy(version=1) == after
    error = await failure(service.policy(version=2))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_a_change_is_guarded_repeatable_tried_and_audited(service: Service) -> None:
    tried = await service.update("default_limit", default_limit=7, validate_only=True)
    assert (tried.version, (await service.policy()).version) == (1, 0)
    first = await service.update("default_limit", default_limit=7, request_id="once")
    again = await service.update("default_limit", default_limit=7, request_id="once")
    assert first == again
    assert (await service.policy()).version == 1
    error = await failure(service.update("default_limit", default_limit=8, etag="0"))
    assert (error.code, error.reason) == (Code.ABORTED, "STALE_ETAG")
    platform = service.running.application.platform
    with platform.database.read() as connection:
        entries = SqlAuditLog(connection, platform.audit_keys).entries("acme", limit=100)
    made = [
        entry.event for entry in entries if entry.event.method.endswith("/UpdateIdentityPolicy")
    ]
    assert [event.resource for event in made] == [NAME]


@pytest.mark.parametrize(
    ("paths", "fields", "wrong"),
    [
        ([], {}, "update_mask"),
        (["version"], {}, "update_mask"),
        (["default_limit"], {"default_limit": 1001}, "default_limit"),
        (["id_types"], {"id_types": [pb.IdTypePolicy(type="Customer")]}, "type"),
        (["id_types"], {"id_types": [pb.IdTypePolicy(type="a", limit=1001)]}, "limit"),
        (["id_types"], {"id_types": [pb.IdTypePolicy(type="a")] * 2}, "id_types"),
        (
            ["id_types"],
            {"id_types": [pb.IdTypePolicy(type=f"t{n}") for n in range(65)]},
            "id_types",
        ),
        (["blocked_ids"], {"blocked_ids": [str(n) for n in range(257)]}, "blocked_ids"),
    ],
)
async def test_a_wrong_policy_is_refused(
    service: Service, paths: list[str], fields: dict[str, Any], wrong: str
) -> None:
    error = await failure(service.update(*paths, **fields))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert wrong in error.violations[0].field
    assert (await service.policy()).version == 0


async def test_the_policy_of_another_project_does_not_exist(service: Service) -> None:
    for call in (
        service.identity.GetIdentityPolicy(
            pb.GetIdentityPolicyRequest(name=NAME), metadata=service.rival
        ),
        service.identity.UpdateIdentityPolicy(
            pb.UpdateIdentityPolicyRequest(policy=pb.IdentityPolicy(name=NAME)),
            metadata=service.rival,
        ),
    ):
        assert (await failure(call)).code is Code.NOT_FOUND
