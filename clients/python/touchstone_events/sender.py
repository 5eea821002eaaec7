"""The sender: what a product calls."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from touchstone_events.buffer import Buffer
from touchstone_events.contract import contract
from touchstone_events.delivery import Delivery
from touchstone_events.events import (
    NOTHING_MORE,
    About,
    Conversion,
    Exposure,
    Identify,
    Payload,
    Stamp,
    Touchpoint,
    Unit,
    encode,
)
from touchstone_events.settings import Service, Settings
from touchstone_events.stats import LOG, Ledger, Report, Stats
from touchstone_events.system import Machine, System, new_id
from touchstone_events.transport import GrpcTransport, Transport

_FORK_WAIT_S = 1.0
_JOIN_MORE_S = 1.0
_AFTER_A_BUG_S = 1.0


class EventSender:
    """Takes events at once and sends them in a thread of its own. Safe to use from any thread.

    Nothing is opened before `start`, `with`, or the first event. Taking an event never waits for
    the network or the disk and never raises for what is in it; False says that it was not taken.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings | None = None,
        *,
        report: Report | None = None,
        system: System | None = None,
        transport: Callable[[], Transport] | None = None,
    ) -> None:
        self._settings = settings or Settings()
        self._report = report
        self._system = system or Machine()
        self._connect = transport or (lambda: GrpcTransport(service))
        self._closed = False
        self._build()

    def _build(self) -> None:
        self._ledger = Ledger(self._report)
        self._buffer = Buffer(self._settings, self._system.monotonic)
        self._transport = self._connect()
        self._delivery = Delivery(
            self._settings, self._buffer, self._transport, self._ledger, self._system
        )
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._contract = contract()

    def exposure(
        self,
        unit: Unit,
        experiment: str,
        variant: str,
        *,
        config_version: int = 0,
        reason: str = "",
        evaluator: str = "",
        about: About = NOTHING_MORE,
    ) -> bool:
        """The unit met a variant. True when the event was taken."""
        it = Exposure(experiment, variant, config_version, reason, evaluator)
        return self.track(unit, it, about)

    def conversion(
        self,
        unit: Unit,
        event_name: str,
        *,
        value: float | None = None,
        currency: str = "",
        about: About = NOTHING_MORE,
    ) -> bool:
        """The unit did something that is measured. True when the event was taken."""
        return self.track(unit, Conversion(event_name, value, currency), about)

    def touchpoint(self, unit: Unit, touch: Touchpoint, *, about: About = NOTHING_MORE) -> bool:
        """The unit was reached through a channel. True when the event was taken."""
        return self.track(unit, touch, about)

    def identify(
        self, unit: Unit, other: Unit, *, unlink: bool = False, about: About = NOTHING_MORE
    ) -> bool:
        """Two ids belong to one unit, or do not. True when the event was taken."""
        return self.track(unit, Identify(other, unlink), about)

    def track(self, unit: Unit, payload: Payload, about: About = NOTHING_MORE) -> bool:
        """Any event. Its id is made now: whatever is repeated later is the same event."""
        if self._thread is None:
            self.start()
        now_ns = self._system.time_ns()
        stamp = Stamp(new_id(self._system, now_ns), now_ns, self._settings.source)
        try:
            event = encode(self._contract, unit, payload, about, stamp)
        except Exception as error:  # noqa: BLE001  a request must not fail for its event
            return self._invalid(f"{type(error).__name__}: {error}")
        if len(event) > self._settings.event_bytes:
            return self._invalid(
                f"it takes {len(event)} bytes; at most {self._settings.event_bytes}"
            )
        if self._buffer.put(event):
            return True
        self._ledger.warn_once(
            "dropped", "events are dropped: memory is full or the sender closed; see stats()"
        )
        return False

    def start(self) -> None:
        """Start the thread. It sends what an earlier process left in the spool."""
        with self._starting:
            if self._thread is not None or self._closed:
                return
            _follow_forks(self)
            # A daemon, so that it cannot hold up the end of the interpreter: `_at_exit` does, for a
            # bounded time.
            thread = threading.Thread(target=self._run, name="touchstone-events", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._ledger.warn_once("thread", "events are not sent: %s", error)
                return
            self._thread = thread
            atexit.unregister(self._at_exit)
            atexit.register(self._at_exit)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until what was taken before has left memory: stored, refused, or on disk."""
        goal = self._delivery.flush()
        end = time.monotonic() + timeout_s
        while self._delivery.oldest < goal:
            if time.monotonic() >= end or self._thread is None:
                return False
            time.sleep(0.002)
        return True

    def close(self, timeout_s: float | None = None) -> bool:
        """Take nothing more, send what is in memory, spool the rest. True when nothing is lost.

        Takes at most `timeout_s`, or `Settings.close_s`, and a second for the disk. May be called
        again.
        """
        self._closed = True
        self._delivery.close(self._settings.close_s if timeout_s is None else timeout_s)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            left_s = self._settings.close_s if timeout_s is None else timeout_s
            thread.join(left_s + _JOIN_MORE_S)
            if thread.is_alive():
                LOG.error("the sender could not be closed in %g s", left_s + _JOIN_MORE_S)
        atexit.unregister(self._at_exit)
        stats = self.stats()
        return not stats.lost and not stats.queued

    def stats(self) -> Stats:
        """What became of the events until now."""
        queued, queued_bytes = self._buffer.size
        in_hand, in_hand_bytes = self._delivery.in_hand
        spooled, spooled_bytes = self._delivery.spooling.size
        counted = self._ledger.snapshot()
        return replace(
            counted,
            taken=self._buffer.taken,
            dropped=self._buffer.dropped,
            queued=queued + in_hand,
            queued_bytes=queued_bytes + in_hand_bytes,
            spooled=spooled,
            spooled_bytes=spooled_bytes,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        delivery, buffer = self._delivery, self._buffer
        delivery.spooling.open()
        while not delivery.finished:
            try:
                wait_s = delivery.turn()
            except Exception:  # noqa: BLE001  one bug must not end the delivery
                LOG.exception("the delivery of events failed; it goes on")
                wait_s = _AFTER_A_BUG_S
            if wait_s != 0.0:
                buffer.wait(wait_s)

    def _invalid(self, why: str) -> bool:
        self._ledger.add(invalid=1)
        self._ledger.warn_once("invalid", "an event was not taken: %s; see stats()", why)
        return False

    def _at_exit(self) -> None:
        self.close()

    def _before_fork(self) -> None:
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            self._delivery.park(_FORK_WAIT_S)

    def _after_fork_in_parent(self) -> None:
        self._delivery.unpark()

    def _after_fork_in_child(self) -> None:
        """The parent keeps its events, its slot and its thread; the child begins anew."""
        # The connection of a parent that could not be parked must not be torn down by the child.
        self._parents = (self._transport, self._delivery)
        self._delivery.spooling.close()
        self._build()
        if self._closed:
            self._buffer.close()


_SENDERS: weakref.WeakSet[EventSender] = weakref.WeakSet()
_FOLLOWING = threading.Event()


def _follow_forks(sender: EventSender) -> None:
    """Hooks can be set and never removed: one set for all senders."""
    _SENDERS.add(sender)
    if _FOLLOWING.is_set() or not hasattr(os, "register_at_fork"):
        return
    _FOLLOWING.set()

    def each(method: Callable[[EventSender], None]) -> Callable[[], None]:
        def act() -> None:
            for one in tuple(_SENDERS):
                method(one)

        return act

    os.register_at_fork(
        before=each(EventSender._before_fork),  # noqa: SLF001  the class's own
        after_in_parent=each(EventSender._after_fork_in_parent),  # noqa: SLF001
        after_in_child=each(EventSender._after_fork_in_child),  # noqa: SLF001
    )
