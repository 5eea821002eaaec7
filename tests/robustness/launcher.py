"""Start real processes quickly: forks of one process that has imported everything already.

`python -m tests.robustness.launcher FD` is that process. It obeys one JSON line at a time, and when
its socket closes it kills whatever still runs and ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

IMPORTED = ("services.events.composition", "shared.server.run", "grpc_health.v1")


@dataclass(frozen=True, slots=True)
class Limits:
    """How a process begins."""

    open_files: int = 0
    """How many files it may open; 0 leaves the limit as it is."""
    stopped: bool = False
    """It stops itself before it does anything, and waits for SIGCONT."""


class Launcher:
    """The other end: asks for processes and for what became of them. Safe in several threads."""

    def __init__(self) -> None:
        mine, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        self._socket = mine
        self._stream = mine.makefile("rw")
        self._lock = threading.Lock()

    def start(
        self, module: str, environment: Mapping[str, str], log: Path, limits: Limits | None = None
    ) -> int:
        """Run a module as `__main__`; its process id."""
        given = asdict(limits or Limits())
        return int(self._ask(module=module, env=dict(environment), log=str(log), **given))

    def start_program(self, command: list[str], environment: Mapping[str, str], log: Path) -> int:
        """Run another program; its process id."""
        given = asdict(Limits())
        return int(self._ask(command=command, env=dict(environment), log=str(log), **given))

    def status(self, process_id: int) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        answer = self._ask(poll=process_id)
        return None if answer is None else int(answer)

    def wait(self, process_id: int, timeout_s: float) -> int:
        """The exit status; AssertionError when it still runs after the timeout."""
        end = time.monotonic() + timeout_s
        while (status := self.status(process_id)) is None:
            if time.monotonic() > end:
                raise AssertionError(f"process {process_id} still runs after {timeout_s} s")
            time.sleep(0.01)
        return status

    def close(self) -> None:
        """End it, and with it all that it started."""
        self._stream.close()
        self._socket.close()
        self._process.wait(20)

    def _ask(self, **command: object) -> Any:
        with self._lock:
            self._stream.write(json.dumps(command) + "\n")
            self._stream.flush()
            line = self._stream.readline()
        if not line:
            raise AssertionError("the launcher of processes has ended")
        return json.loads(line)


@functools.cache
def launcher() -> Launcher:
    """The one of this process."""
    one = Launcher()
    atexit.register(one.close)
    return one


def _obey(channel: socket.socket) -> None:
    ended: dict[int, int] = {}
    running: set[int] = set()
    stream = channel.makefile("rw")
    for line in stream:
        command = json.loads(line)
        answer: int | None
        if "poll" in command:
            answer = _poll(command["poll"], ended)
        else:
            answer = os.fork()
            if answer == 0:
                stream.close()
                channel.close()
                _become(command)
            running.add(answer)
            ended.pop(answer, None)  # the system gives the ids of ended processes out again
        stream.write(json.dumps(answer) + "\n")
        stream.flush()
    for process_id in running - ended.keys():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def _poll(process_id: int, ended: dict[int, int]) -> int | None:
    if process_id not in ended:
        found, status = os.waitpid(process_id, os.WNOHANG)
        if not found:
            return None
        ended[process_id] = os.waitstatus_to_exitcode(status)
    return ended[process_id]


def _become(command: dict[str, Any]) -> None:
    """Run the module in this fork, as `python -m` would, and end with its status."""
    status = 1
    try:
        log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(command["env"])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if command["open_files"]:
            resource.setrlimit(resource.RLIMIT_NOFILE, (command["open_files"],) * 2)
        if command["stopped"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        if "command" in command:
            os.execve(command["command"][0], command["command"], command["env"])
        sys.argv = [command["module"]]
        runpy.run_module(command["module"], run_name="__main__")
        status = 0
    except SystemExit as ending:
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
        status = int(bool(ending.code))
    except BaseException as error:  # noqa: BLE001  a fork must never return into the launcher
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as given:
        _obey(given)
