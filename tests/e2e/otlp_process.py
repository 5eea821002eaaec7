"""The events process with both its OpenTelemetry doors open, and what came in by them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
from opentelemetry.sdk._logs.export import LogRecordExporter

from shared.lake.snapshot import LakeEventTables
from shared.testing.ports import free_port
from tests.robustness.faults import PROJECT, EventsProcess, make_key


class Running:
    """The process, its key and where its doors are."""

    def __init__(self, folder: Path) -> None:
        self.http = f"127.0.0.1:{free_port()}"
        more = {"TOUCHSTONE_EVENTS_HTTP_ADDRESS": self.http}
        self.process = EventsProcess(folder / "data", more=more)
        self.key = make_key(self.process.data)

    def exporter(self, kind: str) -> LogRecordExporter:
        headers = {"authorization": f"Bearer {self.key}"}
        if kind == "grpc":
            address = f"http://{self.process.address}"
            return GrpcExporter(endpoint=address, headers=headers, timeout=20)
        compression = Compression.Gzip if kind == "http with gzip" else Compression.NoCompression
        return HttpExporter(
            endpoint=f"http://{self.http}/v1/logs",
            headers=headers,
            timeout=20,
            compression=compression,
        )

    def rows(self, table: str, source: str, count: int) -> list[dict[str, Any]]:
        """The rows of one program, when there are as many as wanted."""
        rows: list[dict[str, Any]] = []
        for _ in range(200):
            with LakeEventTables(self.process.data / "lake").snapshot(PROJECT).read() as now:
                rows = [r for r in now[table].to_pyarrow().to_pylist() if r["source"] == source]
            if len(rows) >= count:
                break
            time.sleep(0.05)
        return rows
