"""What became of the events."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

LOG = logging.getLogger("touchstone_events")
_FIRST_LOGGED, _THEN_ONE_IN = 10, 1000


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of events since the sender started, unless it says otherwise.

    Once nothing is under way: taken + recovered = queued + spooled + sent + duplicates + rejected
    + refused + lost.
    """

    taken: int = 0
    """Accepted from the product."""
    recovered: int = 0
    """Found on disk, left by an earlier process."""
    queued: int = 0
    """In memory now, those of a call that is under way among them."""
    queued_bytes: int = 0
    spooled: int = 0
    """On disk now."""
    spooled_bytes: int = 0
    sent: int = 0
    """Stored by the service."""
    duplicates: int = 0
    """Stored by the service before: an earlier call had arrived."""
    rejected: int = 0
    """Kept by the service among the rejected events, with the reason."""
    refused: int = 0
    """In calls that ended with a code that is not retried."""
    lost: int = 0
    """Taken, but neither sent nor spooled when the sender was closed."""
    dropped: int = 0
    """Not taken: memory was full, or the sender closed."""
    invalid: int = 0
    """Not taken: the event could not be encoded, or is too large."""
    failures: int = 0
    """Calls that failed and were or will be repeated."""
    spool_errors: int = 0
    """Writes to the spool that failed; the events stayed in memory."""
    unreadable_bytes: int = 0
    """Bytes of the spool that a crash or the disk left unreadable."""


class Problem(NamedTuple):
    """Events that the service did not store. For `refused`, only their number is known."""

    kind: str
    """`rejected` or `refused`."""
    reason: str
    """A RejectionReason without its prefix, or a gRPC code."""
    message: str
    events: int = 1
    event_id: str = ""
    field: str = ""


Report = Callable[[Problem], None]


class Ledger:
    """Counts events, and reports what went wrong."""

    def __init__(self, report: Report | None) -> None:
        self._report = report or ProblemLog()
        self._lock = threading.Lock()
        self._stats = Stats()
        self._warned: set[str] = set()

    def add(self, **counts: int) -> None:
        """Raise counts by their names in Stats."""
        with self._lock:
            before = self._stats
            raised = {name: getattr(before, name) + by for name, by in counts.items()}
            self._stats = replace(before, **raised)

    def report(self, problem: Problem) -> None:
        """Hand a problem to the product; what its function raises is logged and goes no further."""
        try:
            self._report(problem)
        except Exception:  # a product's function must not end the delivery
            LOG.exception("the function for problems failed")

    def warn_once(self, about: str, message: str, *values: object) -> None:
        """A line in the log, the first time only: a full queue would fill the log as well."""
        with self._lock:
            if about in self._warned:
                return
            self._warned.add(about)
        LOG.warning(message, *values)

    def snapshot(self) -> Stats:
        """The counts now."""
        with self._lock:
            return self._stats


class ProblemLog:
    """Problems as warnings: the first ones of each reason, then one in a thousand.

    A line has the event's own id, and no id of a unit. For one thread.
    """

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()

    def __call__(self, problem: Problem) -> None:
        """Log it, or only count it."""
        key = (problem.kind, problem.reason)
        self._seen[key] += 1
        seen = self._seen[key]
        if seen <= _FIRST_LOGGED or seen % _THEN_ONE_IN == 0:
            LOG.warning(
                "%d event(s) %s: %s: %s %s %s (%d of this reason until now)",
                problem.events,
                problem.kind,
                problem.reason,
                problem.event_id,
                problem.field,
                problem.message,
                seen,
            )
