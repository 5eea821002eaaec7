"""Metrics, traces and log lines. Without an OTLP endpoint in the environment the instruments do
nothing and cost nothing; log lines always go to standard error, one JSON object each.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from opentelemetry import metrics, trace

_RESERVED = frozenset(logging.makeLogRecord({}).__dict__)
# Every metric of the suite: name, unit, meaning. The reference is checked against it.
METRICS: Mapping[str, tuple[str, str]] = {
    "rpc.server.call.duration": ("s", "Duration of an RPC, by method and status code."),
    "touchstone.assignment.config.staleness": (
        "s",
        "Age of the configuration that assignment decides by.",
    ),
    "touchstone.assignment.config.refused": (
        "{configuration}",
        "Configurations of a project that could not be used; the one before goes on deciding.",
    ),
    "touchstone.assignment.sticky.skipped": (
        "{unit}",
        "Units that were decided without what they were served before: its store was away.",
    ),
    "touchstone.assignment.schedule.steps": (
        "{step}",
        "Scheduled starts, stops and ramp stages by outcome: taken, refused or failed.",
    ),
    "touchstone.assignment.watches": (
        "{stream}",
        "Open WatchConfig streams.",
    ),
    "touchstone.attribution.kept": (
        "By",
        "Disk of what is kept from one report or reader to the next, by kind: events, scores.",
    ),
    "touchstone.attribution.report.duration": (
        "s",
        "Duration of an attempt at computing a report, by outcome.",
    ),
    "touchstone.attribution.reports": (
        "{attempt}",
        "Attempts at computing a report by outcome: kept, failed, cancelled or interrupted.",
    ),
    "touchstone.attribution.reports.waiting": (
        "{report}",
        "Reports that are computed or wait for it.",
    ),
    "touchstone.attribution.schedule.lag": (
        "s",
        "How long the scheduled run has been due that is the longest due and has not ended.",
    ),
    "touchstone.attribution.schedules.failing": (
        "{schedule}",
        "Schedules of reports whose last run failed; each says why.",
    ),
    "touchstone.attribution.score_streams": (
        "{stream}",
        "Streams and files of credits that are being sent.",
    ),
    "touchstone.events.items": (
        "{event}",
        "Events answered, by outcome (accepted, duplicate, rejected), and reason if rejected.",
    ),
    "touchstone.events.otlp.records": (
        "{record}",
        "Log records answered, by outcome: exposure, evaluation, refused or ignored.",
    ),
    "touchstone.events.pending": (
        "{batch}",
        "Acknowledged batches that readers do not see yet.",
    ),
}


class JsonLines(logging.Formatter):
    """One JSON object a line. An exception is logged by its type and its places in the code, not
    by its text, which may hold what nobody should read.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; what was passed as `extra` becomes fields."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({k: v for k, v in record.__dict__.items() if k not in _RESERVED})
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
            line["traceback"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(line, default=str)


def start_logging(service: str, level: str) -> None:
    """Sends the process's log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def start_telemetry(service: str, version: str) -> None:
    """Exports metrics and traces when OTEL_EXPORTER_OTLP_ENDPOINT is set, and only then."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {"service.name": f"touchstone-{service}", "service.version": version}
    )
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[reader]))
    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracer_provider)


def duration_histogram() -> metrics.Histogram:
    """The histogram of RPC durations."""
    name = "rpc.server.call.duration"
    unit, description = METRICS[name]
    return metrics.get_meter("touchstone").create_histogram(name, unit, description)
