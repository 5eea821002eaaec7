"""Rounds of traffic and faults, and the verdict at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.robustness.faults import EventsProcess, make_key
from tests.robustness.model import Verdict, judge, stored_values
from tests.robustness.traffic import Client, History

CLIENTS = 3
SHORTEST_S, LONGEST_S = 0.1, 0.8

Fault = Callable[[EventsProcess], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row of the table in shared design: a fault, and a twin whose failure must be seen."""

    row: int
    fault: str
    strike: Fault
    twin: str
    """Module that serves with one promise broken."""


def kill(process: EventsProcess) -> None:
    """kill -9, then start again."""
    process.kill()
    process.start()


def terminate(process: EventsProcess) -> None:
    """SIGTERM in the middle of calls, then start again."""
    status = process.terminate()
    assert status == 0, f"exit status {status} after SIGTERM"
    process.start()


SCENARIOS = (
    Scenario(1, "kill -9 of the events process while it ingests", kill, "early_ack"),
    Scenario(6, "acknowledged batches are sent again after a kill -9", kill, "forgetful"),
    Scenario(16, "SIGTERM of the events process while it ingests", terminate, "early_ack"),
)


def play(scenario: Scenario, module: str, folder: Path, rounds: int, seed: int) -> Verdict:
    """Strike `rounds` times while clients ingest; then stop in order and compare."""
    folder.mkdir(parents=True, exist_ok=True)
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
    history = History([batch for client in clients for batch in client.history])
    return judge(history, stored_values(process.data / "lake"))
