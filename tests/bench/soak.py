"""Long measurements of the events service, by hand and not in `make bench`:

    python -m tests.bench.soak steady MINUTES [EVENTS_PER_S]   does flushing keep up, is memory flat
    python -m tests.bench.soak fill EVENTS                      what many events take and how fast

Each writes build/soak-<mode>.json.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
from touchstone.events.v1 import (
    event_pb2,
    events_service_pb2,
    events_service_pb2_grpc,
)

from services.results.adapters.lake import LakeMoments
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.observation import Arm, ExperimentPlan, Question
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource, migrate_identity
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.server.platform import open_platform
from shared.settings import Settings
from tests.bench.ingest_load import METHOD, Served, serving
from tests.robustness.faults import PROJECT

EVENTS, UNITS, DAYS = 1_000, 10_000_000, 14
CALLERS, TEMPLATES = 6, 28
SAMPLE_S = 5.0
RESTART_S = 3_600.0
FIRST_DAY_S = 1_790_000_000 // 86_400 * 86_400
ID_DIGITS, UNIT_DIGITS = 12, 8
_PAGE = os.sysconf("SC_PAGESIZE")


class Template:
    """A request whose event ids and units are numbers of fixed width, replaced in its bytes."""

    def __init__(self, day: int) -> None:
        events = [_event(n, day) for n in range(EVENTS)]
        body = events_service_pb2.LogEventsRequest(events=events).SerializeToString()
        self._body = np.frombuffer(body, np.uint8)
        self._ids = _places(body, b"event-", ID_DIGITS)
        self._units = _places(body, b"customer-", UNIT_DIGITS)

    def body(self, number: int) -> bytes:
        """The request with this number: its ids and units are those of no other below 10^9."""
        made = self._body.copy()
        made[self._ids] = _digits(number * EVENTS + np.arange(EVENTS), ID_DIGITS)
        units = (number * (EVENTS // 3) + np.arange(EVENTS) // 3) % UNITS
        made[self._units] = _digits(units, UNIT_DIGITS)
        return made.tobytes()


def _event(n: int, day: int) -> event_pb2.Event:
    event = event_pb2.Event(event_id="event-" + "0" * ID_DIGITS, source="checkout")
    event.unit.type, event.unit.id = "user", "customer-" + "0" * UNIT_DIGITS
    event.event_time.FromSeconds(FIRST_DAY_S + day * 86_400 + n * 80)
    if n % 3 == 0:
        event.exposure.experiment = "new-checkout"
        event.exposure.variant = "treatment" if n % 2 else "control"
    elif n % 3 == 1:
        event.conversion.event_name, event.conversion.value = "purchase", 5.0 + n % 40
    else:
        event.touchpoint.channel, event.touchpoint.interaction = "email", "click"
    return event


def _places(body: bytes, prefix: bytes, digits: int) -> npt.NDArray[np.intp]:
    starts, at = [], body.find(prefix)
    while at >= 0:
        starts.append(at + len(prefix))
        at = body.find(prefix, at + 1)
    assert len(starts) == EVENTS
    return np.array(starts)[:, None] + np.arange(digits)


def _digits(numbers: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.uint8]:
    powers = 10 ** np.arange(count - 1, -1, -1)
    return (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8)


@dataclass(slots=True)
class Sample:
    """The service at one moment."""

    at_s: float
    acknowledged: int
    pending_batches: int
    memory_mb: float
    visible_after_s: float
    """How long after its acknowledgement a batch was visible; sampled."""


class Soak:
    """Callers that send without rest, or at a rate, and write down how the service is."""

    def __init__(self, served: Served, most_events: int, rate: float = 0.0) -> None:
        self._served = served
        self._numbers = itertools.count()
        self._most_calls = most_events // EVENTS
        self._rate = rate
        self._templates = [Template(n % DAYS) for n in range(TEMPLATES)]
        self._stop = threading.Event()
        self.acknowledged = 0
        self.samples: list[Sample] = []
        self._start = time.monotonic()

    def run(self, seconds: float) -> float:
        """Send until the events or the time are used up; the seconds it took."""
        self._start = time.monotonic()
        callers = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        while any(c.is_alive() for c in callers):
            if time.monotonic() - self._start > seconds:
                self._stop.set()
            self._sample()
            time.sleep(0 if self._stop.is_set() else SAMPLE_S)
        return time.monotonic() - self._start

    def _call(self) -> None:
        with grpc.insecure_channel(self._served.process.address) as channel:
            stub: grpc.UnaryUnaryMultiCallable[bytes, events_service_pb2.LogEventsResponse]
            stub = channel.unary_unary(
                METHOD, response_deserializer=events_service_pb2.LogEventsResponse.FromString
            )
            for number in self._due():
                body = self._templates[number % TEMPLATES].body(number)
                self._send(stub, body)
                self.acknowledged += EVENTS

    def _due(self) -> Iterator[int]:
        while not self._stop.is_set() and (number := next(self._numbers)) < self._most_calls:
            if self._rate:
                due = self._start + number * EVENTS / self._rate
                time.sleep(max(0.0, due - time.monotonic()))
            yield number

    def _send(
        self,
        stub: grpc.UnaryUnaryMultiCallable[bytes, events_service_pb2.LogEventsResponse],
        body: bytes,
    ) -> None:
        while True:
            try:
                reply = stub(body, timeout=30, metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                time.sleep(0.5)
            else:
                assert reply.accepted + reply.duplicates == EVENTS, reply
                return

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._served.key}"),)

    def _sample(self) -> None:
        with grpc.insecure_channel(self._served.process.address) as channel:
            stub = events_service_pb2_grpc.EventsServiceStub(channel)
            request = events_service_pb2.GetWatermarkRequest()
            answer = stub.GetWatermark(request, metadata=self._metadata, timeout=30)
            visible_after_s = self._visible_after(stub)
        memory = int(Path(f"/proc/{self._served.process.pid}/statm").read_text().split()[1])
        self.samples.append(
            Sample(
                at_s=round(time.monotonic() - self._start, 1),
                acknowledged=self.acknowledged,
                pending_batches=answer.pending_batches,
                memory_mb=round(memory * _PAGE / 2**20, 1),
                visible_after_s=visible_after_s,
            )
        )
        print(self.samples[-1], file=sys.stderr, flush=True)

    def _visible_after(self, stub: events_service_pb2_grpc.EventsServiceStub) -> float:
        event = _event(1, DAYS - 1)
        event.event_id = f"sample-{time.time_ns()}"
        request = events_service_pb2.LogEventsRequest(events=[event])
        token = stub.LogEvents(request, metadata=self._metadata, timeout=30).consistency_token
        start = time.monotonic()
        lake = LakeEventTables(self._served.process.lake)
        asyncio.run(lake.wait_until(token, timeout_s=120))
        return round(time.monotonic() - start, 3)


def steady(minutes: float, rate: float) -> dict[str, object]:
    """Send for minutes; what the service was like."""
    with tempfile.TemporaryDirectory(dir="build") as folder, serving(Path(folder) / "s") as served:
        soak = Soak(served, 10**12, rate)
        seconds = soak.run(minutes * 60)
        lags = sorted(sample.visible_after_s for sample in soak.samples)
        return {
            "seconds": round(seconds),
            "events": soak.acknowledged,
            "events_per_s": round(soak.acknowledged / seconds),
            "visible_after_median_s": lags[len(lags) // 2],
            "visible_after_most_s": lags[-1],
            "samples": [asdict(sample) for sample in soak.samples],
        }


def fill(events: int) -> dict[str, object]:
    """Send many events; what they take, and how long a question and a restart last."""
    with tempfile.TemporaryDirectory(dir="build") as folder, serving(Path(folder) / "s") as served:
        soak = Soak(served, events)
        seconds = soak.run(1e9)
        found: dict[str, object] = {
            "events": soak.acknowledged,
            "ingest_s": round(seconds, 1),
            "events_per_s": round(soak.acknowledged / seconds),
            "service_cpu_s": round(served.cpu_s(), 1),
            "memory_mb": soak.samples[-1].memory_mb,
            "lake_bytes_per_event": round(_size(served.process.lake) / soak.acknowledged, 2),
        }
        found |= _question(served)
        served.process.terminate()
        start = time.monotonic()
        served.process.begin()
        served.process.wait_started(RESTART_S)
        found["restart_s"] = round(time.monotonic() - start, 1)
        memory = int(Path(f"/proc/{served.process.pid}/statm").read_text().split()[1])
        found["memory_after_restart_mb"] = round(memory * _PAGE / 2**20, 1)
        step = max(1, len(soak.samples) // 40)
        found["samples"] = [asdict(sample) for sample in soak.samples[::step]]
        return found


def _question(served: Served) -> dict[str, object]:
    arms = (Arm("control", 1), Arm("treatment", 1))
    plan = ExperimentPlan("new-checkout", "user", arms, control="control", config_version=1)
    measures = (
        Measure(MetricKind.MEAN, "purchase"),
        Measure(MetricKind.PROPORTION, "purchase"),
    )
    database = open_platform(Settings(data=served.process.data)).database
    migrate_identity(database)
    tables = LakeEventTables(served.process.lake, EngineLimits(threads=2, memory_limit_mb=6000))
    source = LakeMoments(tables, IdentityReader(SqlPolicySource(database)))
    start = time.monotonic()
    answer = source.observe(Question(PROJECT, plan, measures))
    return {"question_s": round(time.monotonic() - start, 1), "question_units": sum(answer.units)}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """See the module."""
    mode, amount, *more = sys.argv[1:]
    found = (
        steady(float(amount), float(more[0]) if more else 0.0)
        if mode == "steady"
        else fill(int(amount))
    )
    found["measured"] = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
    Path(f"build/soak-{mode}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "samples"}, indent=1))


if __name__ == "__main__":
    main()
