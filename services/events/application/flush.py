"""Move acknowledged batches from the journal into the tables, each event once."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from services.events.domain.limits import Limits
from services.events.ports import EventSink, Journal
from shared.errors import DomainError, unavailable

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
MAX_BACKOFF_S = 30.0
HANGS_S = 30.0
"""A turn that takes longer is one that the disk does not let end."""


def flush(journal: Journal, sink: EventSink, limits: Limits) -> bool:
    """Store one portion of what is not visible yet.

    True when the portion was full: more stood in the journal when the call began. What came
    meanwhile waits for the next turn, so that steady traffic is stored once an interval, not in a
    commit for every batch.

    A crash anywhere in between is repaired by the next call: the sink skips what it holds, and the
    journal forgets only what the sink holds for good.
    """
    last = journal.last
    entries = journal.read(sink.position, limits.flush_bytes)
    if not entries:
        return False
    sink.store(entries)
    journal.trim(sink.position)
    return sink.position < last


class FlushLoop:
    """Flushes every `interval_s` from a thread of its own, and once more when it is closed.

    `step` is a turn of flushing that says whether more waits. `tidy` is upkeep of a bounded
    duration: it has its turn once an interval, also while a backlog is worked off, and its failure
    delays no event. `do` is for whatever else changes the tables: this thread is their one writer.
    """

    def __init__(
        self,
        step: Callable[[], bool],
        tidy: Callable[[], None],
        recover: Callable[[], None],
        interval_s: float,
        hangs_s: float = HANGS_S,
    ) -> None:
        self._step = step
        self._tidy = tidy
        self._recover = recover
        self._interval_s = interval_s
        self._hangs_s = hangs_s
        self._failures = 0
        self._alive_s: float | None = None
        self._next_tidy = 0.0
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)

    @property
    def healthy(self) -> bool:
        """Whether the last attempt succeeded, and the one in progress does not hang."""
        alive_s = self._alive_s
        hangs = alive_s is not None and time.monotonic() - alive_s > self._hangs_s
        return self._failures == 0 and not hangs

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Work on the tables between two turns of flushing, in this thread, one at a time.

        Keep it short: events wait for their turn meanwhile. UNAVAILABLE when the loop ends before.
        """
        done: Future[T] = Future()
        self._work.put((work, done))
        self._wake.set()
        if self._stop.is_set():
            self._refuse_work()
        return done

    def close(self) -> None:
        """Flush what there is, then stop. May be called twice."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._refuse_work()

    def _run(self) -> None:
        next_turn = time.monotonic()
        while not self._stop.is_set():
            self._alive_s = None
            self._wake.wait(max(0.0, next_turn - time.monotonic()))
            self._wake.clear()
            self._alive_s = time.monotonic()
            self._do_work()
            if time.monotonic() >= next_turn:
                self._drain()
                next_turn = time.monotonic() + self._delay_s()
        self._drain()

    def _do_work(self) -> None:
        while not self._stop.is_set() and not self._work.empty():
            work, done = self._work.get()
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(work())
                # Whoever waits for the work is told; the loop goes on.
                except BaseException as error:  # noqa: BLE001  see above
                    done.set_exception(error)

    def _refuse_work(self) -> None:
        while not self._work.empty():
            _, done = self._work.get()
            if done.set_running_or_notify_cancel():
                done.set_exception(
                    unavailable("DRAINING", "the events service is shutting down: call again")
                )

    def _delay_s(self) -> float:
        return min(MAX_BACKOFF_S, self._interval_s * 2.0 ** min(self._failures, 10))

    def _drain(self) -> None:
        try:
            while self._step():
                self._failures = 0
                self._alive_s = time.monotonic()
                self._tidy_in_turn()
            self._failures = 0
        # The thread must outlive any failure of the disk or of the table library; the events are
        # in the journal, and readiness and the log tell of it.
        except Exception as error:  # noqa: BLE001  see above
            self._failures += 1
            _LOG.exception("flush failed %d times; events stay in the journal", self._failures)
            if not isinstance(error, DomainError):
                self._try_recover()
        else:
            self._tidy_in_turn()

    def _tidy_in_turn(self) -> None:
        if self._stop.is_set() or time.monotonic() < self._next_tidy:
            return
        try:
            self._tidy()
        except Exception:  # noqa: BLE001  the events are stored; upkeep has its next turn
            _LOG.exception("upkeep of the event tables failed; trying again later")
            self._try_recover()
        self._next_tidy = time.monotonic() + self._interval_s

    def _try_recover(self) -> None:
        try:
            self._recover()
        except Exception:  # noqa: BLE001  the next attempt starts here again
            _LOG.exception("the event tables cannot be opened; trying again later")
