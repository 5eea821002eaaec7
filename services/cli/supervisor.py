"""Keeps a few programs running: starts them, restarts one that dies, drains them all.

Every program runs in a process group of its own, so that Ctrl-C reaches the supervisor alone,
which then drains them; and with a pipe as standard input that closes when the supervisor dies,
however it dies (see `child`), so that none outlives it.
"""

from __future__ import annotations

import enum
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.cli.log_tail import last_error
from shared.errors import DomainError, failed_precondition


@dataclass(frozen=True, slots=True)
class Program:
    """A program to keep running. Its output goes to the end of the log file."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the supervisor is."""

    poll_s: float = 0.1
    start_timeout_s: float = 60.0
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    # A program that ran this long starts again without a delay that grows.
    stable_s: float = 60.0
    # So many deaths in a row, none of them after `stable_s`, end everything.
    max_failures: int = 10
    grace_s: float = 20.0
    # A program that runs is asked for its health this often; so many questions in a row without
    # any answer end it.
    probe_s: float = 5.0
    max_missed: int = 5

    def delay_s(self, failures: int) -> float:
        """How long to wait before the start that follows this many failures in a row."""
        return float(min(self.max_delay_s, self.first_delay_s * 2 ** (failures - 1)))


class _Phase(enum.Enum):
    STARTING = "starting"
    SERVING = "serving"
    WAITING = "waiting"
    ENDING = "ending"


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started_s: float
    # How long the log was before this start.
    log_bytes: int
    phase: _Phase = _Phase.STARTING
    failures: int = 0
    retry_at_s: float = 0.0
    probe_at_s: float = 0.0
    missed: int = 0
    kill_at_s: float = 0.0


class Stop:
    """The wish to stop. A second one cannot wait."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.hurry = threading.Event()

    def ask(self, *_: object) -> None:
        """A signal handler as well as a plain call."""
        if self.asked.is_set():
            self.hurry.set()
        self.asked.set()


class Supervisor:
    """Starts programs and watches them. `serving` tells whether one can keep its promise now, and
    `answers` whether it answers at all: one that does not hangs, and is restarted. `say` shows a
    line to the person at the terminal.
    """

    def __init__(
        self,
        serving: Callable[[Program], bool],
        say: Callable[[str], None],
        policy: Policy | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        answers: Callable[[Program], bool] | None = None,
    ) -> None:
        self._answers = answers or serving
        self._serving = serving
        self._say = say
        self._policy = policy or Policy()
        self._monotonic = monotonic
        self._children: list[_Child] = []
        self._lifeline: tuple[int, int] | None = None

    def start(self, programs: Sequence[Program], stop: Stop) -> bool:
        """Starts the programs and waits until every one serves. False when asked to stop before.

        Raises FAILED_PRECONDITION, with the program's own error line, when one ends instead, and
        UNAVAILABLE when one does not serve in time; the others are drained before.
        """
        self._lifeline = os.pipe()
        try:
            for program in programs:
                size = _size_bytes(program.log)
                self._children.append(
                    _Child(program, self._spawn(program), self._monotonic(), size)
                )
            return self._wait_until_serving(stop)
        except BaseException:
            self.drain(stop)
            raise

    def watch(self, stop: Stop) -> None:
        """Restarts what dies, until asked to stop. Raises UNAVAILABLE when one cannot be kept."""
        while not stop.asked.wait(self._policy.poll_s):
            for child in self._children:
                self._tend(child)

    def drain(self, stop: Stop) -> None:
        """Ends every program: asks, waits for the grace period, then kills. Nothing is left."""
        living = [c for c in self._children if c.process.poll() is None]
        for child in living:
            child.process.terminate()
        deadline = self._monotonic() + self._policy.grace_s
        while any(c.process.poll() is None for c in living):
            if self._monotonic() >= deadline or stop.hurry.is_set():
                break
            time.sleep(self._policy.poll_s)
        for child in living:
            if child.process.poll() is None:
                self._say(f"{child.program.name} did not end in time and is killed")
                child.process.kill()
            child.process.wait()
        self._children.clear()
        if self._lifeline is not None:
            for end in self._lifeline:
                os.close(end)
            self._lifeline = None

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        assert self._lifeline is not None
        with program.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  the command is ours
                program.command,
                stdin=self._lifeline[0],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **program.environment},
                process_group=0,
            )

    def _wait_until_serving(self, stop: Stop) -> bool:
        deadline = self._monotonic() + self._policy.start_timeout_s
        while any(child.phase is _Phase.STARTING for child in self._children):
            if stop.asked.wait(self._policy.poll_s):
                return False
            for child in self._children:
                self._check_start(child, deadline)
        return True

    def _check_start(self, child: _Child, deadline: float) -> None:
        program = child.program
        code = child.process.poll()
        if code is not None:
            raise failed_precondition(
                "DEPENDENCY_UNAVAILABLE",
                f"{program.name} could not start ({ended(code)}): "
                f"{last_error(program.log, child.log_bytes)}",
            )
        if child.phase is _Phase.STARTING and self._serving(program):
            child.phase = _Phase.SERVING
        if child.phase is _Phase.STARTING and self._monotonic() >= deadline:
            raise failed_precondition(
                "DEPENDENCY_UNAVAILABLE",
                f"{program.name} did not serve within {self._policy.start_timeout_s:.0f} s; "
                f"read {program.log}",
            )

    def _tend(self, child: _Child) -> None:
        now = self._monotonic()
        if child.phase is _Phase.WAITING:
            if now >= child.retry_at_s:
                child.log_bytes = _size_bytes(child.program.log)
                child.process = self._spawn(child.program)
                child.started_s, child.phase, child.missed = now, _Phase.STARTING, 0
        elif (code := child.process.poll()) is not None:
            self._plan_restart(child, code, now)
        elif child.phase is _Phase.ENDING:
            if now >= child.kill_at_s:
                child.process.kill()
        elif child.phase is _Phase.STARTING:
            self._tend_start(child, now)
        elif now >= child.probe_at_s:
            self._probe(child)

    def _tend_start(self, child: _Child, now: float) -> None:
        if self._serving(child.program):
            child.phase, child.missed = _Phase.SERVING, 0
            self._say(f"{child.program.name} serves again")
        elif now - child.started_s >= self._policy.start_timeout_s:
            self._end(child, f"did not serve within {self._policy.start_timeout_s:.0f} s")

    def _probe(self, child: _Child) -> None:
        child.missed = 0 if self._answers(child.program) else child.missed + 1
        child.probe_at_s = self._monotonic() + self._policy.probe_s
        if child.missed >= self._policy.max_missed:
            self._end(child, f"runs but did not answer {child.missed} times in a row")

    def _end(self, child: _Child, why: str) -> None:
        """Asks a program that is of no use to end; what does not is killed after the grace."""
        self._say(f"{child.program.name} {why}; restarting it, see {child.program.log}")
        child.phase = _Phase.ENDING
        child.kill_at_s = self._monotonic() + self._policy.grace_s
        child.process.terminate()

    def _plan_restart(self, child: _Child, code: int, now: float) -> None:
        ran_s = now - child.started_s
        child.failures = 1 if ran_s >= self._policy.stable_s else child.failures + 1
        if child.failures >= self._policy.max_failures:
            raise _given_up(child, code)
        delay = self._policy.delay_s(child.failures)
        child.phase, child.retry_at_s = _Phase.WAITING, now + delay
        self._say(
            f"{child.program.name} died ({ended(code)}); restart {child.failures} in {delay:g} s, "
            f"see {child.program.log}"
        )


def _given_up(child: _Child, code: int) -> DomainError:
    return failed_precondition(
        "DEPENDENCY_UNAVAILABLE",
        f"{child.program.name} died {child.failures} times in a row (last: {ended(code)}): "
        f"{last_error(child.program.log, child.log_bytes)}",
    )


def _size_bytes(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def ended(code: int) -> str:
    """How a process ended, from the code that `Popen` gives."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
