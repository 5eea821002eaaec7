"""Path transforms and the path service over their contracts: a real server, real tables."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import (
    attribution_pb2,
    attribution_service_pb2,
    attribution_service_pb2_grpc,
    path_pb2,
)
from touchstone.attribution.v1 import path_service_pb2 as pb
from touchstone.attribution.v1 import path_service_pb2_grpc as rpc

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
from tests.contract.attribution_world import NOW, key_of, moment

BUY = attribution_pb2.JourneyDefinition(event_name="buy")
DAY = 86_400
# Units, the channels that touched each on day 1, 2 and so on, and what they did the day after.
JOURNEYS = [
    (60, "ads>ads>mail", ("lead", "buy")),
    (55, "ads>mail", ("lead",)),
    (3, "mail>ads", ("buy",)),
    (2, "video", ()),
]


def write_journeys(lake: Path) -> str:
    touches: list[dict[str, object]] = []
    bought: list[dict[str, object]] = []
    for row, (units, path, events) in enumerate(JOURNEYS):
        for unit in (f"u{row}-{number}" for number in range(units)):
            channels = path.split(">")
            common: dict[str, object] = {"project": "demo", "unit_id": unit}
            touches.extend(
                {
                    **common,
                    "event_id": f"{unit}-t{day}",
                    "event_time": moment(1 + day),
                    "channel": channel,
                    "cost": 1.0,
                }
                for day, channel in enumerate(channels)
            )
            bought.extend(
                {
                    **common,
                    "event_id": f"{unit}-{name}",
                    "event_time": moment(1 + len(channels) + hours / 24),
                    "event_name": name,
                    "value": 2.0,
                }
                for hours, name in enumerate(events)
            )
    tables = {
        "touchpoints": table_of("touchpoints", touches),
        "conversions": table_of("conversions", bought),
    }
    return LakeWriter(lake, "journal-a", FixedClock(NOW)).append(tables, 1).token()


class World:
    """The stubs of a server, the token of what was written, and keys."""

    def __init__(self, channel: grpc.aio.Channel, token: str, keys: dict[str, str]) -> None:
        self.paths: Any = rpc.PathServiceStub(channel)
        self.attribution: Any = attribution_service_pb2_grpc.AttributionServiceStub(channel)
        self.token = token
        self._keys = keys

    def metadata(self, who: str = "demo") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._keys[who]}"),)

    async def ask(self, method: str, who: str = "demo", **fields: Any) -> Any:
        """The answer; what `question` does not say is asked of all journeys."""
        question = pb.PathQuestion(**{"journeys": BUY} | fields.pop("question", {}))
        request = getattr(pb, f"{method}Request")(question=question, **fields)
        return await getattr(self.paths, method)(request, metadata=self.metadata(who))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    token = write_journeys(tmp_path / "lake")
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


async def test_transforms_are_obeyed_and_said(world: World) -> None:
    steps = [
        attribution_pb2.PathTransform(kind=attribution_pb2.PATH_TRANSFORM_KIND_EXPOSURE),
        attribution_pb2.PathTransform(
            kind=attribution_pb2.PATH_TRANSFORM_KIND_REMOVE_IF_NOT_ALL, channels=["mail"]
        ),
    ]
    definition = attribution_pb2.JourneyDefinition(event_name="buy", path_transforms=steps)
    request = attribution_service_pb2.GetAttributionRequest(
        journeys=definition,
        models=[attribution_pb2.Model(linear=attribution_pb2.Linear())],
    )

    answer = await world.attribution.GetAttribution(request, metadata=world.metadata())

    credited = {row.channel: row.conversions for row in answer.results[0].channels}
    assert credited == {"ads": 63.0, "mail": 0.0, "video": 0.0}
    assert {row.channel: row.cost for row in answer.activity} == {
        "ads": 60 * 2 + 55 + 3,
        "mail": 60 + 55 + 3,
        "video": 2,
    }
    assert list(answer.provenance.journeys.path_transforms) == steps


async def test_credits_are_those_of_the_touches_that_stay(world: World) -> None:
    kind = attribution_pb2.PATH_TRANSFORM_KIND_FREQUENCY
    definition = attribution_pb2.JourneyDefinition(
        event_name="buy", path_transforms=[attribution_pb2.PathTransform(kind=kind)]
    )
    request = attribution_service_pb2.StreamCreditsRequest(
        journeys=definition, model=attribution_pb2.Model(linear=attribution_pb2.Linear())
    )
    call = world.attribution.StreamCredits(request, metadata=world.metadata())
    rows = [row for part in [reply async for reply in call] for row in part.credits]

    found = {(row.touch_id, row.channel, row.weight) for row in rows if row.unit.id == "u0-7"}
    assert found == {("u0-7-t0", "ads(2)", 0.5), ("u0-7-t2", "mail(1)", 0.5)}


async def test_a_transform_names_channels_where_it_removes_them_and_only_there(
    world: World,
) -> None:
    wrong: list[dict[str, Any]] = [
        {"kind": attribution_pb2.PATH_TRANSFORM_KIND_FIRST, "channels": ["ads"]},
        {"kind": attribution_pb2.PATH_TRANSFORM_KIND_REMOVE_IF_NOT_ALL},
    ]
    for fields in wrong:
        step = attribution_pb2.PathTransform(**fields)
        definition = attribution_pb2.JourneyDefinition(event_name="buy", path_transforms=[step])
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await world.ask("GetPathLengths", question={"journeys": definition})
        assert from_rpc_error(raised.value).code is Code.INVALID_ARGUMENT
        assert "name channels for" in str(raised.value.details())


async def test_lengths(world: World) -> None:
    answer = await world.ask("GetPathLengths", max_length=3)

    # The two journeys of one touch are too few: the shortest enough joins them.
    assert list(answer.touches.bins) == [
        path_pb2.LengthBin(length=3, units=60, journeys=60, conversions=60)
    ]
    assert answer.touches.suppressed == path_pb2.LengthBin(
        length=1, units=60, journeys=60, conversions=3
    )
    everything = await world.ask("GetPathLengths", question={"min_units": 1})
    assert [(row.length, row.units) for row in everything.channels.bins] == [(1, 2), (2, 118)]
    assert (answer.min_units, everything.min_units, everything.max_length) == (50, 1, 20)
    assert answer.provenance.watermark == world.token
    assert answer.provenance.watermark_time.ToDatetime(dt.UTC) == NOW
    assert answer.provenance.journeys.lookback == Duration(seconds=30 * DAY)


async def test_lags(world: World) -> None:
    edges = [Duration(seconds=2 * DAY), Duration(seconds=3 * DAY)]
    answer = await world.ask("GetTimeLags", edges=edges, levels=[0.5, 1.0])

    first = answer.first_touch
    assert (first.units, first.lags) == (63, 63)
    # Three units bought two days after their first touch, which the total would show.
    assert list(first.bins) == []
    assert (first.suppressed.units, first.suppressed.lags) == (63, 63)
    median, longest = first.quantiles
    assert median.lag == Duration(seconds=3 * DAY + 3600)
    assert longest.lag == median.lag
    (between,) = answer.between_touches.bins
    assert between == path_pb2.LagBin(
        at_least=Duration(), less_than=edges[0], units=118, lags=60 * 2 + 55 + 3
    )
    assert list(answer.edges) == edges
    falling = [Duration(seconds=2), Duration(seconds=1)]
    with pytest.raises(grpc.aio.AioRpcError, match="edges"):
        await world.ask("GetTimeLags", edges=falling)


def named(state: path_pb2.PathState) -> str:
    return state.channel or path_pb2.PathStateKind.Name(state.kind).rpartition("_")[2]


async def test_transitions(world: World) -> None:
    answer = await world.ask("GetTransitions", question={"min_units": 1})
    found = {
        (named(row.source), named(row.target)): (row.units, row.count, row.probability)
        for row in answer.transitions
    }

    assert found["START", "ads"] == (115, 115, 115 / 120)
    assert found["mail", "CONVERSION"] == (60, 60, 60 / 118)
    assert found["video", "NULL"] == (2, 2, 1.0)
    assert ("ads", "ads") not in found
    assert answer.suppressed_count == answer.suppressed_transitions == 0
    loops = await world.ask("GetTransitions", question={"min_units": 1}, self_loops=True)
    assert ("ads", "ads") in {(named(r.source), named(r.target)) for r in loops.transitions}
    few = await world.ask("GetTransitions")
    assert all(row.units >= 50 for row in few.transitions)
    assert few.suppressed_transitions > 0
    assert "video" not in {named(row.source) for row in few.transitions}


async def test_a_funnel_of_touches_and_events(world: World) -> None:
    steps = [pb.FunnelStep(), pb.FunnelStep(event_name="lead"), pb.FunnelStep(event_name="buy")]
    everything = await world.ask("GetFunnel", steps=steps, question={"min_units": 1})

    def figures(rows: Any) -> list[tuple[int, int, int, int]]:
        each = [row.figures for row in rows]
        return [(row.units, row.journeys, row.conversions, row.left) for row in each]

    assert figures(everything.rows) == [
        (120, 120, 63, 2),
        (115, 115, 60, 55),
        (60, 60, 60, 0),
    ]
    by_channel = {row.channel: figures(row.rows) for row in everything.channels}
    assert by_channel["ads"] == [(115, 115, 60, 0), (115, 115, 60, 55), (60, 60, 60, 0)]
    assert by_channel["video"] == [(2, 2, 0, 2), (0, 0, 0, 0), (0, 0, 0, 0)]
    few = await world.ask("GetFunnel", steps=steps)
    # mail and video are few, even together: ads would show them.
    assert (list(few.channels), few.suppressed_channels) == ([], 3)
    assert figures(few.suppressed) == figures(everything.rows)


async def test_the_effect_of_a_sequence(world: World) -> None:
    question = {"min_units": 1}
    answer = await world.ask(
        "GetSequenceEffect", sequence=["ads", "mail"], order=3, question=question
    )

    # From the longest path on, the chain is the journeys: 60 of 63 conversions hold it.
    assert answer.removal_effect == pytest.approx(60 / 63)
    assert (answer.units, answer.journeys, answer.conversions) == (115, 115, 60)
    assert answer.order == 3
    # Three touches of one channel in a row are two to a chain of order 2.
    with pytest.raises(grpc.aio.AioRpcError, match="at most 2"):
        await world.ask("GetSequenceEffect", sequence=["ads"] * 3, order=2)


async def test_what_follows_from_few_units_is_not_told(world: World) -> None:
    for sequence in (["mail", "ads"], ["video"], ["ads"]):
        answer = await world.ask("GetSequenceEffect", sequence=sequence)
        # Those without ads are two, and all of them are known.
        assert not answer.HasField("removal_effect"), sequence
        assert not answer.HasField("journeys"), sequence
        assert (answer.all_units, answer.all_conversions) == (120, 63)
    nobody = await world.ask("GetSequenceEffect", sequence=["print"])
    assert (nobody.removal_effect, nobody.journeys) == (0.0, 0)
    assert nobody.absent_channels == ["print"]
    one = await world.ask("GetSequenceEffect", sequence=["mail", "ads"], question={"min_units": 1})
    assert (one.units, one.journeys, one.conversions) == (3, 3, 3)


async def test_channels_that_no_journey_holds_are_said(world: World) -> None:
    asked = ["Mail", "ads", "print", "Mail"]
    sequence = await world.ask("GetSequenceEffect", sequence=asked, order=2)
    steps = [pb.FunnelStep(channels=["Mail", "mail"]), pb.FunnelStep(channels=["video"])]
    funnel = await world.ask("GetFunnel", steps=steps)

    assert sequence.absent_channels == ["Mail", "print"]
    # Two units met video: that channel is there, and few.
    assert funnel.absent_channels == ["Mail"]
    known = await world.ask("GetSequenceEffect", sequence=["ads", "mail"])
    assert not known.absent_channels


async def test_the_same_watermark_gives_the_same_bytes(world: World) -> None:
    question = {"as_of": world.token, "consistency_token": world.token}
    for method, fields in (
        ("GetPathLengths", {}),
        ("GetTimeLags", {}),
        ("GetTransitions", {"self_loops": True}),
        ("GetFunnel", {"steps": [pb.FunnelStep(channels=["ads"])]}),
        ("GetSequenceEffect", {"sequence": ["ads", "mail"], "order": 2}),
    ):
        one = await world.ask(method, question=question, **fields)
        two = await world.ask(method, question=question, **fields)
        assert one.SerializeToString(deterministic=True) == two.SerializeToString(
            deterministic=True
        )
        assert one.provenance.watermark == world.token


async def test_another_project_sees_nothing(world: World) -> None:
    answer = await world.ask("GetTransitions", who="other", question={"min_units": 1})

    assert list(answer.transitions) == []
    effect = await world.ask("GetSequenceEffect", who="other", sequence=["ads"])
    assert not effect.HasField("removal_effect")
    assert effect.all_conversions == 0
