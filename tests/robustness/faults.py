"""The real events process, and what is done to it."""

from __future__ import annotations

import os
import signal
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
from shared.settings import MORE_ADDRESSES, Settings
from shared.testing.ports import free_port
from tests.robustness.launcher import Limits, launcher

START_S, STOP_S = 60.0, 60.0
PROJECT = "robust"
GENERATED = Path("shared", "gen")
_ELSEWHERE = "import os, runpy, sys; os.chdir(sys.argv[1]); sys.path[0] = sys.argv[1]; "
_ELSEWHERE += "runpy.run_module(sys.argv[2], run_name='__main__')"


def make_key(data: Path, project: str = PROJECT, database_url: str = "") -> str:
    """A key of a project, made as an operator makes the first one."""
    platform = open_platform(Settings(data=data, database_url=database_url))
    try:
        new = make_owner_key(
            platform.database, platform.audit_keys, SystemClock(), RandomIds(), project
        )
        return new.text
    finally:
        platform.database.close()


class NotServingError(AssertionError):
    """A process that was started does not serve; the text is the end of its log."""


@dataclass
class EventsProcess:
    """One data folder and the process that serves it, again and again on the same port."""

    data: Path
    module: str = "services.events"
    flush_interval_s: float = 0.05
    port: int = field(default_factory=free_port)
    more: dict[str, str] = field(default_factory=dict)
    """More of its environment."""
    limits: Limits = field(default_factory=Limits)
    service: str = "events"
    tree: Path | None = None
    """The sources of another version of the program to run; None is this one."""
    pid: int = 0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """What it printed."""
        return self.data.parent / f"{self.data.name}.{self.service}.log"

    @property
    def lake(self) -> Path:
        """The event tables."""
        return self.data / "lake"

    @property
    def rejected(self) -> Path:
        """The file of the rejected events."""
        return self.data / "events" / "rejected.db"

    def start(self) -> None:
        """Start it and wait until it is SERVING."""
        self.begin()
        self.wait_started()

    def wait_started(self, within_s: float = START_S) -> None:
        """Wait until it is SERVING; NotServingError when it ends before, or is not in time."""
        end = time.monotonic() + within_s
        while not self.serving():
            if not self.runs or time.monotonic() > end:
                said = self.log_path.read_text()[-2_000:]
                ended = launcher().status(self.pid) if self.pid else None
                raise NotServingError(f"{self.service} is not serving, status {ended}:\n{said}")
            time.sleep(0.02)

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return bool(self.pid) and launcher().status(self.pid) is None

    def begin(self, limits: Limits | None = None) -> None:
        """Start it without waiting for anything."""
        if self.tree is not None:
            self.pid = self._begin_other(self.tree)
            return
        self.pid = launcher().start(
            self.module, self._environment(), self.log_path, limits or self.limits
        )

    def serving(self, timeout_s: float = 2.0) -> bool:
        """Whether it says that it is SERVING."""
        with grpc.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
            except grpc.RpcError:
                return False
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_serving(self, wanted: bool, timeout_s: float) -> bool:
        """Whether it came to be SERVING, or not SERVING, in time."""
        end = time.monotonic() + timeout_s
        while self.serving() is not wanted:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """The exit status, when it ends by itself."""
        status = launcher().wait(self.pid, STOP_S)
        self.pid = 0
        return status

    def _begin_other(self, tree: Path) -> int:
        """Start the program of another source tree: the launcher has imported this one's."""
        command = ["-c", _ELSEWHERE, str(tree), self.module]
        return launcher().start_program(
            [sys.executable, *command],
            self._environment()
            | {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / GENERATED)])},
            self.log_path,
        )

    def _end(self, number: signal.Signals) -> int:
        if not self.pid:
            return 0
        if launcher().status(self.pid) is None:
            os.kill(self.pid, number)
        return self.wait()

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TOUCHSTONE_")}
        return kept | {
            "TOUCHSTONE_DATA": str(self.data),
            f"TOUCHSTONE_{self.service.upper()}_ADDRESS": self.address,
            **{f"TOUCHSTONE_{name.upper()}": "" for name in MORE_ADDRESSES},
            "TOUCHSTONE_FLUSH_INTERVAL_S": str(self.flush_interval_s),
            "TOUCHSTONE_LOG_LEVEL": os.environ.get("ROBUSTNESS_LOG_LEVEL", "warning"),
            **self.more,
        }
