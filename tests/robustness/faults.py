"""The real events process, and what is done to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.clock import SystemClock
from shared.ids import RandomIds
from shared.security.bootstrap import make_owner_key
from shared.server.platform import open_platform
from shared.settings import Settings

START_S = 60.0
PROJECT = "robust"


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def make_key(data: Path) -> str:
    """A key of the test's project, made as an operator makes the first one."""
    platform = open_platform(Settings(data=data))
    try:
        new = make_owner_key(
            platform.database, platform.audit_keys, SystemClock(), RandomIds(), PROJECT
        )
        return new.text
    finally:
        platform.database.close()


@dataclass
class EventsProcess:
    """One data folder and the process that serves it, again and again on the same port."""

    data: Path
    module: str = "services.events"
    flush_interval_s: float = 0.05
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """What it printed."""
        return self.data.parent / f"{self.data.name}.log"

    def start(self) -> None:
        """Start it and wait until it is SERVING."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env=self._environment(),
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_S
        with grpc.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not _serving(stub):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"events is not serving:\n{self.log_path.read_text()}")
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(60)

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TOUCHSTONE_")}
        return kept | {
            "TOUCHSTONE_DATA": str(self.data),
            "TOUCHSTONE_EVENTS_ADDRESS": self.address,
            "TOUCHSTONE_FLUSH_INTERVAL_S": str(self.flush_interval_s),
            "TOUCHSTONE_LOG_LEVEL": "warning",
        }


def _serving(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
    except grpc.RpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
