"""The servicer bounds what is computed at once, and how long data is waited for."""

import asyncio
import datetime as dt
import threading
import time
from typing import cast

import grpc
import pytest
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb

from services.attribution.adapters.memory import MemoryJourneyLog
from services.attribution.api.attribution import AttributionServicer
from services.attribution.api.channel_groupings import KeptGroupings
from services.attribution.api.scores import score_places
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, Groupings, JourneyEvents
from services.attribution.score_ports import KeptScores
from shared.lake.analyses import Analyses
from shared.testing.fakes import calling

# No definition here names a grouping: nothing is looked up.
NO_GROUPINGS = KeptGroupings(cast(Groupings, None))
# No stream of credits is asked for here.
NO_SCORES = (cast(KeptScores, None), score_places(1))
METHOD = "/touchstone.attribution.v1.AttributionService/GetAttribution"


class SlowLog:
    """Empty, and notes how many read it at once and what they asked."""

    def __init__(self) -> None:
        self.queries: list[EventQuery] = []
        self.waits: list[tuple[str, float]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._empty = MemoryJourneyLog([], [], dt.datetime(2026, 1, 1, tzinfo=dt.UTC))

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        self.waits.append((at_least, timeout_s))

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
    request = service_pb.GetAttributionRequest(
        journeys=pb.JourneyDefinition(event_name="buy"), consistency_token="token"
    )
    await servicer.GetAttribution(request, cast(grpc.ServicerContext, Deadline(left_s)))


async def test_only_so_many_are_computed_at_once() -> None:
    log, analyses = SlowLog(), Analyses(at_once=2, in_line=4)
    with calling(METHOD):
        servicer = AttributionServicer(log, AttributionLimits(), analyses, NO_GROUPINGS, NO_SCORES)
        await asyncio.gather(*(ask(servicer) for _ in range(6)))
    analyses.close()

    assert len(log.queries) == 6
    assert log.most_at_once == 2


@pytest.mark.parametrize(("left_s", "wait_s"), [(None, 20.0), (1_000.0, 20.0), (10.0, 8.0)])
async def test_data_is_waited_for_within_the_deadline(left_s: float | None, wait_s: float) -> None:
    log, analyses = SlowLog(), Analyses(at_once=1, in_line=0)
    with calling(METHOD, project="acme"):
        servicer = AttributionServicer(log, AttributionLimits(), analyses, NO_GROUPINGS, NO_SCORES)
        await ask(servicer, left_s)
    analyses.close()

    ((token, waited_s),) = log.waits
    assert token == "token"
    assert waited_s == pytest.approx(wait_s)
    (query,) = log.queries
    assert query.project == "acme"
