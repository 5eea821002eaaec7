"""Rows 23, 24 and 25: what stands still, what is slow, and what is there twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from shared.testing.postgres import PostgresServer, postgres_server
from tests.robustness.fault import Fault, Play, Scene, open_scene, under_traffic
from tests.robustness.faults import EventsProcess, make_key
from tests.robustness.history import Outcome
from tests.robustness.model import Verdict
from tests.robustness.proxy import Network
from tests.robustness.rows.replies import PROJECT, Layers
from tests.robustness.trace import cannot_trace, injected
from tests.robustness.traffic import Target

PAUSE_S, CALL_S = 2.5, 1.5
THREADS_MORE = 40
"""As many threads as a service may have more than at rest: its pools are bounded."""
SLOW_S, LOST = 0.25, 0.005
SLOW_CALL_S = 8.0


def _paused(play: Play) -> Verdict:
    """Stop the process, and in turn the database of its state, for longer than a deadline."""
    with postgres_server() as server, server.fresh_database("state") as url:
        more = {"TOUCHSTONE_DATABASE_URL": url, "TOUCHSTONE_CREDENTIAL_CACHE_S": "0.5"}
        process = EventsProcess(play.folder / "data", play.module, more=more)
        scene = open_scene(play, process, call_s=CALL_S)
        threads = threads_of(process.pid)

        def pause(scene: Scene) -> None:
            if scene.faults % 2:
                with stopped(server):
                    time.sleep(PAUSE_S)
            else:
                _pause_process(scene)
            if not process.wait_serving(wanted=True, timeout_s=20):
                scene.history.complain("recovery", "not SERVING after a pause")
            more_threads = threads_of(process.pid) - threads
            if more_threads > THREADS_MORE:
                scene.history.complain("threads", f"{more_threads} more than at rest")

        return under_traffic(play, pause, scene)


def _pause_process(scene: Scene) -> None:
    os.kill(scene.process.pid, signal.SIGSTOP)
    try:
        if scene.process.serving(timeout_s=PAUSE_S):
            scene.history.complain("readiness", "SERVING while it stands still")
        time.sleep(PAUSE_S / 2)
    finally:
        os.kill(scene.process.pid, signal.SIGCONT)


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """Within the block the database and all that serve its connections stand still."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(server.process_id)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    processes = [server.process_id, *(int(child) for child in children)]
    try:
        for one in processes:
            os.kill(one, signal.SIGSTOP)
        yield
    finally:
        for one in processes:
            os.kill(one, signal.SIGCONT)


def threads_of(process_id: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{process_id}/task").iterdir()))


def _slow(play: Play) -> Verdict:
    """Half a second of network both ways and lost connections; in turn a disk that is as slow."""
    scene = open_scene(play)
    network = Network(scene.process.port, play.seed, delay_s=SLOW_S, lost=LOST)
    network.start()
    address = f"127.0.0.1:{network.port}"
    scene.target = Target(address, scene.target.keys, SLOW_CALL_S)

    def slow(scene: Scene) -> None:
        if scene.faults % 2 and not cannot_trace():
            delay = f"delay_enter={int(2 * SLOW_S * 1_000_000)}"
            with injected(scene.process, "fdatasync,fsync", delay):
                time.sleep(PAUSE_S)
        else:
            time.sleep(PAUSE_S)
            network.reset()

    try:
        return _bounded(scene, under_traffic(play, slow, scene))
    finally:
        network.close()


def _bounded(scene: Scene, verdict: Verdict) -> Verdict:
    took = [c.end_s - c.start_s for c in scene.history.calls if c.outcome is Outcome.OK]
    if took and float(np.quantile(took, 0.99)) > SLOW_CALL_S:
        scene.history.complain("slow", f"p99 {np.quantile(took, 0.99):.1f} s")
    return verdict


def _two(play: Play) -> Verdict:
    """A second events process on the same folder is refused; the first goes on."""
    scene = open_scene(play)
    second = EventsProcess(scene.process.data, play.module)

    def start_second(scene: Scene) -> None:
        second.begin()
        end = time.monotonic() + 20
        while second.runs and time.monotonic() < end:
            if second.serving(timeout_s=0.2):
                scene.history.complain("second", "two processes serve one folder")
                break
            time.sleep(0.05)
        if second.runs:
            second.kill()
        elif second.wait() == 0:
            scene.history.complain("second", "the second ended with status 0")

    verdict = under_traffic(play, start_second, scene)
    if play.module == "services.events":
        _two_writers(play, scene)
    return verdict


def _two_writers(play: Play, scene: Scene) -> None:
    """Two assignment processes change one state database at once: no change is lost."""
    data = play.folder / "state"
    processes = [EventsProcess(data, "services.assignment", service="assignment") for _ in "ab"]
    layers = Layers(make_key(data, PROJECT), scene.history)
    for process in processes:
        process.start()
    try:
        wanted = [f"w{side}-{number}" for number in range(10) for side in (0, 1)]

        def make(name: str) -> str:
            return layers.make(processes[int(name[1])].port, name, "t").name

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(make, wanted))
        lost = set(wanted) - layers.stored(processes[0].port).keys()
        if lost:
            scene.history.complain("lost update", str(lost))
    finally:
        for process in processes:
            process.kill()


PAUSED = Fault(
    23,
    "the process or the database of its state stands still (SIGSTOP)",
    _paused,
    twins={"thread_a_call": 1},
    rounds=8,
)
SLOW = Fault(
    24,
    "500 ms of network, lost connections, a disk as slow",
    _slow,
    twins={"no_dedupe": 3},
    rounds=12,
)
TWO = Fault(
    25,
    "a second process on the same folder; two on one state database",
    _two,
    twins={"no_lock": 1},
    rounds=6,
)
