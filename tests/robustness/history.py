"""Everything that clients did and were told."""

from __future__ import annotations

import enum
import math
import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.robustness.content import Name

ACCEPTED, DUPLICATE = "accepted", "duplicate"


class Outcome(enum.Enum):
    """What a client knows after a call."""

    OK = "ok"
    FAILED = "failed"
    """The service said that it did nothing."""
    UNKNOWN = "unknown"
    """It may have happened, or happen later: its end is infinitely far away."""


@dataclass(slots=True)
class Call:
    """One LogEvents, by the monotonic clock of the machine."""

    client: int
    project: str
    names: list[Name]
    start_s: float
    end_s: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    code: str = "OK"
    statuses: list[str] = field(default_factory=list)
    """ACCEPTED, DUPLICATE or the reason of the rejection, an item each; empty unless it is OK."""
    token: str = ""

    def acknowledged(self) -> list[Name]:
        """The events that are stored, as this call was told."""
        told = zip(self.names, self.statuses, strict=True) if self.statuses else ()
        return [name for name, status in told if status in {ACCEPTED, DUPLICATE}]


class History:
    """The calls of all clients, and what watchers complained of. Safe in several threads."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.complaints: Counter[str] = Counter()
        self.examples: list[str] = []
        self.reads = 0
        self.longest_s = 0.0
        self.answered: deque[Call] = deque(maxlen=20)
        """The newest calls that were OK."""
        self._lock = threading.Lock()

    def begin(self, call: Call) -> None:
        """A call is about to be sent."""
        with self._lock:
            self.calls.append(call)

    def complain(self, promise: str, example: str, count: int = 1) -> None:
        """A promise was broken."""
        with self._lock:
            self.complaints[promise] += count
            if self.complaints[promise] <= 3 * count:
                self.examples.append(f"{promise}: {example}")

    def acknowledged_before(self, call: Call) -> Iterable[Name]:
        """What a reader with the token of this call must see: the events of the call, and those of
        every call of the project that was answered before this one began."""
        with self._lock:
            calls = [
                c
                for c in self.calls
                if c.project == call.project and (c is call or c.end_s < call.start_s)
            ]
        return [name for c in calls for name in c.acknowledged()]

    def sent(self, project: str) -> set[str]:
        """The ids that were sent so far for a project."""
        with self._lock:
            calls = [call for call in self.calls if call.project == project]
        return {name.event_id for call in calls for name in call.names}

    def outcomes(self) -> Counter[Outcome]:
        """How many calls ended how."""
        return Counter(call.outcome for call in self.calls)
