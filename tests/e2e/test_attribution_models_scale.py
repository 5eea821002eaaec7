"""Five hundred channels, a journey of ten thousand touches, a channel with one conversion: figures
are right, and what is thin or refused is said, in few words.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from scipy import sparse
from scipy.sparse.linalg import spsolve
from touchstone.attribution.v1 import (
    attribution_pb2,
    attribution_service_pb2_grpc,
    held_out_pb2,
    uncertainty_pb2,
)
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

from tests.e2e import model_oracles as oracle
from tests.e2e.model_oracles import Journey
from tests.e2e.suite import Suite
from tests.e2e.test_loop import log

START = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
NAMES = [f"channel-{number:03}" for number in range(500)]
ONCE = "only-once"
LONG = 10_000
DEFINITION = attribution_pb2.JourneyDefinition(event_name="order")


def drawn_journeys() -> list[Journey]:
    """Six thousand short journeys, one long one through all channels, and one of a rare channel."""
    draw = np.random.default_rng(500)
    found = []
    for number in range(6_000):
        codes = draw.integers(0, len(NAMES), draw.integers(1, 4)).tolist()
        bought = draw.random() < 0.05
        path = tuple(NAMES[code] for code in codes)
        found.append(Journey(f"user-{number}", path, (), 10.0 if bought else None))
    whole = tuple(NAMES[touch % len(NAMES)] for touch in range(LONG))
    found.append(Journey("robot", whole, (), 10.0))
    found.append(Journey("one", (NAMES[1], ONCE), (), 10.0))
    return found


def events_of(journeys: list[Journey]) -> Iterator[event_pb2.Event]:
    for journey in journeys:
        for place in range(len(journey.path) + journey.bought):
            stamp = Timestamp()
            stamp.FromDatetime(START + dt.timedelta(seconds=place))
            event = event_pb2.Event(
                event_id=f"{journey.unit}-{place}",
                event_time=stamp,
                unit=unit_pb2.UnitId(type="user", id=journey.unit),
            )
            if place < len(journey.path):
                event.touchpoint.channel = journey.path[place]
            else:
                event.conversion.event_name = "order"
                event.conversion.value = journey.value or 0.0
            yield event


@dataclass(frozen=True)
class World:
    """A suite that keeps ten thousand touches of a journey, and what was logged to it."""

    suite: Suite
    journeys: list[Journey]
    token: str

    def ask(self, *models: attribution_pb2.Model, **fields: object) -> pb.GetAttributionResponse:
        stub = attribution_service_pb2_grpc.AttributionServiceStub(
            self.suite.channel("attribution")
        )
        definition = attribution_pb2.JourneyDefinition(
            event_name="order", max_touches=int(str(fields.pop("max_touches", 0)))
        )
        request = pb.GetAttributionRequest(
            journeys=definition,
            models=models,
            consistency_token=self.token,
            **fields,  # type: ignore[arg-type]
        )
        return stub.GetAttribution(request, metadata=self.suite.metadata)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    suite = Suite(tmp_path_factory.mktemp("scale") / "data")
    suite.environment["TOUCHSTONE_ATTRIBUTION_MAX_TOUCHES_PER_JOURNEY"] = str(LONG)
    suite.start()
    journeys = drawn_journeys()
    yield World(suite, journeys, log(suite, list(events_of(journeys))))
    assert suite.stop() == 0


def credits_of(
    answer: pb.GetAttributionResponse, name: str
) -> dict[str, attribution_pb2.ChannelCredit]:
    (result,) = (result for result in answer.results if result.model_name == name)
    return {channel.channel: channel for channel in result.channels}


def game(which: attribution_pb2.ShapleyGame.ValueType) -> attribution_pb2.Model:
    return attribution_pb2.Model(shapley=attribution_pb2.Shapley(game=which))


ADDITIVE = (
    attribution_pb2.Model(linear=attribution_pb2.Linear()),
    attribution_pb2.Model(last_touch=attribution_pb2.LastTouch()),
    game(attribution_pb2.SHAPLEY_GAME_SIMPLIFIED),
    attribution_pb2.Model(fractribution=attribution_pb2.Fractribution()),
    attribution_pb2.Model(probabilistic=attribution_pb2.Probabilistic()),
    attribution_pb2.Model(additive_hazard=attribution_pb2.AdditiveHazard()),
    attribution_pb2.Model(markov=attribution_pb2.Markov(order=1)),
)


def test_every_conversion_is_credited_once_among_five_hundred_channels(world: World) -> None:
    answer = world.ask(*ADDITIVE)
    bought = sum(journey.bought for journey in world.journeys)

    assert len(answer.activity) == 501
    assert answer.summary.touches == sum(len(journey.path) for journey in world.journeys)
    assert len(answer.results) == len(ADDITIVE) + 1
    for result in answer.results:
        credited = sum(channel.conversions for channel in result.channels)
        assert credited == pytest.approx(bought), result.model_name
    assert credits_of(answer, "linear")[ONCE].conversions == pytest.approx(0.5)
    assert credits_of(answer, "last_touch")[ONCE].conversions == 1
    assert credits_of(answer, "shapley_simplified")[ONCE].conversions == pytest.approx(0.5)
    share = Counter(path for j in world.journeys if j.bought for path in set(j.path))
    linear = credits_of(answer, "linear")
    for name in (NAMES[0], NAMES[250]):
        expected = sum(j.path.count(name) / len(j.path) for j in world.journeys if j.bought)
        assert share[name] >= 1
        assert linear[name].conversions == pytest.approx(expected)


@pytest.mark.parametrize(("order", "most"), [(1, LONG), (2, 50), (2, LONG), (3, LONG)])
def test_chains_lose_no_channel(world: World, order: int, most: int) -> None:
    model = attribution_pb2.Model(markov=attribution_pb2.Markov(order=order))
    said = credits_of(world.ask(model, max_touches=most), "markov_removal_share")
    newest = [Journey(j.unit, j.path[-most:], (), j.value) for j in world.journeys]
    steps = oracle.steps_of(newest, order)
    whole = chain_value(steps, "")

    for name in (ONCE, NAMES[1], NAMES[460]):
        lost = 1 - chain_value(steps, name) / whole
        assert said[name].removal_effect == pytest.approx(lost, rel=1e-6, abs=1e-12)
    assert said[ONCE].removal_effect > 0
    # A chain mixes journeys, so that others may lie on its way to a conversion too.
    bought = {name for j in newest if j.bought for name in j.path}
    assert bought <= {name for name, channel in said.items() if channel.conversions > 0}


def chain_value(steps: oracle.Steps, without: str) -> float:
    """The chance of a conversion from the start, steps to states that hold a channel left out."""
    names = [s for s in steps if not (without and isinstance(s, tuple) and without in s)]
    place = {state: row for row, state in enumerate(names)}
    rows, columns, parts = [], [], []
    ends = np.zeros(len(names))
    for here, row in place.items():
        total = steps[here].total()
        ends[row] = steps[here][oracle.CONVERSION] / total
        for there, times in steps[here].items():
            if there in place:
                rows.append(row)
                columns.append(place[there])
                parts.append(times / total)
    size = (len(names), len(names))
    moves = sparse.csc_array((parts, (rows, columns)), shape=size)
    return float(spsolve(sparse.eye_array(*size, format="csc") - moves, ends)[place[oracle.START]])


def test_thin_channels_are_said_in_few_words(world: World) -> None:
    answer = world.ask(
        *ADDITIVE[:2],
        ADDITIVE[-1],
        bootstrap=uncertainty_pb2.Bootstrap(replicates=40),
        held_out=held_out_pb2.HeldOut(part=0.2),
    )
    kinds = Counter(warning.kind for warning in answer.warnings)

    assert kinds[attribution_pb2.WARNING_KIND_RARE_CHANNEL] == 1
    assert kinds[attribution_pb2.WARNING_KIND_WIDE_INTERVAL] <= 4
    assert len(answer.warnings) <= 12
    (rare,) = (w for w in answer.warnings if w.kind == attribution_pb2.WARNING_KIND_RARE_CHANNEL)
    assert rare.message.startswith("501 channels are in fewer than 30 converting journeys")
    assert all(len(warning.message) < 600 for warning in answer.warnings)


def test_what_is_cut_off_is_said(world: World) -> None:
    whole, cut = world.ask(ADDITIVE[0]), world.ask(ADDITIVE[0], max_touches=50)
    truncated = attribution_pb2.WARNING_KIND_JOURNEYS_TRUNCATED

    assert truncated not in {warning.kind for warning in whole.warnings}
    assert truncated in {warning.kind for warning in cut.warnings}
    # The newest fifty touches are those of the last fifty channels.
    assert credits_of(whole, "linear")[NAMES[0]].conversions == pytest.approx(
        credits_of(cut, "linear")[NAMES[0]].conversions + 1 / 500
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (game(attribution_pb2.SHAPLEY_GAME_EXACT_SET_RATE), "20"),
        (game(attribution_pb2.SHAPLEY_GAME_SUBSET_RATE), "20"),
        (game(attribution_pb2.SHAPLEY_GAME_LEARNED), "at most"),
        (
            attribution_pb2.Model(bagged_logistic=attribution_pb2.BaggedLogistic(rounds=1_000)),
            "at most",
        ),
        (attribution_pb2.Model(markov=attribution_pb2.Markov(order=7)), "6"),
    ],
    ids=["exact sets", "subsets", "learned", "bagged", "order"],
)
def test_what_so_many_channels_do_not_allow_is_refused_with_what_they_do(
    world: World, model: attribution_pb2.Model, said: str
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        world.ask(model)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in str(raised.value.details())


def test_a_path_of_ten_thousand_touches_in_a_request(world: World) -> None:
    stub = attribution_service_pb2_grpc.AttributionServiceStub(world.suite.channel("attribution"))
    short = [name.removeprefix("channel-") for name in NAMES]
    long = ">".join(short[touch % 500] for touch in range(LONG))
    rows = [
        pb.PathCounts(path=long, conversions=1, value=7.0),
        pb.PathCounts(path=f"{short[1]}>{ONCE}", conversions=1, value=3.0),
        *(pb.PathCounts(path=name, nulls=5) for name in short),
    ]
    reply = stub.EvaluatePaths(
        pb.EvaluatePathsRequest(paths=rows, models=[*ADDITIVE[:3], ADDITIVE[6]]),
        metadata=world.suite.metadata,
    )
    by_name = {result.model_name: result.channels for result in reply.results}
    linear = {channel.channel: channel for channel in by_name["linear"]}

    assert linear[ONCE].conversions == pytest.approx(0.5)
    assert linear[short[0]].conversions == pytest.approx(1 / 500)
    for result in reply.results:
        assert sum(c.conversions for c in result.channels) == pytest.approx(2)
        assert sum(c.value for c in result.channels) == pytest.approx(10)
