"""Rounds of traffic and faults, and the verdict at the end."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.robustness.faults import EventsProcess, make_key
from tests.robustness.model import Verdict, judge, stored_values
from tests.robustness.traffic import Client, History

CLIENTS = 3
SHORTEST_S, LONGEST_S = 0.1, 0.8
FULL_S = 1.5

Fault = Callable[[EventsProcess], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row of the table in shared design: a fault, and a twin whose failure must be seen."""

    row: int
    fault: str
    strike: Fault
    twin: str
    """Module that serves with one promise broken."""
    disk_mb: int = 0
    """Size of a disk of its own for the data; 0 is the ordinary disk."""


def kill(process: EventsProcess) -> None:
    """kill -9, then start again."""
    process.kill()
    process.start()


def terminate(process: EventsProcess) -> None:
    """SIGTERM in the middle of calls, then start again."""
    status = process.terminate()
    assert status == 0, f"exit status {status} after SIGTERM"
    process.start()


def fill_disk(process: EventsProcess) -> None:
    """Leave no byte free for a while."""
    ballast = process.data / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        time.sleep(FULL_S)
    finally:
        ballast.unlink()


SCENARIOS = (
    Scenario(1, "kill -9 of the events process while it ingests", kill, "early_ack"),
    Scenario(6, "acknowledged batches are sent again after a kill -9", kill, "forgetful"),
    Scenario(16, "SIGTERM of the events process while it ingests", terminate, "early_ack"),
    Scenario(10, "no space on the disk while it ingests", fill_disk, "early_ack", disk_mb=96),
)


def play(scenario: Scenario, module: str, folder: Path, rounds: int, seed: int) -> Verdict:
    """Strike `rounds` times while clients ingest; then stop in order and compare."""
    folder.mkdir(parents=True, exist_ok=True)
    with disk(folder, scenario.disk_mb):
        return _play(scenario, module, folder, rounds, seed)


@contextlib.contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Put a small disk at the folder; only root can."""
    if not megabytes:
        yield
        return
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def can_mount() -> bool:
    """Whether this process may mount a disk: root with the capability to."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with disk(Path(folder), 1):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def _play(scenario: Scenario, module: str, folder: Path, rounds: int, seed: int) -> Verdict:
    process = EventsProcess(folder / "data", module)
    key = make_key(process.data)
    process.start()
    choice = np.random.default_rng(seed)
    clients = [Client(n, process.address, key, seed) for n in range(CLIENTS)]
    try:
        for client in clients:
            client.start()
        for _ in range(rounds):
            time.sleep(choice.uniform(SHORTEST_S, LONGEST_S))
            scenario.strike(process)
        time.sleep(LONGEST_S)
        for client in clients:
            client.stop()
    finally:
        process.terminate()
    history = History([client.history for client in clients])
    return judge(history, stored_values(process.data / "lake"))
