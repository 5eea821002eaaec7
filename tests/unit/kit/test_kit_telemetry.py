"""Measurements of calls, and their export to a collector when there is one."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_rpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_rpc

from shared.telemetry import JsonLines
from shared.testing.ports import free_port

REPOSITORY = Path(__file__).parents[3]

# The providers of OpenTelemetry are set once in a process: each test has one of its own.
CALLS = """
import asyncio, pathlib, sys, tempfile
from touchstone.common.v1 import access_service_pb2 as pb, access_service_pb2_grpc as rpc
from shared.server.access import AccessServicer
from shared.server.run import Servicer
from shared.testing.serving import application, serving

async def calls():
    folder = pathlib.Path(tempfile.mkdtemp())
    name = "touchstone.common.v1.AccessService"
    servicers = [Servicer(name, AccessServicer(None, None, None, None),
                          rpc.add_AccessServiceServicer_to_server)]
    async with serving(application(folder, servicers)) as served:
        stub = rpc.AccessServiceStub(served.channel)
        trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        await stub.GetCaller(pb.GetCallerRequest(), metadata=(*served.owner, trace))
        try:
            await stub.GetCaller(pb.GetCallerRequest())
        except Exception:
            pass
"""


def run(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", CALLS + textwrap.dedent(program)],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'shared' / 'gen'}",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_duration_of_every_call_is_recorded_by_method_and_status():
    out = run("""
        import json
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
        asyncio.run(calls())
        (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        points = [(dict(p.attributes), p.count, p.sum) for p in metric.data.data_points]
        print(json.dumps([metric.name, metric.unit, points]))
    """)
    name, unit, points = json.loads(out)
    assert (name, unit) == ("rpc.server.call.duration", "s")
    found = {p[0]["rpc.status"]: (p[0]["rpc.method"], p[1]) for p in points}
    method = "/touchstone.common.v1.AccessService/GetCaller"
    assert found == {"OK": (method, 1), "UNAUTHENTICATED": (method, 1)}
    assert all(0 < total < 30 for _, _, total in points)
    assert {key for attributes, _, _ in points for key in attributes} == {
        "rpc.method",
        "rpc.status",
    }


class Collector:
    """An OTLP collector that keeps what it is sent."""

    def __init__(self):
        self.port = 0
        self.metrics, self.spans = [], []

    def export(self, request, context):
        if isinstance(request, metrics_pb.ExportMetricsServiceRequest):
            self.metrics.append(request)
            return metrics_pb.ExportMetricsServiceResponse()
        self.spans.append(request)
        return trace_pb.ExportTraceServiceResponse()

    Export = export


@pytest.fixture
def collector():
    found = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    metrics_rpc.add_MetricsServiceServicer_to_server(found, server)
    trace_rpc.add_TraceServiceServicer_to_server(found, server)
    found.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found
    server.stop(None).wait()


EXPORT = """
    from shared.telemetry import start_telemetry
    start_telemetry("assignment", "1.2.3")
    asyncio.run(calls())
"""


def test_metrics_and_traces_go_to_the_collector_that_is_named(collector):
    run(EXPORT, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}")
    (metrics,) = [r for request in collector.metrics for r in request.resource_metrics]
    attributes = {a.key: a.value.string_value for a in metrics.resource.attributes}
    assert attributes["service.name"] == "touchstone-assignment"
    assert attributes["service.version"] == "1.2.3"
    names = {m.name for scope in metrics.scope_metrics for m in scope.metrics}
    assert "rpc.server.call.duration" in names
    spans = [
        span
        for request in collector.spans
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {span.name for span in spans} == {"touchstone.common.v1.AccessService/GetCaller"}
    traces = {span.trace_id.hex(): span.parent_span_id.hex() for span in spans}
    assert traces.get("0af7651916cd43dd8448eb211c80319c") == "b7ad6b7169203331"


def test_nothing_is_sent_and_nothing_loaded_without_an_endpoint(collector):
    out = run(
        EXPORT
        + """
    print([name for name in sys.modules if name.startswith("opentelemetry.exporter")])
    """
    )
    assert out.strip() == "[]"
    assert (collector.metrics, collector.spans) == ([], [])


def test_collector_that_is_down_costs_a_call_nothing():
    out = run(
        """
        import time
        from shared.telemetry import start_telemetry
        start_telemetry("assignment", "1.2.3")
        start = time.monotonic()
        asyncio.run(calls())
        print(time.monotonic() - start, flush=True)
        import os
        os._exit(0)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
    )
    assert float(out) < 5


def test_log_line_is_one_json_object_whatever_is_in_it():
    record = logging.makeLogRecord(
        {"msg": "a\nb\x1b[31m%s", "args": ('"}',), "levelname": "INFO", "name": "x", "key": "v\r"}
    )
    line = JsonLines("events").format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    found = json.loads(line)
    assert (found["message"], found["key"]) == ('a\nb\x1b[31m"}', "v\r")
    assert (found["level"], found["service"]) == ("info", "events")
