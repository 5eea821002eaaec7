"""A reader that asks for what was acknowledged while clients write and the service is harmed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from shared.errors import Code, DomainError
from shared.lake.snapshot import LakeEventTables
from tests.robustness.content import TABLES
from tests.robustness.history import Call, History

WAIT_S, PAUSE_S = 15.0, 0.2


class Reader(threading.Thread):
    """Takes the token of a recent call, waits until the tables are as fresh, and compares."""

    def __init__(self, lake: Path, history: History, seed: int) -> None:
        super().__init__(name="reader", daemon=True)
        self._lake = lake
        self._history = history
        self._dice = np.random.default_rng([seed, 99])
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop after the reading in progress and wait."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """Read until stopped."""
        try:
            pause_s = PAUSE_S
            while not self._stopped.wait(pause_s):
                begun_s = time.monotonic()
                calls = list(self._history.answered)
                if calls:
                    self.read(calls[int(self._dice.integers(len(calls)))])
                # It takes a share of the machine only, however much is stored.
                pause_s = max(PAUSE_S, 2 * (time.monotonic() - begun_s))
        except Exception as error:
            self._history.complain("reader", f"{type(error).__name__}: {error}")
            raise

    def read(self, call: Call) -> None:
        """Read with the token of a call, and complain of what is missing, double or made up."""
        needed = {name.event_id for name in self._history.acknowledged_before(call)}
        tables = LakeEventTables(self._lake)
        try:
            asyncio.run(tables.wait_until(call.token, WAIT_S))
            seen = read_ids(tables, call.project)
        except DomainError as error:
            self._refused(call, error)
            return
        sent = self._history.sent(call.project)
        self._history.reads += 1
        for promise, broken in (
            ("token", needed - seen.keys()),
            ("doubled in a read", {i for i, count in seen.items() if count > 1}),
            ("invented in a read", seen.keys() - sent),
        ):
            if broken:
                example = f"{sorted(broken)[:3]} of {call.project}, token {call.token}"
                self._history.complain(promise, example, len(broken))

    def _refused(self, call: Call, error: DomainError) -> None:
        # A service that is down makes nothing readable; only a stop of the test ends that.
        if error.reason != "NOT_YET_FRESH" or error.code is not Code.UNAVAILABLE:
            self._history.complain("read", f"{error.reason}: {error.message}")


def read_ids(tables: LakeEventTables, project: str) -> Counter[str]:
    """How often each event id of a project stands in one snapshot of all tables."""
    seen: Counter[str] = Counter()
    with tables.snapshot(project).read() as now:
        for table in TABLES:
            seen.update(now[table].event_id.to_pyarrow().to_pylist())
    return seen


def wait_for_watermark(lake: Path, token: str, timeout_s: float = 30.0) -> None:
    """Return when readers see what a token names; DomainError when they do not in time."""
    end = time.monotonic() + timeout_s
    asyncio.run(LakeEventTables(lake).wait_until(token, end - time.monotonic()))
