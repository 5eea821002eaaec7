"""The attribution service over its contract: a real server, real tables, generated clients."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as rpc
from touchstone.attribution.v1 import held_out_pb2, uncertainty_pb2
from touchstone.common.v1 import filter_pb2, identity_pb2
from touchstone.events.v1 import event_pb2

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.security.caller import Role
from shared.server.rules import rule_of
from shared.server.run import start_server
from shared.server.status import from_rpc_error
from shared.testing.ports import free_port
from shared.version import VERSION
from tests.contract.attribution_world import NOW, key_of, timestamp, write_events

BUY = pb.JourneyDefinition(event_name="buy")
EVERY_OUTPUT = [
    "first_touch",
    "last_touch",
    "linear",
    "position_based",
    "time_decay",
    "markov_removal_share",
    "markov_path_credit",
]


class Client:
    """Calls with the key of a project."""

    def __init__(self, stub: "rpc.AttributionServiceAsyncStub", key: str) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def get(self, **fields: Any) -> service_pb.GetAttributionResponse:
        request = service_pb.GetAttributionRequest(**{"journeys": BUY} | fields)
        return await self._stub.GetAttribution(request, metadata=self._metadata)

    async def evaluate(self, **fields: Any) -> service_pb.EvaluatePathsResponse:
        request = service_pb.EvaluatePathsRequest(**fields)
        return await self._stub.EvaluatePaths(request, metadata=self._metadata)

    async def test_grouping(self, **fields: Any) -> service_pb.TestChannelGroupingResponse:
        request = service_pb.TestChannelGroupingRequest(**fields)
        return await self._stub.TestChannelGrouping(request, metadata=self._metadata)

    async def stream(self, **fields: Any) -> list[service_pb.StreamCreditsResponse]:
        request = service_pb.StreamCreditsRequest(**{"journeys": BUY} | fields)
        call = self._stub.StreamCredits(request, metadata=self._metadata)
        return [reply async for reply in call]


class Clients:
    """The server's token of everything written, and clients of two projects."""

    def __init__(self, token: str, demo: Client, other: Client, assigner: Client) -> None:
        self.token, self.demo, self.other, self.assigner = token, demo, other, assigner


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[Clients]:
    token = write_events(tmp_path / "lake")
    settings = Settings(data=tmp_path, attribution_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        stub = rpc.AttributionServiceStub(channel)
        yield Clients(
            token,
            Client(stub, key_of(application, "demo", Role.VIEWER)),
            Client(stub, key_of(application, "other", Role.VIEWER)),
            Client(stub, key_of(application, "demo", Role.ASSIGN)),
        )
    await running.drain()


async def test_every_model_answers_with_its_provenance(clients: Clients) -> None:
    answer = await clients.demo.get(consistency_token=clients.token)

    assert [result.model_name for result in answer.results] == EVERY_OUTPUT
    for result in answer.results:
        assert sum(channel.conversions for channel in result.channels) == pytest.approx(1)
        assert sum(channel.value for channel in result.channels) == pytest.approx(10)
        for channel in result.channels:
            assert channel.HasField("removal_effect") == result.model_name.startswith("markov")
    assert answer.summary == pb.JourneySummary(
        journeys=2,
        converting_journeys=1,
        non_converting_journeys=1,
        conversions_without_touch=1,
        value=10,
        value_without_touch=4,
        touches=3,
        units=2,
    )
    assert list(answer.activity) == [
        pb.ChannelActivity(
            channel="ads", touches=2, journeys=2, converting_journeys=1, cost=2, units=2
        ),
        pb.ChannelActivity(
            channel="mail",
            touches=1,
            journeys=1,
            converting_journeys=1,
            touches_without_cost=1,
            units=1,
        ),
    ]
    assert pb.WARNING_KIND_FEW_CONVERSIONS in {warning.kind for warning in answer.warnings}
    provenance = answer.provenance
    assert provenance.watermark == clients.token
    assert provenance.watermark_time.ToDatetime(dt.UTC) == NOW
    assert provenance.engine_version == VERSION
    assert provenance.journeys == pb.JourneyDefinition(
        event_name="buy",
        unit_type="user",
        lookback=Duration(seconds=30 * 86_400),
        repeat_rule=pb.REPEAT_RULE_ALL,
        stitching=identity_pb2.STITCHING_RETROACTIVE,
        direct=pb.DirectRule(
            handling=pb.DIRECT_HANDLING_KEEP, channels=["(direct)", "Direct", "direct"]
        ),
        credited=pb.CreditKey(field=pb.TOUCH_FIELD_CHANNEL),
    )
    assert provenance.identity_version == ""


async def test_models_come_back_with_their_defaults_filled_in(clients: Clients) -> None:
    models = [
        pb.Model(position_based=pb.PositionBased()),
        pb.Model(time_decay=pb.TimeDecay()),
        pb.Model(markov=pb.Markov(ignore_non_converting=True)),
    ]

    answer = await clients.demo.get(models=models)

    position, decay, *markov = [result.model for result in answer.results]
    assert position.position_based == pb.PositionBased(
        first=0.4,
        last=0.4,
        two_touch_rule=pb.TWO_TOUCH_RULE_RENORMALISE,
        variant=pb.POSITION_VARIANT_ENDS_AND_MIDDLE,
    )
    assert decay.time_decay.half_life == Duration(seconds=7 * 86_400)
    assert [model.markov for model in markov] == [
        pb.Markov(order=1, ignore_non_converting=True)
    ] * 2


async def test_cost_ratios_are_absent_where_they_are_undefined(clients: Clients) -> None:
    answer = await clients.demo.get(models=[pb.Model(linear=pb.Linear())])

    ads, mail = answer.results[0].channels
    assert (ads.cost_per_conversion, ads.return_on_spend) == (4.0, 2.5)
    assert not mail.HasField("cost_per_conversion")
    assert not mail.HasField("return_on_spend")


async def test_the_definition_is_obeyed(clients: Clients) -> None:
    definition = pb.JourneyDefinition(
        event_name="buy",
        lookback=Duration(seconds=86_400),
        start_time=timestamp(3),
        end_time=timestamp(3.5),
        repeat_rule=pb.REPEAT_RULE_SPLIT,
    )

    answer = await clients.demo.get(journeys=definition, models=[pb.Model(linear=pb.Linear())])

    (mail,) = answer.results[0].channels
    assert (mail.channel, mail.conversions) == ("mail", 1.0)
    assert answer.provenance.journeys.start_time == timestamp(3)
    assert answer.provenance.journeys.repeat_rule == pb.REPEAT_RULE_SPLIT


async def test_filters_windows_and_what_is_credited_are_obeyed(clients: Clients) -> None:
    compare = filter_pb2.FieldComparison(
        field="value",
        operator=filter_pb2.FILTER_OPERATOR_GREATER,
        values=[struct_pb2.Value(number_value=5)],
    )
    definition = pb.JourneyDefinition(
        event_name="buy",
        conversion_filter=filter_pb2.Filter(compare=compare),
        windows=[pb.Window(channel="ads", lookback=Duration(seconds=86_400))],
        credited=pb.CreditKey(field=pb.TOUCH_FIELD_CAMPAIGN),
    )

    answer = await clients.demo.get(journeys=definition, models=[pb.Model(linear=pb.Linear())])

    assert answer.summary.conversions_without_touch == 0
    assert answer.summary.touches == 3
    (channel,) = answer.results[0].channels
    assert (channel.channel, channel.conversions) == ("(not set)", 1.0)
    assert answer.provenance.journeys.conversion_filter == definition.conversion_filter
    assert answer.provenance.journeys.windows == definition.windows


def rule(field: str, text: str, channel: str) -> pb.ChannelRule:
    compare = filter_pb2.FieldComparison(
        field=field,
        operator=filter_pb2.FILTER_OPERATOR_EQUAL,
        values=[struct_pb2.Value(string_value=text)],
    )
    return pb.ChannelRule(filter=filter_pb2.Filter(compare=compare), channel=channel)


GROUPING = pb.ChannelGrouping(
    rules=[rule("channel", "ads", "Paid"), rule("properties.via", "qr", "Field")], otherwise="Rest"
)


async def test_channels_are_grouped_by_rules(clients: Clients) -> None:
    definition = pb.JourneyDefinition(event_name="buy", channel_grouping=GROUPING)
    answer = await clients.demo.get(journeys=definition, models=[pb.Model(linear=pb.Linear())])

    found = {each.channel: each.conversions for each in answer.results[0].channels}
    assert found == {"Paid": 0.5, "Rest": 0.5}
    assert answer.provenance.journeys.channel_grouping == GROUPING


async def test_a_grouping_is_tried_on_touches(clients: Clients) -> None:
    qr = struct_pb2.Struct()
    qr.update({"via": "qr"})
    answer = await clients.demo.test_grouping(
        grouping=GROUPING,
        touches=[
            service_pb.SampleTouch(touchpoint=event_pb2.Touchpoint(channel="ads"), properties=qr),
            service_pb.SampleTouch(touchpoint=event_pb2.Touchpoint(channel="x"), properties=qr),
            service_pb.SampleTouch(touchpoint=event_pb2.Touchpoint(channel="x")),
        ],
    )

    told = [(t.channel, t.rule if t.HasField("rule") else None) for t in answer.touches]
    assert told == [("Paid", 0), ("Field", 1), ("Rest", None)]


async def test_aggregated_paths_are_credited(clients: Clients) -> None:
    paths = [
        service_pb.PathCounts(path="ads > mail", conversions=3, value=30, nulls=1),
        service_pb.PathCounts(path="mail", conversions=1, value=2),
    ]
    models = [pb.Model(linear=pb.Linear()), pb.Model(shapley=pb.Shapley())]
    answer = await clients.demo.evaluate(paths=paths, models=models)

    for result in answer.results:
        told = {c.channel: (c.conversions, c.value) for c in result.channels}
        assert told == {"ads": (1.5, 15.0), "mail": (2.5, 17.0)}
    summary = answer.summary
    assert (summary.converting_journeys, summary.non_converting_journeys) == (4, 1)
    every = await clients.demo.evaluate(paths=paths)
    assert "time_decay" not in {result.model_name for result in every.results}


async def test_aggregated_paths_are_transformed_as_journeys_are(clients: Clients) -> None:
    paths = [
        service_pb.PathCounts(path="ads > ads > mail", conversions=3, value=30, nulls=1),
        service_pb.PathCounts(path="mail > direct", conversions=1, value=2),
    ]
    kinds = (
        pb.PathTransform(
            kind=pb.PATH_TRANSFORM_KIND_REMOVE_IF_LAST_AND_NOT_ALL, channels=["direct"]
        ),
        pb.PathTransform(kind=pb.PATH_TRANSFORM_KIND_FREQUENCY),
    )
    answer = await clients.demo.evaluate(
        paths=paths, models=[pb.Model(linear=pb.Linear())], path_transforms=kinds
    )

    (linear,) = answer.results
    told = {c.channel: (c.conversions, c.value) for c in linear.channels if c.conversions}
    assert told == {"ads(2)": (1.5, 15.0), "mail(1)": (2.5, 17.0)}
    # Transforms take touches out of paths; they were made all the same.
    assert sum(row.touches for row in answer.activity) == 4 * 3 + 2


def path(text: str, conversions: int, value: float, nulls: int) -> service_pb.PathCounts:
    return service_pb.PathCounts(path=text, conversions=conversions, value=value, nulls=nulls)


async def test_calls_give_intervals_and_fits_where_they_are_asked_for(clients: Clients) -> None:
    rows = [path("ads > mail", 60, 90.0, 40), path("mail", 9, 9.0, 80), path("rare", 1, 1.0, 1)]
    models = [pb.Model(linear=pb.Linear()), pb.Model(markov=pb.Markov())]
    plain = await clients.demo.evaluate(paths=rows, models=models)
    few = uncertainty_pb2.Bootstrap(replicates=50, level=0.9)
    held = held_out_pb2.HeldOut(part=0.5)
    full = await clients.demo.evaluate(
        paths=rows, models=models, bootstrap=few, held_out=held, min_units=5
    )

    assert (plain.bootstrap.off, plain.held_out.off, list(plain.fits)) == (True, True, [])
    assert not plain.results[0].channels[0].HasField("intervals")
    assert (full.bootstrap, full.held_out) == (few, held)
    # "rare" alone is too few journeys, and "ads", the next, joins it.
    assert [row.channel for row in full.activity] == ["mail"]
    assert full.suppressed_channels.channels == 2
    for result in full.results:
        spans = result.channels[0].intervals.conversions
        assert spans.low < result.channels[0].conversions < spans.high
        assert result.suppressed.intervals.conversions.low > 0
    assert [fit.why_none == "" for fit in full.fits] == [False, True]
    assert full.fits[1].HasField("auc")
    asked = await clients.demo.get(bootstrap=few, held_out=held)
    assert asked.suppressed_channels.channels == 0
    assert [result.replicates.replicates for result in asked.results] == [50] * 7
    kind = pb.WARNING_KIND_NO_INTERVAL
    # Of one conversion a third of the replicates has none.
    assert len([w for w in asked.warnings if w.kind == kind]) == 7


async def test_paths_tell_no_times(clients: Clients) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await clients.demo.evaluate(
            paths=[service_pb.PathCounts(path="ads", conversions=1)],
            models=[pb.Model(time_decay=pb.TimeDecay())],
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "models[0]" in from_rpc_error(refused.value).message


async def test_credits_are_streamed_with_a_summary(clients: Clients) -> None:
    first, last = await clients.demo.stream(model=pb.Model(linear=pb.Linear()))

    assert [
        (c.conversion_id, c.touch_id, c.unit.type, c.unit.id, c.channel, c.weight, c.value)
        for c in first.credits
    ] == [
        ("c1", "t1", "user", "ann", "ads", 0.5, 5.0),
        ("c1", "t2", "user", "ann", "mail", 0.5, 5.0),
    ]
    assert first.credits[1].touch_time == timestamp(2)
    assert first.credits[1].conversion_time == timestamp(3)
    assert not first.HasField("summary")
    summary = last.summary
    assert (summary.credits, summary.conversions, summary.value) == (2, 1, 10.0)
    assert summary.provenance.watermark == clients.token


async def test_another_project_sees_nothing(clients: Clients) -> None:
    answer = await clients.other.get()
    (only,) = await clients.other.stream(model=pb.Model(linear=pb.Linear()))

    assert answer.summary == pb.JourneySummary()
    assert not answer.activity
    assert only.summary.credits == 0


async def test_a_key_without_the_role_is_denied(clients: Clients) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as denied:
        await clients.assigner.get()
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"journeys": pb.JourneyDefinition(event_name="Not A Name")}, "journeys.event_name"),
        ({"journeys": pb.JourneyDefinition(event_name="buy", unit_type="9")}, "unit_type"),
        (
            {"journeys": pb.JourneyDefinition(event_name="buy", lookback=Duration(seconds=-1))},
            "lookback",
        ),
        (
            {"journeys": pb.JourneyDefinition(event_name="buy", lookback=Duration(nanos=5))},
            "lookback",
        ),
        (
            {"journeys": pb.JourneyDefinition.FromString(b"\x0a\x03buy\x30\x09")},
            "repeat_rule",
        ),
        (
            {
                "journeys": pb.JourneyDefinition(
                    event_name="buy",
                    start_time=Timestamp(seconds=10**12),
                )
            },
            "start_time",
        ),
        (
            {
                "journeys": pb.JourneyDefinition(
                    event_name="buy", end_time=Timestamp(seconds=5, nanos=-1)
                )
            },
            "end_time",
        ),
        (
            {
                "journeys": pb.JourneyDefinition(
                    event_name="buy", start_time=timestamp(3), end_time=timestamp(3)
                )
            },
            "end_time",
        ),
        (
            {
                "journeys": pb.JourneyDefinition(
                    event_name="buy",
                    conversion_filter=filter_pb2.Filter(
                        compare=filter_pb2.FieldComparison(
                            field="channel", operator=filter_pb2.FILTER_OPERATOR_IS_SET
                        )
                    ),
                )
            },
            "journeys.conversion_filter.compare.field",
        ),
        (
            {
                "journeys": pb.JourneyDefinition(
                    event_name="buy", windows=[pb.Window(lookback=Duration(seconds=5))]
                )
            },
            "windows[0]",
        ),
        (
            {
                "journeys": pb.JourneyDefinition(
                    event_name="buy",
                    windows=[pb.Window(channel="ads", lookback=Duration(seconds=5))] * 2,
                )
            },
            "windows[1]",
        ),
        ({"models": [pb.Model()]}, "models[0]"),
        ({"models": [pb.Model(markov=pb.Markov(order=11))]}, "order"),
        (
            {"models": [pb.Model(position_based=pb.PositionBased(first=0.7, last=0.6))]},
            "position_based",
        ),
        (
            {"models": [pb.Model(position_based=pb.PositionBased(first=float("nan")))]},
            "first",
        ),
        ({"consistency_token": "nonsense"}, ""),
    ],
)
async def test_bad_input_is_named(clients: Clients, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await clients.demo.get(**fields)

    error = from_rpc_error(refused.value)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert named in error.message


def test_a_call_has_30_seconds_and_waits_for_data_in_a_part_of_them() -> None:
    service = service_pb.DESCRIPTOR.services_by_name["AttributionService"]
    rule = rule_of(service.methods_by_name["GetAttribution"])
    assert rule is not None
    assert rule.max_duration_s == 30
    assert Settings().attribution_max_wait_s <= 0.8 * rule.max_duration_s
