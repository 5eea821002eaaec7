"""Export of log records by either door, beside LogEvents of the same events and the parsing alone.

The service's own processor time is what counts: the callers share the machine with it.
"""

from __future__ import annotations

import http.client
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from touchstone.events.v1 import events_service_pb2

from services.events.api.otlp import SERVICE
from services.events.api.otlp_records import RecordRule, read_records
from services.events.api.otlp_wire import EncodedExport
from shared.testing.ports import free_port
from tests.bench.ingest_load import METHOD, UNLIMITED, Served
from tests.bench.report import BUILD, BenchRow, compared
from tests.robustness.faults import EventsProcess, make_key

RECORDS = 512
CALLERS = 4
CALLS = 120
WARM_UP = 10
PARSES = 60
RULE = RecordRule("user", frozenset({"split", "targeting_match"}))
# What the hook for Node tells of an evaluation.
ATTRIBUTES = {
    "feature_flag.key": "checkout",
    "feature_flag.provider.name": "splitter",
    "feature_flag.result.reason": "split",
    "feature_flag.result.variant": "treatment",
    "feature_flag.result.value": "treatment",
    "feature_flag.set.id": "prod",
    "feature_flag.version": "12",
}
Call = Callable[[bytes], None]


def run() -> list[BenchRow]:
    """Records for each second of processor time."""
    start_ns = time.time_ns()
    exports = [export(start_ns + n * 10_000_000) for n in range(3 * (CALLS + WARM_UP))]
    third = len(exports) // 3
    with running() as (served, address):
        by_grpc = _rate(served, exports[:third], lambda: _grpc_caller(served, f"/{SERVICE}/Export"))
        by_http = _rate(served, exports[third : 2 * third], lambda: _http_caller(address, served))
        same = [_log_events(body) for body in exports[2 * third :]]
        logged = _rate(served, same, lambda: _grpc_caller(served, METHOD))
    alone = _parse_rate(exports[0])
    unit = "records/cpu s"
    return [
        _row("Export by gRPC", by_grpc, alone, "parsing the same bytes alone", unit),
        _row("Export by gRPC", by_grpc, logged, "LogEvents of the same events", unit),
        _row("Export by HTTP", by_http, by_grpc, "Export by gRPC", unit),
    ]


def _row(name: str, ours: float, reference: float, reference_name: str, unit: str) -> BenchRow:
    return compared(
        "otlp",
        f"{name}, {RECORDS} a call",
        ours=ours,
        reference=reference,
        reference_name=reference_name,
        unit=unit,
        goal="",
    )


def export(start_ns: int) -> bytes:
    """An export whose records are evaluations of one flag for one user after another."""
    request = logs_service_pb2.ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    for name, text in {"service.name": "shop", "service.instance.id": "pod-1"}.items():
        logs.resource.attributes.add(key=name).value.string_value = text
    scoped = logs.scope_logs.add()
    scoped.scope.name, scoped.scope.version = "@openfeature/open-telemetry-hooks", "1.0.0"
    for n in range(RECORDS):
        record = scoped.log_records.add(
            time_unix_nano=start_ns + n, event_name="feature_flag.evaluation"
        )
        for name, text in (ATTRIBUTES | {"feature_flag.context.id": f"customer-{n}"}).items():
            record.attributes.add(key=name).value.string_value = text
    return request.SerializeToString()


def _log_events(body: bytes) -> bytes:
    encoded = EncodedExport(body)
    encoded.cut()
    [piece] = encoded.pieces
    return read_records(body, piece, RULE).request.SerializeToString()


@contextmanager
def running() -> Iterator[tuple[Served, str]]:
    """The events service with both doors, and where the one for HTTP is."""
    BUILD.mkdir(exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    more = UNLIMITED | {"TOUCHSTONE_EVENTS_HTTP_ADDRESS": address}
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        process = EventsProcess(Path(folder) / "data", flush_interval_s=0.5, more=more)
        key = make_key(process.data)
        process.start()
        try:
            yield Served(process, key), address
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class _Work:
    bodies: list[bytes]
    call: Call

    def do(self) -> None:
        for body in self.bodies:
            self.call(body)


def _rate(served: Served, bodies: list[bytes], caller: Callable[[], Call]) -> float:
    """Records for each second of the service's processor time, with CALLERS at once."""
    _Work(bodies[:WARM_UP], caller()).do()
    rest = bodies[WARM_UP:]
    works = [_Work(rest[n::CALLERS], caller()) for n in range(CALLERS)]
    before_s = served.cpu_s()
    with ThreadPoolExecutor(CALLERS) as pool:
        for future in [pool.submit(work.do) for work in works]:
            future.result()
    return len(rest) * RECORDS / (served.cpu_s() - before_s)


def _grpc_caller(served: Served, method: str) -> Call:
    channel = grpc.insecure_channel(served.process.address)
    stub: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    check = _require_accepted if method == METHOD else _require_stored

    def call(body: bytes) -> None:
        check(stub(body, timeout=60, metadata=(("authorization", f"Bearer {served.key}"),)))

    return call


def _http_caller(address: str, served: Served) -> Call:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    headers = {
        "authorization": f"Bearer {served.key}",
        "content-type": "application/x-protobuf",
    }

    def call(body: bytes) -> None:
        connection.request("POST", "/v1/logs", body, headers)
        response = connection.getresponse()
        data = response.read()
        assert response.status == 200, data
        _require_stored(data)

    return call


def _require_accepted(data: bytes) -> None:
    reply = events_service_pb2.LogEventsResponse.FromString(data)
    assert reply.accepted == RECORDS, reply


def _require_stored(data: bytes) -> None:
    reply = logs_service_pb2.ExportLogsServiceResponse.FromString(data)
    assert not reply.HasField("partial_success"), reply


def _parse_rate(body: bytes) -> float:
    parse = logs_service_pb2.ExportLogsServiceRequest.FromString
    start_s = time.process_time()
    for _ in range(PARSES):
        parse(body)
    return PARSES * RECORDS / (time.process_time() - start_s)
