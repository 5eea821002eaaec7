"""The whole suite as its user runs it: `touchstone up`, four real processes, a key in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.server.channel import open_channel
from shared.settings import MORE_ADDRESSES
from shared.testing.ports import free_ports

SERVICES = ("assignment", "events", "results", "attribution")
_START_S = 120.0


class Suite:
    """A running suite on ports of its own, over one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.addresses = {
            service: f"127.0.0.1:{port}"
            for service, port in zip(SERVICES, free_ports(len(SERVICES)), strict=True)
        }
        self.otlp_address = f"127.0.0.1:{free_ports(1)[0]}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TOUCHSTONE_")},
            "TOUCHSTONE_DATA": str(data),
            **{f"TOUCHSTONE_{s.upper()}_ADDRESS": a for s, a in self.addresses.items()},
            **{f"TOUCHSTONE_{name.upper()}": "" for name in MORE_ADDRESSES},
            "TOUCHSTONE_EVENTS_HTTP_ADDRESS": self.otlp_address,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._channels: dict[str, grpc.Channel] = {}

    def start(self) -> None:
        """Starts `touchstone up` and waits until every service is SERVING."""
        log = (self.data.parent / f"{self.data.name}-up.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "up"],
            env=self.environment,
            stdout=log,
            stderr=log,
        )
        log.close()
        deadline = time.monotonic() + _START_S
        for service in SERVICES:
            while not self._serving(service):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = self.log()
                    self.stop()
                    raise AssertionError(f"{service} is not serving:\n{said}")
                time.sleep(0.1)

    def log(self) -> str:
        """Everything that the supervisor said, and the logs of the services."""
        files = [self.data.parent / f"{self.data.name}-up.log", *self.data.glob("logs/*.log")]
        return "\n".join(f"--- {file.name}\n{file.read_text()[-4000:]}" for file in files)

    def stop(self) -> int:
        """Asks the supervisor to drain, as Ctrl-C does, and returns its exit status."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGINT)
        return process.wait(60)

    def channel(self, service: str) -> grpc.Channel:
        """A channel to one of the services."""
        if service not in self._channels:
            self._channels[service] = open_channel(self.addresses[service])
        return self._channels[service]

    @property
    def key(self) -> str:
        """The owner key that the first start made."""
        return (self.data / "owner.key").read_text().strip()

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The credential of the owner, as call metadata."""
        return (("authorization", f"Bearer {self.key}"),)

    def run(self, *arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs the command line against the suite and checks its exit status, unless it is None."""
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            env={**self.environment, "NO_COLOR": "1", "COLUMNS": "200"},
            cwd=self.data.parent,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert status in (None, done.returncode), f"{arguments}: {done.returncode}\n{done.stderr}"
        return done

    def _serving(self, service: str) -> bool:
        stub = health_pb2_grpc.HealthStub(self.channel(service))
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
