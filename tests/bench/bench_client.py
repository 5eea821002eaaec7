"""The Python client: what an event costs the product's thread, and what one sender sustains."""

from __future__ import annotations

import queue
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from touchstone.events.v1 import events_service_pb2
from touchstone_events import Conversion, EventSender, Service, Settings, Unit
from touchstone_events.buffer import Buffer
from touchstone_events.contract import LOG_EVENTS, contract
from touchstone_events.events import NOTHING_MORE, Stamp, encode
from touchstone_events.system import Machine
from touchstone_events.transport import Outcome

from tests.bench.report import BenchRow, compared
from tests.robustness.faults import EventsProcess, make_key

AREA = "client"
# Short passes, and many: on a busy machine a long one is never left alone.
PASS, PASSES = 500, 400
SUSTAINED = 300_000
EVENTS_A_CALL = 1000
UNIT, PURCHASE = Unit("user", "customer-12345"), Conversion("purchase", 19.99, "EUR")


def run() -> list[BenchRow]:
    """The cost of taking an event, and the rate at which they arrive."""
    # It drains as in a product: what its thread costs the caller's is part of the figure.
    sender = EventSender(Service("127.0.0.1:1", "key"), transport=_Nowhere)
    made = Machine()
    buffer = Buffer(Settings(queue_events=1 << 30, queue_bytes=1 << 40), made.monotonic)
    event = _event(0)
    plain: queue.SimpleQueue[object] = queue.SimpleQueue()
    taken, bare, put = _microseconds(
        lambda: sender.track(UNIT, PURCHASE),
        lambda: plain.put(PURCHASE),
        lambda: buffer.put(event),
    )
    sender.close()
    assert sender.stats().sent == sender.stats().taken == PASS * PASSES
    return [
        compared(
            AREA,
            "take an event in the caller's thread",
            ours=taken,
            reference=bare,
            reference_name="queue.SimpleQueue.put of the same object",
            unit="us",
            goal="",
        ),
        compared(
            AREA,
            "of that, the bounded buffer",
            ours=put,
            reference=bare,
            reference_name="queue.SimpleQueue.put of the same object",
            unit="us",
            goal="",
        ),
        _sustained(),
    ]


class _Nowhere:
    """A transport whose calls arrive at once."""

    def start(self, body: bytes, timeout_s: float, done: Callable[[], None]) -> _Arrived:
        return _Arrived(body)

    def disconnect(self) -> None:
        """There is nothing to give up."""

    quiesce = close = disconnect


class _Arrived:
    def __init__(self, body: bytes) -> None:
        self._events = body.count(b"purchase")

    def outcome(self) -> Outcome:
        return Outcome("OK", accepted=self._events)


def _sustained() -> BenchRow:
    """One sender against a bare loop of calls whose requests were made before the clock started."""
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="build") as folder:
        process = EventsProcess(Path(folder) / "data", flush_interval_s=0.5)
        process.data.mkdir()
        key = make_key(process.data)
        process.start()
        try:
            bare = _bare_calls(process.address, key)
            ours = _one_sender(process.address, key)
        finally:
            process.terminate()
    return compared(
        AREA,
        "one sender: taken, sent and acknowledged",
        ours=ours,
        reference=bare,
        reference_name=f"a loop of LogEvents, {EVENTS_A_CALL} prepared events a call",
        unit="events/s",
        goal=">= 0.5",
    )


def _one_sender(address: str, key: str) -> float:
    settings = Settings(queue_events=2 * SUSTAINED, batch_events=EVENTS_A_CALL)
    with EventSender(Service(address, key), settings) as sender:
        start = time.perf_counter()
        for _ in range(SUSTAINED):
            sender.track(UNIT, PURCHASE)
        assert sender.flush(120)
        seconds = time.perf_counter() - start
        assert sender.stats().sent == SUSTAINED, sender.stats()
    return SUSTAINED / seconds


def _bare_calls(address: str, key: str) -> float:
    bodies = [
        b"".join(_event(call * EVENTS_A_CALL + n) for n in range(EVENTS_A_CALL))
        for call in range(SUSTAINED // EVENTS_A_CALL)
    ]
    metadata = (("authorization", f"Bearer {key}"),)
    with grpc.insecure_channel(address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LOG_EVENTS)
        start = time.perf_counter()
        for body in bodies:
            reply = events_service_pb2.LogEventsResponse.FromString(call(body, metadata=metadata))
            assert reply.accepted == EVENTS_A_CALL, reply
        return SUSTAINED / (time.perf_counter() - start)


def _event(number: int) -> bytes:
    stamp = Stamp(f"0198c1f0-0000-7000-8000-{number:012d}", time.time_ns(), "")
    return encode(contract(), UNIT, PURCHASE, NOTHING_MORE, stamp)


def _microseconds(*works: Callable[[], object]) -> list[float]:
    """The best pass of each; they take turns, so that what else runs meets all alike."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(PASSES):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            for _ in range(PASS):
                work()
            taken.append((time.perf_counter() - start) / PASS * 1e6)
    return [min(taken) for taken in times]
