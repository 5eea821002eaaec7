"""The assignment service as a process, with every door that clients of OpenFeature come by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from shared.testing.ports import free_port
from tests.openfeature.environments import Client, Kind
from tests.openfeature.world import PROJECT, Service
from tests.robustness.faults import EventsProcess, make_key


class Running:
    """A process that can be stopped and started on the same ports and data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http = f"127.0.0.1:{free_port()}"
        self.flagd_port = free_port()
        more = {
            "TOUCHSTONE_FLAGD_ADDRESS": f"127.0.0.1:{self.flagd_port}",
            "TOUCHSTONE_FLAGD_PROJECTS": PROJECT,
            "TOUCHSTONE_ASSIGNMENT_HTTP_ADDRESS": self.http,
            "TOUCHSTONE_ASSIGNMENT_POLL_S": "0.2",
            "TOUCHSTONE_DRAIN_GRACE_S": "2",
        }
        self.process = EventsProcess(
            folder / "data", "services.assignment", service="assignment", more=more
        )
        self.key = make_key(self.process.data, PROJECT)

    @contextmanager
    def service(self) -> Iterator[Service]:
        """Its own RPCs."""
        with grpc.insecure_channel(self.process.address) as channel:
            yield Service(channel, self.key)

    @contextmanager
    def client(self, kind: Kind, **more: Any) -> Iterator[Client]:
        """A client that is connected."""
        client = Client(kind, self.folder / f"{kind.name}.log")
        try:
            client.connect(**{**self.options(kind), **more})
            yield client
        finally:
            client.close()

    def options(self, kind: Kind) -> dict[str, Any]:
        """How a provider finds the service."""
        if kind.kind.startswith("ofrep"):
            return {"url": f"http://{self.http}", "headers": {"X-API-Key": self.key}}
        found = {"host": "127.0.0.1", "port": self.flagd_port, "selector": _selector(kind)}
        # A machine that tests are run on may be slower than any deadline.
        patience = ("deadlineMs", "retryBackoffMs", "retryBackoffMaxMs")
        if kind.environment != "node":
            patience = ("deadline_ms", "retry_backoff_ms", "retry_backoff_max_ms")
        return {**found, **dict(zip(patience, (20_000, 500, 1000), strict=True))}


def _selector(kind: Kind) -> str:
    """The flag set, in the dialect that the client's engine speaks."""
    dialect = f",dialect={kind.dialect}" if kind.dialect else ""
    return f"flagSetId={PROJECT}{dialect}"


@contextmanager
def second_process(running: Running) -> Iterator[Service]:
    """Another process of the service on the same data, without doors of its own."""
    other = EventsProcess(running.process.data, "services.assignment", service="assignment")
    other.start()
    try:
        with grpc.insecure_channel(other.address) as channel:
            yield Service(channel, running.key)
    finally:
        other.terminate()
