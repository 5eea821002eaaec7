"""Referral reports over their contract: a real server and real tables."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.attribution.v1 import referral_service_pb2 as pb
from touchstone.attribution.v1 import referral_service_pb2_grpc as rpc
from touchstone.common.v1 import filter_pb2, identity_pb2

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.errors import Code
from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.security.caller import Role
from shared.server.run import start_server
from shared.server.status import from_rpc_error
from shared.testing.fakes import FixedClock
from shared.testing.ports import free_port
from tests.contract.attribution_world import NOW, key_of, moment, timestamp

Row = dict[str, object]
CAMPAIGN: dict[str, Any] = {"registration_event": "signup", "conversion_event": "buy"}


def invited(inviter: str, invitee: str, day: float, reason: str = "") -> Row:
    said = {"referrer": inviter} | ({"failure_reason": reason} if reason else {})
    return {
        "event_id": f"i-{inviter}-{invitee}-{day}",
        "project": "demo",
        "event_time": moment(day),
        "unit_id": invitee,
        "channel": "friends",
        "properties": json.dumps(said),
    }


def did(name: str, unit: str, day: float, value: float | None = None) -> Row:
    return {
        "event_id": f"{name}-{unit}-{day}",
        "project": "demo",
        "event_time": moment(day),
        "unit_id": unit,
        "event_name": name,
        "value": value,
        "currency": None if value is None else "EUR",
    }


def shown(unit: str) -> Row:
    return {
        "event_id": f"s-{unit}",
        "project": "demo",
        "event_time": moment(0.5),
        "unit_id": unit,
        "channel": "banner",
    }


TOUCHES = [
    *(shown(unit) for unit in ("ann", "bob", "cat", "dan")),
    invited("ann", "eve", 1),
    invited("ann", "fay", 1),
    invited("eve", "gus", 3),
    invited("gus", "eve", 4),
    invited("bob", "bob", 2),
    invited("bob", "old", 5),
    invited("cat", "lost", 5, "link expired"),
    invited("cat", "open", 29),
]
EVENTS = [
    *(did("share", "ann", day) for day in (1, 2)),
    did("share", "bob", 1),
    did("signup", "eve", 1.5),
    did("signup", "fay", 2),
    did("signup", "gus", 3.5),
    did("signup", "old", 1),
    did("buy", "eve", 1, 100.0),
    did("buy", "eve", 2, 10.0),
    did("buy", "gus", 4, 5.0),
    did("buy", "gus", 9, 5.5),
    did("visit", "eve", 2.75),
    did("visit", "nobody", 30),
]


class World:
    """A server over the events above, and keys."""

    def __init__(self, channel: grpc.aio.Channel, token: str, keys: dict[str, str]) -> None:
        self.stub: Any = rpc.ReferralServiceStub(channel)
        self.token = token
        self._keys = keys

    async def ask(self, who: str = "demo", **fields: Any) -> pb.GetReferralsResponse:
        campaign = pb.ReferralCampaign(**CAMPAIGN | fields.pop("campaign", {}))
        asked: dict[str, Any] = {"campaign": campaign, "min_units": 1}
        request = pb.GetReferralsRequest(**asked | fields)
        metadata = (("authorization", f"Bearer {self._keys[who]}"),)
        answer: pb.GetReferralsResponse = await self.stub.GetReferrals(request, metadata=metadata)
        return answer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    tables = {
        "touchpoints": table_of("touchpoints", TOUCHES),
        "conversions": table_of("conversions", EVENTS),
    }
    token = LakeWriter(tmp_path / "lake", "journal-a", FixedClock(NOW)).append(tables, 1).token()
    settings = Settings(data=tmp_path, attribution_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    keys = {
        "demo": key_of(application, "demo", Role.VIEWER),
        "other": key_of(application, "other", Role.VIEWER),
    }
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        yield World(channel, token, keys)
    await running.drain()


def of_channel(channel: str) -> filter_pb2.Filter:
    return filter_pb2.Filter(
        compare=filter_pb2.FieldComparison(
            field="channel",
            operator=filter_pb2.FILTER_OPERATOR_EQUAL,
            values=[struct_pb2.Value(string_value=channel)],
        )
    )


def cells(table: pb.ReferralTable) -> dict[str, tuple[int, int, float]]:
    return {row.name: (row.units, row.conversions, row.value) for row in table.rows}


async def test_a_campaign(world: World) -> None:
    campaign = {"shown_filter": of_channel("banner"), "activity_events": ["visit"]}
    answer = await world.ask(campaign=campaign, retention_days=[1])

    found = answer.figures
    assert (found.reached, found.sharers, found.shares) == (4, 2, 3)
    assert (found.share_rate, found.shares_per_user) == (0.5, 1.5)
    assert (found.invitees, found.registrations, found.chains) == (6, 3, 1)
    assert (found.registration_rate, found.growth_factor) == (0.5, 0.75)
    assert (found.undecided, found.unresolved_invitations) == (1, 0)
    # What eve bought before she registered is not brought by anybody.
    assert cells(answer.by_depth) == {"1": (2, 1, 10.0), "2": (1, 2, 10.5)}
    assert cells(answer.by_chain_size) == {"3": (3, 3, 20.5)}
    assert cells(answer.by_referrer) == {"ann": (2, 1, 10.0), "eve": (1, 2, 10.5)}
    assert {row.name: row.invitations for row in answer.failures.rows} == {
        "invited_by_another": 1,
        "self_invitation": 1,
        "already_registered": 1,
        "link expired": 1,
    }
    (day_1,) = answer.retention
    assert day_1.observed == 3
    assert day_1.share == pytest.approx(1 / 3)


async def test_few_units_are_not_told_of(world: World) -> None:
    answer = await world.ask(min_units=2)

    assert cells(answer.by_depth) == {}
    assert answer.by_depth.suppressed == pb.ReferralRow(
        units=3, conversions=3, value=20.5, invitations=3
    )
    assert cells(answer.by_referrer) == {}
    default = await world.ask(min_units=0)
    assert default.min_units == 50
    assert not default.figures.HasField("registrations")
    assert not default.figures.HasField("growth_factor")
    assert (default.by_referrer.withheld_rows, len(default.by_referrer.rows)) == (2, 0)


async def test_the_provenance_says_what_was_meant(world: World) -> None:
    answer = await world.ask(consistency_token=world.token)

    said = answer.provenance
    assert said.watermark == world.token
    assert said.currencies == ["EUR"]
    assert said.campaign == pb.ReferralCampaign(
        registration_event="signup",
        conversion_event="buy",
        share_event="share",
        referrer_property="referrer",
        reason_property="failure_reason",
        unit_type="user",
        referrer_type="user",
        stitching=identity_pb2.STITCHING_RETROACTIVE,
        window=Duration(seconds=30 * 86_400),
    )
    # The visit is no event of this campaign.
    assert said.observed_until == Timestamp(
        seconds=timestamp(29).seconds, nanos=timestamp(29).nanos + 1000
    )
    again = await world.ask(as_of=world.token)
    again.provenance.watermark_time.CopyFrom(said.watermark_time)
    assert again == answer


async def test_time_and_filter_bound_the_invitations(world: World) -> None:
    bounded = await world.ask(campaign={"start_time": timestamp(2.5), "end_time": timestamp(4.5)})
    assert (bounded.figures.invitees, bounded.figures.shares) == (2, 0)
    filtered = await world.ask(campaign={"invitation_filter": of_channel("post")})
    assert (filtered.figures.invitees, cells(filtered.by_depth)) == (0, {})
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await world.ask(campaign={"start_time": timestamp(2), "end_time": timestamp(2)})
    assert from_rpc_error(raised.value).code is Code.INVALID_ARGUMENT
    assert "end_time" in str(raised.value.details())


async def test_the_referrers_beyond_the_list_are_told_of_together(world: World) -> None:
    answer = await world.ask(max_referrers=1)

    assert cells(answer.by_referrer) == {"ann": (2, 1, 10.0)}
    assert (answer.by_referrer.others.units, answer.by_referrer.others.value) == (1, 10.5)


async def test_another_project_sees_nothing(world: World) -> None:
    answer = await world.ask(who="other")

    assert answer.figures.invitees == 0
    assert not answer.figures.HasField("registration_rate")
    assert answer.provenance.watermark == world.token
