"""LogEvents through gRPC, beside the journal alone and the disk alone with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import queue
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from services.events.adapters.arrow_codec import ArrowCodec
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.domain.event import Event, EventBatch, content_digest
from services.events.domain.limits import Limits
from services.events.wire import decode_items
from shared.ids import RandomIds
from tests.bench.report import BenchRow, compared
from tests.robustness.faults import EventsProcess, make_key

EVENTS = 1000
METHOD = "/touchstone.events.v1.EventsService/LogEvents"
CLIENT_PROCESSES, CALLS_IN_FLIGHT = 2, 4
MEASURE_S = 6.0
BATCHES_PER_CLIENT = 700
ALONE_COMMITS = 300
# The first calls of a process load and compile what the others find ready.
WARM_UP = 20


def run() -> list[BenchRow]:
    """Events a second, and the latency of an acknowledgement."""
    batch = ArrowCodec().encode(_domain_batch())
    with tempfile.TemporaryDirectory(dir=_disk_folder()) as folder:
        raw = _rate(_raw_append(Path(folder) / "raw", batch))
        journal = SqliteJournal(Path(folder) / "journal.db", RandomIds())
        alone = _rate(lambda: journal.append([batch]))
        journal.close()
        ingest = _ingest(Path(folder) / "service")
    unit = "events/s"
    return [
        compared(
            "events",
            f"LogEvents, {EVENTS} a call, {CLIENT_PROCESSES * CALLS_IN_FLIGHT} callers",
            ours=ingest.rate,
            reference=alone,
            reference_name="SQLite journal alone, same bytes",
            unit=unit,
            goal="",
        ),
        compared(
            "events",
            f"journal alone, {EVENTS} a commit",
            ours=alone,
            reference=raw,
            reference_name="append + fdatasync, same bytes",
            unit=unit,
            goal="",
        ),
        compared(
            "events",
            "LogEvents p99 with one caller",
            ours=ingest.p99_s * 1e3,
            reference=1e3 * EVENTS / alone,
            reference_name="mean commit of the journal alone",
            unit="ms",
            goal="",
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Ingest:
    rate: float
    p99_s: float


def _ingest(folder: Path) -> _Ingest:
    folder.mkdir()
    process = EventsProcess(folder / "data", flush_interval_s=0.5)
    key = make_key(process.data)
    process.start()
    try:
        latencies = _one_caller(process.address, key)
        rate = _many_callers(process.address, key)
    finally:
        process.terminate()
    return _Ingest(rate, sorted(latencies)[int(len(latencies) * 0.99)])


def _one_caller(address: str, key: str) -> list[float]:
    bodies = [_body(f"one-{n}") for n in range(WARM_UP + 200)]
    latencies = []
    with grpc.insecure_channel(address) as channel:
        call = _call(channel, key)
        for body in bodies:
            start = time.perf_counter()
            call(body)
            latencies.append(time.perf_counter() - start)
    return latencies[WARM_UP:]


def _many_callers(address: str, key: str) -> float:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(CLIENT_PROCESSES + 1)
    done: multiprocessing.Queue[tuple[int, float]] = context.Queue()
    clients = [
        context.Process(target=_client, args=(address, key, n, ready, done))
        for n in range(CLIENT_PROCESSES)
    ]
    for client in clients:
        client.start()
    ready.wait(120)
    answers = [done.get(timeout=120) for _ in clients]
    for client in clients:
        client.join()
    return sum(calls * EVENTS / seconds for calls, seconds in answers)


def _client(address: str, key: str, number: int, ready: object, done: object) -> None:
    """Bodies are made before the clock starts: the service is measured, not the client."""
    bodies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for n in range(BATCHES_PER_CLIENT):
        bodies.put(_body(f"many-{number}-{n}"))
    with grpc.insecure_channel(address) as channel:
        call = _call(channel, key)
        ready.wait(120)  # type: ignore[attr-defined]
        start = time.perf_counter()

        def work() -> int:
            calls = 0
            while time.perf_counter() - start < MEASURE_S and not bodies.empty():
                call(bodies.get())
                calls += 1
            return calls

        with ThreadPoolExecutor(CALLS_IN_FLIGHT) as pool:
            calls = sum(f.result() for f in [pool.submit(work) for _ in range(CALLS_IN_FLIGHT)])
    done.put((calls, time.perf_counter() - start))  # type: ignore[attr-defined]


def _call(channel: grpc.Channel, key: str) -> Callable[[bytes], object]:
    stub: grpc.UnaryUnaryMultiCallable[bytes, events_service_pb2.LogEventsResponse]
    stub = channel.unary_unary(
        METHOD, response_deserializer=events_service_pb2.LogEventsResponse.FromString
    )

    def call(body: bytes) -> object:
        reply = stub(body, timeout=30, metadata=(("authorization", f"Bearer {key}"),))
        assert reply.accepted == EVENTS, reply
        return reply

    return call


def _body(prefix: str) -> bytes:
    return events_service_pb2.LogEventsRequest(events=_events(prefix)).SerializeToString()


def _events(prefix: str) -> list[event_pb2.Event]:
    events = []
    for n in range(EVENTS):
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


def _domain_batch() -> EventBatch:
    items = decode_items(_events("alone"), {}, Limits())
    events = tuple(item for item in items if isinstance(item, Event))
    return EventBatch("robust", 0, events, tuple(content_digest(e) for e in events))


def _rate(commit: Callable[[], object], commits: int = ALONE_COMMITS) -> float:
    start = time.perf_counter()
    for _ in range(commits):
        commit()
    return commits * EVENTS / (time.perf_counter() - start)


def _raw_append(path: Path, batch: bytes) -> Callable[[], object]:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append() -> None:
        os.write(file, batch)
        os.fdatasync(file)

    return append


def _disk_folder() -> Path:
    """A folder on a real disk: the system's temporary folder may be memory."""
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    return folder
