"""The servicer over fakes: what it does to the event loop, and what it keeps and answers."""

import asyncio
import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from services.events.adapters.arrow_codec import ArrowCodec
from services.events.adapters.instruments import count_items, show_pending
from services.events.api.intake import Intake
from services.events.api.log import EventsServicer
from services.events.application.admission import open_admission
from services.events.application.fair_turns import FairTurns
from services.events.application.group_commit import Durable, GroupCommit
from services.events.application.keep_rejected import GroupKeep
from services.events.application.log_events import EventLog
from services.events.application.pending import PendingBatches
from services.events.application.receive_time import ReceiveTime
from services.events.domain.dedupe import DedupeWindow
from services.events.domain.limits import Limits
from services.events.wire.columns import EventDecoder
from shared.lake.watermark import NOTHING_WRITTEN
from shared.security.caller import CALL, Call, Caller
from shared.server.validation import RequestValidator
from shared.testing.fakes import FixedClock
from tests.unit.events import events_fakes as fakes

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)


@dataclass
class Bench:
    servicer: EventsServicer
    journal: fakes.MemoryJournal
    rejected: fakes.MemoryRejected
    reader: InMemoryMetricReader

    async def log(
        self, *events: event_pb2.Event, project: str = "acme"
    ) -> events_service_pb2.LogEventsResponse:
        CALL.set(Call(Caller(project, "k", frozenset()), "LogEvents", "r", ""))
        request = events_service_pb2.LogEventsRequest(events=events)
        return await self.servicer.LogEvents(request, None)  # type: ignore[arg-type]


@pytest.fixture
def bench() -> Iterator[Bench]:
    journal, rejected, limits = fakes.MemoryJournal(), fakes.MemoryRejected(), Limits()
    window: DedupeWindow[Durable] = DedupeWindow(30)
    commits = GroupCommit(journal, ArrowCodec(), limits)
    pending = PendingBatches(lambda: 0)
    keeping = GroupKeep(rejected, limits)
    log = EventLog(window, commits, keeping, ReceiveTime(FixedClock(NOW)), limits, pending)
    reader = InMemoryMetricReader()
    meter = MeterProvider(metric_readers=[reader]).get_meter("test")
    show_pending(meter, pending.total)
    turns = FairTurns(limits.threads)
    validator = RequestValidator()
    decoder = EventDecoder(limits, validator.first_violation)
    intake = Intake(open_admission(), log, validator, decoder, count_items(meter), turns)
    servicer = EventsServicer(intake, "memory", lambda: NOTHING_WRITTEN)
    yield Bench(servicer, journal, rejected, reader)
    commits.close()
    keeping.close()


def conversion(event_id: str, **properties: Any) -> event_pb2.Event:
    event = event_pb2.Event(event_id=event_id, unit=unit_pb2.UnitId(type="user", id="u1"))
    event.event_time.FromDatetime(NOW)
    event.conversion.event_name = "buy"
    event.properties.update(properties)
    return event


async def longest_pause(done: asyncio.Event) -> float:
    """The longest time for which the event loop did nothing else."""
    longest, last = 0.0, time.perf_counter()
    while not done.is_set():
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - last)
        last = time.perf_counter()
    return longest


async def test_a_heavy_batch_does_not_hold_up_other_calls(bench: Bench) -> None:
    """A legal batch of many small values takes seconds; other calls go on meanwhile."""
    heavy = conversion("0", x=[[] for _ in range(3_500)])
    batch = [event_pb2.Event() for _ in range(200)]
    for number, event in enumerate(batch):
        event.CopyFrom(heavy)
        event.event_id = str(number)
    done = asyncio.Event()
    pause = asyncio.create_task(longest_pause(done))
    await asyncio.sleep(0.01)
    began = time.perf_counter()
    reply = await bench.log(*batch)
    took = time.perf_counter() - began
    done.set()
    assert (reply.accepted, list(reply.rejected)) == (200, [])
    assert took > 0.2, "otherwise this shows nothing"
    # Done on the loop it would be the whole time.
    assert await pause < 0.8 * took


async def test_two_heavy_batches_at_once_count_an_id_once(bench: Bench) -> None:
    batch = [conversion(str(n), x="a" * 10_000) for n in range(100)]
    replies = await asyncio.gather(*(bench.log(*batch) for _ in range(3)))
    assert sorted(reply.accepted for reply in replies) == [0, 0, 100]
    assert sorted(reply.duplicates for reply in replies) == [0, 100, 100]


async def test_a_heavy_caller_that_goes_away_leaves_no_reservation_behind(bench: Bench) -> None:
    batch = [conversion(str(n), x="a" * 10_000) for n in range(100)]
    for wait_s in (0.0, 0.002, 0.01, 0.02):
        task = asyncio.create_task(bench.log(*batch))
        await asyncio.sleep(wait_s)
        task.cancel()
        await asyncio.wait([task])
    reply = await bench.log(*batch)
    assert reply.accepted + reply.duplicates == 100


async def test_the_same_rejection_has_the_same_payload(bench: Bench) -> None:
    """Properties are a map: in another order they are the same event."""
    names = [f"name{i}" for i in range(20)]
    for order in (names, names[::-1], sorted(names, key=hash)):
        event = conversion("late", **dict.fromkeys(order, "x"))
        event.event_time.FromDatetime(NOW + dt.timedelta(days=2))
        reply = await bench.log(event)
        assert len(reply.rejected) == 1
    assert len({kept.payload for kept in bench.rejected.kept}) == 1


def measured(reader: InMemoryMetricReader) -> dict[str, dict[str, float]]:
    """Of each metric its value by the values of its labels."""
    data = reader.get_metrics_data()
    assert data is not None
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    return {
        metric.name: {
            ",".join(str(v) for v in (point.attributes or {}).values()): point.value  # type: ignore[union-attr]
            for point in metric.data.data_points
        }
        for metric in scope.metrics
    }


async def test_what_became_of_each_event_is_counted(bench: Bench) -> None:
    late = conversion("late")
    late.event_time.FromDatetime(NOW + dt.timedelta(days=2))
    await bench.log(conversion("a"), conversion("b"), late)
    await bench.log(conversion("a"), conversion("c"), conversion("b", x=1))
    assert measured(bench.reader) == {
        "touchstone.events.items": {
            "accepted": 3,
            "rejected,event_time_out_of_range": 1,
            "rejected,conflicting_duplicate": 1,
            "duplicate": 1,
        },
        "touchstone.events.pending": {"": 2},
    }
