"""Load for the events service, from processes of its own so that the service has its core."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from services.events.batch import Batch
from services.events.domain.limits import Limits
from services.events.wire.columns import EventDecoder
from shared.server.validation import RequestValidator
from tests.robustness.faults import EventsProcess, make_key

EVENTS = 1000
METHOD = "/touchstone.events.v1.EventsService/LogEvents"
CLIENT_PROCESSES = 2
MEASURE_S = 6.0
READY_S = 300.0
# The first calls of a process load and compile what the others find ready.
WARM_UP = 20
MOST_EVENTS_PREPARED = 1_500_000
UNLIMITED = {"TOUCHSTONE_RATE_EVENTS_PER_S": "1e9", "TOUCHSTONE_RATE_BYTES_PER_S": "1e12"}
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Load:
    """How many callers, how many events in each call, and how often; as fast as it goes at 0."""

    callers: int
    events: int
    calls_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Served:
    """A running service and a key for it."""

    process: EventsProcess
    key: str

    def cpu_s(self) -> float:
        """The processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S


@dataclass(frozen=True, slots=True)
class Measured:
    """What a load brought."""

    rate: float
    """Events a second."""
    per_cpu_s: float
    """Events for each second of processor time of the service."""
    latencies_s: tuple[float, ...]

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the calls kept below."""
        return 1e3 * sorted(self.latencies_s)[int(len(self.latencies_s) * share)]


@contextmanager
def serving(folder: Path, flush_interval_s: float = 0.5) -> Iterator[Served]:
    """The events service on a folder of its own."""
    folder.mkdir()
    process = EventsProcess(folder / "data", flush_interval_s=flush_interval_s, more=UNLIMITED)
    key = make_key(process.data)
    process.start()
    try:
        yield Served(process, key)
    finally:
        process.terminate()


def offered(served: Served, load: Load) -> Measured:
    """Offer the load for MEASURE_S, after a warm-up."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(CLIENT_PROCESSES + 1), context.Queue()
    arguments = (served.process.address, served.key, load, ready, done)
    clients = [
        context.Process(target=_client, args=(f"{time.time_ns()}-{n}", *arguments))
        for n in range(CLIENT_PROCESSES)
    ]
    for client in clients:
        client.start()
    ready.wait(READY_S)
    cpu_s = served.cpu_s()
    answers = [done.get(timeout=READY_S) for _ in clients]
    cpu_s = served.cpu_s() - cpu_s
    for client in clients:
        client.join()
    latencies = tuple(latency for of_client, _ in answers for latency in of_client)
    rate = sum(len(of_client) * load.events / seconds for of_client, seconds in answers)
    return Measured(rate, len(latencies) * load.events / cpu_s, latencies)


def _client(
    name: str,
    address: str,
    key: str,
    load: Load,
    ready: object,
    done: multiprocessing.Queue[object],
) -> None:
    """Bodies are made before the clock starts: the service is measured, not the client."""
    callers = load.callers // CLIENT_PROCESSES
    prepared = MOST_EVENTS_PREPARED // CLIENT_PROCESSES // load.events
    bodies = [request_of(f"{name}-{n}", load.events) for n in range(min(prepared, 20_000))]
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(callers) as pool:
        call = _call(channel, key, load.events)
        for n in range(WARM_UP):
            call(request_of(f"{name}-warm-{n}", load.events))
        ready.wait(READY_S)  # type: ignore[attr-defined]  # a barrier of another process
        start = time.perf_counter()
        pace_s = _pace(load)
        # Callers that keep a pace are not in step with each other.
        work = [
            pool.submit(_calls, call, bodies[n::callers], start + pace_s * n / callers, pace_s)
            for n in range(callers)
        ]
        latencies = [latency for future in work for latency in future.result()]
        done.put((latencies, time.perf_counter() - start))


def _pace(load: Load) -> float:
    """Seconds between two calls of one caller."""
    return load.callers / load.calls_per_s if load.calls_per_s else 0.0


def _calls(
    call: Callable[[bytes], object], bodies: list[bytes], start: float, pace_s: float
) -> list[float]:
    """Latencies, from when a call was due: one that waits for the one before counts from then."""
    latencies = []
    for n, body in enumerate(bodies):
        due = start + n * pace_s if pace_s else time.perf_counter()
        if due - start >= MEASURE_S:
            break
        time.sleep(max(0.0, due - time.perf_counter()))
        call(body)
        latencies.append(time.perf_counter() - due)
    return latencies


def _call(channel: grpc.Channel, key: str, events: int) -> Callable[[bytes], object]:
    stub: grpc.UnaryUnaryMultiCallable[bytes, events_service_pb2.LogEventsResponse]
    stub = channel.unary_unary(
        METHOD, response_deserializer=events_service_pb2.LogEventsResponse.FromString
    )

    def call(body: bytes) -> object:
        reply = stub(body, timeout=30, metadata=(("authorization", f"Bearer {key}"),))
        assert reply.accepted == events, reply
        return reply

    return call


def request_of(prefix: str, count: int = EVENTS) -> bytes:
    """A LogEvents request of exposures, conversions and touchpoints."""
    return events_service_pb2.LogEventsRequest(events=_events(prefix, count)).SerializeToString()


def _events(prefix: str, count: int) -> list[event_pb2.Event]:
    events = []
    for n in range(count):
        event = event_pb2.Event(
            event_id=f"0198c1f0-{prefix}-{n:08d}",
            unit=unit_pb2.UnitId(type="user", id=f"customer-{n * 7919 % 100_003}"),
            source="checkout",
        )
        event.event_time.FromSeconds(1_790_000_000 + n)
        if n % 3 == 0:
            event.exposure.experiment, event.exposure.variant = "new-checkout", "treatment"
        elif n % 3 == 1:
            event.conversion.event_name, event.conversion.value = "purchase", 19.99
        else:
            event.touchpoint.channel, event.touchpoint.interaction = "email", "click"
        events.append(event)
    return events


def event_batch(count: int = EVENTS) -> Batch:
    """The same events as they go to the journal."""
    decoder = EventDecoder(Limits(), RequestValidator().first_violation)
    request = events_service_pb2.LogEventsRequest(events=_events("alone", count))
    portions = decoder.decode(request).portions
    return Batch("robust", 0, tuple((portion, portion.digests()) for portion in portions))
