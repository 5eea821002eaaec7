"""Channel groupings that are kept, over their contract: a real server, generated clients."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Value
from touchstone.attribution.v1 import (
    attribution_pb2,
    attribution_service_pb2,
    attribution_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
)
from touchstone.attribution.v1 import grouping_service_pb2 as pb
from touchstone.attribution.v1 import grouping_service_pb2_grpc as rpc
from touchstone.common.v1 import filter_pb2
from touchstone.events.v1 import event_pb2

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.security.caller import Role
from shared.server.run import start_server
from shared.testing.ports import free_port
from tests.contract.attribution_world import key_of, write_events

NAME = "projects/demo/channelGroupings/main"


def rule(channel: str, sent: str) -> attribution_pb2.ChannelRule:
    """Touches that were sent with one channel are of another."""
    compare = filter_pb2.FieldComparison(
        field="channel",
        operator=filter_pb2.FILTER_OPERATOR_EQUAL,
        values=[Value(string_value=sent)],
    )
    return attribution_pb2.ChannelRule(filter=filter_pb2.Filter(compare=compare), channel=channel)


PAID = attribution_pb2.ChannelGrouping(
    display_name="Paid or not", rules=[rule("Paid", "ads")], otherwise="Other"
)


@dataclass
class World:
    """The server and keys of an experimenter, a viewer, and another project."""

    channel: grpc.aio.Channel
    keys: dict[str, str]

    def metadata(self, who: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[who]}"),)

    async def call(self, verb: str, who: str = "demo", **fields: Any) -> Any:
        request = getattr(pb, f"{verb}Request")(**fields)
        stub = rpc.ChannelGroupingServiceStub(self.channel)
        return await getattr(stub, verb)(request, metadata=self.metadata(who))

    async def create(self, **fields: Any) -> attribution_pb2.ChannelGrouping:
        asked: dict[str, Any] = {"channel_grouping_id": "main", "channel_grouping": PAID} | fields
        reply = await self.call("CreateChannelGrouping", parent="projects/demo", **asked)
        found: attribution_pb2.ChannelGrouping = reply.channel_grouping
        return found

    async def update(self, *paths: str, **fields: Any) -> attribution_pb2.ChannelGrouping:
        wanted = attribution_pb2.ChannelGrouping(**{"name": NAME} | fields)
        reply = await self.call(
            "UpdateChannelGrouping", channel_grouping=wanted, update_mask=FieldMask(paths=paths)
        )
        found: attribution_pb2.ChannelGrouping = reply.channel_grouping
        return found

    async def tried(self, grouping: attribution_pb2.ChannelGrouping) -> Any:
        touches = [
            attribution_service_pb2.SampleTouch(touchpoint=event_pb2.Touchpoint(channel=name))
            for name in ("ads", "mail")
        ]
        request = attribution_service_pb2.TestChannelGroupingRequest(
            grouping=grouping, touches=touches
        )
        stub = attribution_service_pb2_grpc.AttributionServiceStub(self.channel)
        return await stub.TestChannelGrouping(request, metadata=self.metadata("demo"))

    async def credited(self, **grouping: Any) -> Any:
        definition = attribution_pb2.JourneyDefinition(
            event_name="buy", channel_grouping=attribution_pb2.ChannelGrouping(**grouping)
        )
        request = attribution_service_pb2.GetAttributionRequest(journeys=definition)
        stub = attribution_service_pb2_grpc.AttributionServiceStub(self.channel)
        return await stub.GetAttribution(request, metadata=self.metadata("demo"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    write_events(tmp_path / "lake")
    settings = Settings(data=tmp_path, attribution_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        keys = {
            "demo": key_of(application, "demo", Role.VIEWER, Role.EXPERIMENTER, Role.ADMIN),
            "viewer": key_of(application, "demo", Role.VIEWER),
            "other": key_of(application, "other", Role.VIEWER, Role.EXPERIMENTER),
        }
        yield World(channel, keys)
    await running.drain()


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    code: grpc.StatusCode = refused.value.code()
    return code


async def test_a_change_makes_a_version_and_none_is_changed(world: World) -> None:
    made = await world.create()
    assert (made.name, made.version, list(made.rules)) == (NAME, 1, list(PAID.rules))

    changed = await world.update("otherwise", otherwise="Rest", etag=made.etag)
    assert (changed.version, changed.otherwise, changed.display_name) == (2, "Rest", "Paid or not")
    stale = world.update("otherwise", otherwise="Late", etag=made.etag)
    assert await code_of(stale) is grpc.StatusCode.ABORTED

    first = (await world.call("GetChannelGrouping", name=NAME, version=1)).channel_grouping
    assert (first.otherwise, first.etag, first.create_time) == ("Other", "", made.create_time)
    page = await world.call("ListChannelGroupingVersions", "viewer", name=NAME, page_size=1)
    rest = await world.call(
        "ListChannelGroupingVersions",
        "viewer",
        name=NAME,
        page_size=1,
        page_token=page.next_page_token,
    )
    shown = [*page.channel_groupings, *rest.channel_groupings]
    assert [(each.version, each.otherwise) for each in shown] == [(2, "Rest"), (1, "Other")]
    assert not rest.next_page_token


async def test_what_cannot_be_a_grouping_is_refused(world: World) -> None:
    empty = attribution_pb2.ChannelGrouping(display_name="says nothing")
    assert await code_of(world.create(channel_grouping=empty)) is grpc.StatusCode.INVALID_ARGUMENT
    asks = attribution_pb2.ChannelGrouping(rules=[rule("Paid", "ads")])
    asks.rules[0].filter.compare.field = "value"
    assert await code_of(world.create(channel_grouping=asks)) is grpc.StatusCode.INVALID_ARGUMENT
    await world.create(validate_only=True)
    await world.create()
    assert await code_of(world.create()) is grpc.StatusCode.ALREADY_EXISTS
    assert await code_of(world.update("version", version=7)) is grpc.StatusCode.INVALID_ARGUMENT
    bare = world.update("rules", "otherwise")
    assert await code_of(bare) is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_was_deleted_is_gone_and_its_versions_mean_nothing_else(world: World) -> None:
    await world.create()
    assert await code_of(world.call("DeleteChannelGrouping", name=NAME, etag="7")) is (
        grpc.StatusCode.ABORTED
    )
    await world.call("DeleteChannelGrouping", name=NAME)
    for version in (0, 1):
        gone = world.call("GetChannelGrouping", name=NAME, version=version)
        assert await code_of(gone) is grpc.StatusCode.NOT_FOUND
    assert await code_of(world.credited(name=NAME)) is grpc.StatusCode.NOT_FOUND

    anew = await world.create()
    assert anew.version == 2
    first = world.call("GetChannelGrouping", name=NAME, version=1)
    assert await code_of(first) is grpc.StatusCode.NOT_FOUND
    listed = await world.call("ListChannelGroupingVersions", name=NAME)
    assert [each.version for each in listed.channel_groupings] == [2]


async def test_groupings_are_listed_page_by_page_and_hidden_from_others(world: World) -> None:
    for grouping_id in ("c", "a", "b"):
        await world.create(channel_grouping_id=grouping_id)
    page = await world.call("ListChannelGroupings", "viewer", parent="projects/demo", page_size=2)
    rest = await world.call(
        "ListChannelGroupings",
        "viewer",
        parent="projects/demo",
        page_size=2,
        page_token=page.next_page_token,
    )
    names = [each.name[-1] for each in (*page.channel_groupings, *rest.channel_groupings)]
    assert names == ["a", "b", "c"]
    hidden = world.call("GetChannelGrouping", "other", name="projects/demo/channelGroupings/a")
    assert await code_of(hidden) is grpc.StatusCode.NOT_FOUND
    denied = world.call("DeleteChannelGrouping", "viewer", name="projects/demo/channelGroupings/a")
    assert await code_of(denied) is grpc.StatusCode.PERMISSION_DENIED


async def test_of_two_changes_at_once_one_is_made(world: World) -> None:
    made = await world.create()
    tries = (world.update("otherwise", otherwise=each, etag=made.etag) for each in ("A", "B"))
    done = await asyncio.gather(*tries, return_exceptions=True)
    refused = [each for each in done if isinstance(each, grpc.aio.AioRpcError)]
    assert [each.code() for each in refused] == [grpc.StatusCode.ABORTED]
    assert (await world.call("GetChannelGrouping", name=NAME)).channel_grouping.version == 2


async def test_a_definition_names_a_version_and_the_answer_says_which(world: World) -> None:
    await world.create()
    now = await world.credited(name=NAME)
    await world.update("otherwise", otherwise="Rest")
    newest, then = await world.credited(name=NAME), await world.credited(name=NAME, version=1)

    assert [row.channel for row in newest.activity] == ["Paid", "Rest"]
    assert [row.channel for row in then.activity] == ["Other", "Paid"]
    said = newest.provenance.journeys.channel_grouping
    assert (said.name, said.version, said.otherwise) == (NAME, 2, "Rest")
    assert then == now
    # What an answer says can be asked again; what another version says cannot be put under a name.
    again = await world.credited(
        name=said.name, version=2, rules=said.rules, otherwise=said.otherwise
    )
    assert again == newest
    forged = world.credited(name=NAME, version=1, rules=said.rules, otherwise=said.otherwise)
    assert await code_of(forged) is grpc.StatusCode.INVALID_ARGUMENT
    unknown = world.credited(name=NAME, version=9)
    assert await code_of(unknown) is grpc.StatusCode.NOT_FOUND


async def test_an_edit_is_tried_beside_what_is_kept(world: World) -> None:
    await world.create()
    kept = await world.tried(attribution_pb2.ChannelGrouping(name=NAME))
    assert [touch.channel for touch in kept.touches] == ["Paid", "Other"]
    assert (kept.version, kept.changed) == (1, 0)
    assert not kept.touches[0].HasField("kept_channel")

    edit = attribution_pb2.ChannelGrouping(
        name=NAME, rules=[rule("Mail", "mail"), rule("Paid", "ads")], otherwise="Other"
    )
    found = await world.tried(edit)
    ads, mail = found.touches
    assert (ads.channel, ads.rule, ads.kept_rule, ads.changed) == ("Paid", 1, 0, False)
    assert (mail.channel, mail.kept_channel, mail.changed) == ("Mail", "Other", True)
    assert not mail.HasField("kept_rule")
    assert found.changed == 1
    alone = await world.tried(PAID)
    assert (alone.version, [touch.changed for touch in alone.touches]) == (0, [False, False])


async def test_a_report_keeps_the_version_it_began_with(world: World) -> None:
    await world.create()
    definition = attribution_pb2.JourneyDefinition(
        event_name="buy", channel_grouping=attribution_pb2.ChannelGrouping(name=NAME)
    )
    request = report_service_pb2.RunAttributionRequest(
        parent="projects/demo", report_id="weekly", journeys=definition, min_units=1
    )
    stub = report_service_pb2_grpc.ReportServiceStub(world.channel)
    begun = await stub.RunAttribution(request, metadata=world.metadata("demo"))
    wait = operations_pb2.WaitOperationRequest(
        name=begun.operation.name, timeout=Duration(seconds=20)
    )
    operations = operations_pb2_grpc.OperationsStub(world.channel)
    done = await operations.WaitOperation(wait, metadata=world.metadata("demo"))
    assert done.done
    assert not done.HasField("error"), done
    await world.call("DeleteChannelGrouping", name=NAME)

    get = report_service_pb2.GetReportRequest(name="projects/demo/attributionReports/weekly")
    report = (await stub.GetReport(get, metadata=world.metadata("viewer"))).report
    said = report.provenance.journeys.channel_grouping
    assert (said.name, said.version, len(said.rules)) == (NAME, 1, 1)
    assert [row.channel for row in report.activity] == ["Other", "Paid"]
