"""What the tests of the client share: fakes of its ports, and the stored events."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from touchstone.events.v1 import events_service_pb2
from touchstone_events.transport import Outcome

from shared.lake.snapshot import LakeEventTables
from tests.robustness.faults import PROJECT, EventsProcess, make_key

DEADLINE_S = 60.0
CLIENT = Path(__file__).parents[2] / "clients" / "python"


@dataclass
class Clock:
    """A System whose time stands until it is moved; its randomness is a counter."""

    now_s: float = 1_790_000_000.0
    drawn: int = 0

    def time_ns(self):
        return int(self.now_s * 1e9)

    def monotonic(self):
        return self.now_s

    def random_bytes(self, count):
        self.drawn += 1
        return (self.drawn * 2654435761 % (1 << 8 * count)).to_bytes(count)


@dataclass
class FakeCall:
    events: list[str]
    result: Outcome | None

    def outcome(self):
        return self.result


@dataclass
class Wire:
    """A Transport that answers as it is told: `answers` first, then `usual`."""

    usual: str | None = "OK"
    answers: list[Outcome | None] = field(default_factory=list)
    calls: list[FakeCall] = field(default_factory=list)
    disconnected: int = 0

    def start(self, body, timeout_s, done):
        sent = ids(body)
        if self.answers:
            result = self.answers.pop(0)
        elif self.usual is None:
            result = None
        else:
            result = Outcome(self.usual)
        if result is not None and result.code == "OK" and not result.rejected:
            result = result._replace(accepted=len(sent) - result.duplicates)
        call = FakeCall(sent, result)
        self.calls.append(call)
        return call

    def disconnect(self):
        self.disconnected += 1

    quiesce = close = disconnect

    @property
    def arrived(self):
        """Ids that a call was answered OK for, in order."""
        return [
            name
            for call in self.calls
            if call.result is not None and call.result.code == "OK"
            for name in call.events
        ]


@dataclass
class KeyedService(EventsProcess):
    """An events service, not started yet, with a key to it."""

    key: str = ""

    def __post_init__(self):
        self.data.mkdir()
        self.key = make_key(self.data)


def ids(body):
    """The event ids of a request's bytes, read by the service's own stubs."""
    request = events_service_pb2.LogEventsRequest.FromString(body)
    return [event.event_id for event in request.events]


def stored(service, table="conversions"):
    """Event ids in the tables, each with how often it is there."""
    lake = service.data / "lake"
    if not lake.exists():
        return Counter[str]()
    with LakeEventTables(lake).snapshot(PROJECT).read() as tables:
        return Counter(tables[table].select("event_id").to_pyarrow()["event_id"].to_pylist())


def eventually(check, timeout_s=DEADLINE_S):
    """Waits until the check is true, or fails."""
    end = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < end, f"still not after {timeout_s} s: {check()!r}"
        time.sleep(0.02)
    return found


def python(script, *arguments, **environment):
    """A Python process in which the client can be imported, as a product's would be."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *(str(each) for each in arguments)],
        env=os.environ | {"PYTHONPATH": str(CLIENT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process, timeout_s=DEADLINE_S):
    """What the process printed; fails when it failed."""
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, (process.returncode, err)
    return out, err
