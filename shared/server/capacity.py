"""How much a server does at once: calls, and watches by themselves, so that many of these, which
cost little and last, take no place of those.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from shared.errors import overloaded
from shared.server.places import StreamPlaces
from shared.server.rules import Rule

RETRY_S = 1.0
# What the guard refuses in words stays below what the transport refuses without any.
_TRANSPORT_MORE = 1000


class Capacity:
    """Counts what is served now."""

    def __init__(self, calls: int, watches: int) -> None:
        self._most = {False: calls, True: watches}
        self._taken = {False: 0, True: 0}
        self._watches = StreamPlaces(
            watches,
            "watches",
            "close some, or ask the operator for more (TOUCHSTONE_MAX_WATCHES)",
            RETRY_S,
        )

    @property
    def transport(self) -> int:
        """How many calls of both kinds the transport should let in."""
        return sum(self._most.values()) + _TRANSPORT_MORE

    def of_project(self, rule: Rule | None, project: str) -> AbstractContextManager[None]:
        """A place of those that one project may have, for a watch that has one by `one`: who opens
        it is known only later. RESOURCE_EXHAUSTED when the project has none left.
        """
        if rule is None or not rule.watch:
            return nullcontext()
        return self._watches.place(project)

    @contextmanager
    def one(self, rule: Rule | None) -> Iterator[None]:
        """A place for the time of the block; RESOURCE_EXHAUSTED when none is free."""
        watch = rule is not None and rule.watch
        if self._taken[watch] >= self._most[watch]:
            kind, limit = ("watches", "MAX_WATCHES") if watch else ("calls", "MAX_CONCURRENT_RPCS")
            raise overloaded(
                f"{self._most[watch]} {kind} are served now, and at most that many are at once; "
                f"call again later, or ask the operator for more (TOUCHSTONE_{limit})",
                RETRY_S,
            )
        self._taken[watch] += 1
        try:
            yield
        finally:
            self._taken[watch] -= 1
