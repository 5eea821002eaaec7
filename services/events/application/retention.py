"""Delete what is older than is kept: whole days of the tables, and rejected events."""

import datetime as dt
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.events.domain.dedupe import day_number
from services.events.domain.limits import MICROSECONDS
from services.events.domain.rejection import Wanted
from services.events.domain.retention import REJECTED, Retention
from services.events.domain.steady_day import SteadyDay
from services.events.ports import RejectedEvents
from shared.clock import Clock
from shared.lake.layout import TABLES

_LOG = logging.getLogger(__name__)
EVERY_S = 3600.0
BUDGET_S = 0.2
REJECTED_A_TURN = 2000
_EPOCH = dt.date(1970, 1, 1)


class RetentionStore(Protocol):
    """The rules of the projects, within one transaction."""

    def get(self, project: str) -> Retention:
        """The project's rules; without any, all is kept."""

    def replace(self, new: Retention, etag: str, now: dt.datetime) -> Retention:
        """The rules as stored. Raises ABORTED when the etag is given and another is current."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the rules are, and where they are applied.

    `drop_days(table, project, day)` deletes the days before that one and says how many files they
    were; `newest_day` is the newest day, counted from 1970-01-01, on which anything was received.
    """

    rules: Callable[[], Sequence[Retention]]
    drop_days: Callable[[str, str, dt.date], int]
    rejected: RejectedEvents
    newest_day: Callable[[], int]
    clock: Clock


class RetentionUpkeep:
    """Applies the rules in turns of upkeep: once an hour, and soon after a change.

    Deleting cannot be undone, so a clock that leaps ahead is not believed at once: see SteadyDay.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._steady: SteadyDay | None = None
        self._next = 0.0
        self._left: deque[tuple[Retention, str]] = deque()
        self._told = False

    def soon(self) -> None:
        """The rules have changed."""
        self._next = 0.0

    def turn(self) -> None:
        """A turn of upkeep of about `BUDGET_S` at most; it takes no time unless it is time."""
        if not self._left and time.monotonic() >= self._next:
            rules = self._kept.rules()
            self._next = time.monotonic() + EVERY_S
            if rules and self._believes_the_clock():
                kinds = (*TABLES, REJECTED)
                self._left.extend((one, kind) for one in rules for kind in kinds)
        until = time.monotonic() + BUDGET_S
        while self._left and time.monotonic() < until:
            self._apply(*self._left.popleft())

    def _believes_the_clock(self) -> bool:
        if self._steady is None:
            self._steady = SteadyDay()
            newest = self._kept.newest_day()
            if newest:
                self._steady.know(newest)
        now = self._kept.clock.now()
        believed = self._steady.read(day_number(now))
        if not believed and not self._told:
            _LOG.warning(
                "the clock says %s, days after the newest event received: is it right? Nothing is "
                "deleted for its age until the clock has gone on from there",
                now.astimezone(dt.UTC).date(),
            )
        self._told = not believed
        return believed

    def _apply(self, rules: Retention, kind: str) -> None:
        today = self._kept.clock.now().astimezone(dt.UTC).date()
        day = rules.oldest_day(kind, today)
        if day is None:
            return
        if kind == REJECTED:
            self._drop_rejected(rules.project, day)
        elif files := self._kept.drop_days(kind, rules.project, day):
            _LOG.info("dropped %d files of %s before %s", files, kind, day)

    def _drop_rejected(self, project: str, day: dt.date) -> None:
        before_us = (day - _EPOCH).days * 86_400 * MICROSECONDS
        old = self._kept.rejected.numbers(project, Wanted(end_us=before_us), 0, REJECTED_A_TURN)
        if old:
            self._kept.rejected.settle(project, old, {})
        if len(old) == REJECTED_A_TURN:
            self.soon()
