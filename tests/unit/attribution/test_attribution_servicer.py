"""The servicer bounds what is computed at once, and how long data is waited for."""

import asyncio
import datetime as dt
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import grpc
import pytest
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb

from services.attribution.adapters.memory import MemoryJourneyLog
from services.attribution.api import AttributionServicer
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents
from shared.testing.fakes import calling

METHOD = "/touchstone.attribution.v1.AttributionService/GetAttribution"


class SlowLog:
    """Empty, and notes how many read it at once and what they asked."""

    def __init__(self) -> None:
        self.queries: list[EventQuery] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._empty = MemoryJourneyLog([], [], dt.datetime(2026, 1, 1, tzinfo=dt.UTC))

    def read(self, query: EventQuery) -> JourneyEvents:
        with self._lock:
            self.queries.append(query)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(0.05)
        with self._lock:
            self._at_once -= 1
        return self._empty.read(query)


class Deadline:
    """The part of a gRPC context that is used."""

    def __init__(self, left_s: float | None) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float | None:
        return self._left_s


async def ask(servicer: AttributionServicer, left_s: float | None = None) -> None:
    request = service_pb.GetAttributionRequest(journeys=pb.JourneyDefinition(event_name="buy"))
    await servicer.GetAttribution(request, cast(grpc.ServicerContext, Deadline(left_s)))


async def test_only_so_many_are_computed_at_once() -> None:
    log = SlowLog()
    with ThreadPoolExecutor(2) as computing, calling(METHOD):
        servicer = AttributionServicer(log, AttributionLimits(), computing)
        await asyncio.gather(*(ask(servicer) for _ in range(6)))

    assert len(log.queries) == 6
    assert log.most_at_once == 2


@pytest.mark.parametrize(("left_s", "wait_s"), [(None, 60.0), (1_000.0, 60.0), (10.0, 8.0)])
async def test_data_is_waited_for_within_the_deadline(left_s: float | None, wait_s: float) -> None:
    log = SlowLog()
    with ThreadPoolExecutor(1) as computing, calling(METHOD, project="acme"):
        await ask(AttributionServicer(log, AttributionLimits(), computing), left_s)

    (query,) = log.queries
    assert query.wait_s == pytest.approx(wait_s)
    assert query.project == "acme"
