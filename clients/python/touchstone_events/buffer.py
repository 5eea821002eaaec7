"""Events in memory, between the product's threads and the one that delivers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from touchstone_events.settings import Settings


class Batch(NamedTuple):
    """Events that go in one call: the body of a LogEventsRequest."""

    body: bytes
    events: int
    first: int = 0
    """The place of its first event among all that were taken, from 0."""


class Buffer:
    """A bounded queue of encoded events. `put` never waits for anything but its lock.

    One thread takes; it sleeps in `wait` and is woken when there is something new to decide: the
    first event, a full batch, a half-full buffer.
    """

    def __init__(self, settings: Settings, monotonic: Callable[[], float]) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._oldest_at = 0.0
        self._told = 0
        self._woken = False
        self._closed = False
        self.taken = 0
        self.dropped = 0

    def put(self, event: bytes) -> bool:
        """Take an event; False when there is no room, or the sender has closed."""
        with self.lock:
            count, size = len(self._events) + 1, self._bytes + len(event)
            limits = self._settings
            if count > limits.queue_events or size > limits.queue_bytes or self._closed:
                self.dropped += 1
                return False
            if count == 1:
                self._oldest_at = self._monotonic()
            self._events.append(event)
            self._bytes = size
            self.taken += 1
            level = self._level()
            if level > self._told:
                self._told = level
                self._woken = True
                self._changed.notify_all()
        return True

    def take(self, *, now: float, force: bool) -> Batch | None:
        """The next batch, if one is due: full, or old enough. `force` makes any event due."""
        with self.lock:
            if not self._events or not (force or self._due_in(now) <= 0):
                return None
            first = self.taken - len(self._events)
            taken = [self._events.popleft()]
            size = len(taken[0])
            limits = self._settings
            while self._events and len(taken) < limits.batch_events:
                if size + len(self._events[0]) > limits.batch_bytes:
                    break
                taken.append(self._events.popleft())
                size += len(taken[-1])
            self._bytes -= size
            self._oldest_at = now
            self._told = self._level()
        return Batch(b"".join(taken), len(taken), first)

    def due_in(self, now: float) -> float | None:
        """Seconds until a batch is due; None while there is no event."""
        with self.lock:
            return self._due_in(now) if self._events else None

    def _due_in(self, now: float) -> float:
        if self._level() > 1:
            return 0.0
        return max(0.0, self._oldest_at + self._settings.batch_age_s - now)

    def _level(self) -> int:
        count, size, limits = len(self._events), self._bytes, self._settings
        if not count:
            return 0
        if 2 * count >= limits.queue_events or 2 * size >= limits.queue_bytes:
            return 3
        return 1 + (count >= limits.batch_events or size >= limits.batch_bytes)

    @property
    def half_full(self) -> bool:
        """Whether it is time to move events to the disk even while a call is under way."""
        with self.lock:
            return self._level() == 3

    @property
    def size(self) -> tuple[int, int]:
        """Events and bytes in it."""
        with self.lock:
            return len(self._events), self._bytes

    @property
    def first(self) -> int:
        """The place of its oldest event among all that were taken; of the next one when empty."""
        with self.lock:
            return self.taken - len(self._events)

    def close(self) -> None:
        """Take nothing more."""
        with self.lock:
            self._closed = True
            self._woken = True
            self._changed.notify_all()

    def wake(self) -> None:
        """End the present or the next `wait`."""
        with self.lock:
            self._woken = True
            self._changed.notify_all()

    def wait(self, timeout_s: float | None) -> None:
        """Sleep until something changes or the time is over. For the one thread that takes."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken, timeout_s)
            self._woken = False
