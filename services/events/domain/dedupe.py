"""Which event ids were seen before: exact within the window, from memory.

A fingerprint stands for (project, event id). The newest ones are in dictionaries; the rest in
runs of numpy arrays sorted by the upper half of the fingerprint, 24 bytes an event. Runs are
merged like levels of a log-structured tree, but only within a bucket of days, so that the window
moves by dropping whole buckets.
"""

import datetime as dt
import enum
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from services.events.domain.event import same_content
from services.events.domain.steady_day import SteadyDay

Unsigned = npt.NDArray[np.uint64]
Signed = npt.NDArray[np.int64]
Outcomes = npt.NDArray[np.int8]
T = TypeVar("T", bound=Hashable)

DAYS_PER_BUCKET = 8
SEAL_AT = 32_768
MERGE_FACTOR = 4


class Seen(enum.IntEnum):
    """What the window knows of an event."""

    NEW = 0
    DUPLICATE = 1
    CONFLICT = 2


@dataclass(frozen=True, slots=True)
class Reservation(Generic[T]):
    """The answer for a batch: a `Seen` an item, and whose durability it still depends on."""

    outcomes: Outcomes
    waits: frozenset[T]
    """Tickets of batches that hold one of these ids and are not durable yet."""


@dataclass(frozen=True, slots=True)
class Run:
    """Fingerprints received in one bucket of days, sorted by `upper`."""

    upper: Unsigned
    lower: Unsigned
    digests: Signed
    bucket: int

    def find(self, upper: Unsigned, lower: Unsigned) -> npt.NDArray[np.intp]:
        """Where each fingerprint stands in this run; -1 where it does not."""
        at = np.searchsorted(self.upper, upper)
        inside = np.minimum(at, len(self.upper) - 1)
        candidate = (at < len(self.upper)) & (self.upper[inside] == upper)
        found = np.where(candidate & (self.lower[inside] == lower), inside, -1)
        # Two fingerprints that share their upper half: rare enough to walk.
        for i in np.flatnonzero(candidate & (found < 0)):
            found[i] = self._walk(int(at[i]), upper[i], lower[i])
        return found

    def _walk(self, start: int, upper: np.uint64, lower: np.uint64) -> int:
        for i in range(start, len(self.upper)):
            if self.upper[i] != upper:
                break
            if self.lower[i] == lower:
                return i
        return -1


def make_run(fingerprints: bytes, digests: Signed, bucket: int) -> Run:
    """A run from fingerprints of 16 bytes each, one after another, in any order."""
    halves = np.frombuffer(fingerprints, dtype="<u8").reshape(-1, 2)
    return _sorted(halves[:, 1], halves[:, 0], digests, bucket)


def day_number(now: dt.datetime) -> int:
    """The UTC day of a moment, counted from 1970-01-01."""
    return (now.astimezone(dt.UTC).date() - dt.date(1970, 1, 1)).days


def bucket_of(day: int) -> int:
    """The bucket of a day, counted from 1970-01-01."""
    return day // DAYS_PER_BUCKET


class DedupeWindow(Generic[T]):
    """Remembers event ids. Safe to use from several threads.

    The first of two events with one id is NEW, whether or not it is durable yet; the second is a
    DUPLICATE, or a CONFLICT when its content differs. A reservation ends with `confirm` or
    `release`; `tidy` is slow and is called from a thread that has time.
    """

    def __init__(self, window_days: int) -> None:
        self._window_days = window_days
        self._lock = threading.Lock()
        # Two dictionaries, because the garbage collector looks at neither text nor numbers, but it
        # would look at every pair of a number and a ticket, again and again.
        self._pending: dict[bytes, int] = {}
        self._holders: dict[bytes, T] = {}
        self._recent: dict[bytes, int] = {}
        self._sealing: dict[bytes, int] = {}
        self._runs: tuple[Run, ...] = ()
        self._day = SteadyDay()

    def __len__(self) -> int:
        with self._lock:
            runs = sum(len(run.upper) for run in self._runs)
            return runs + len(self._recent) + len(self._sealing) + len(self._pending)

    def reserve(
        self, fingerprints: Sequence[bytes], digests: Sequence[int], ticket: T
    ) -> Reservation[T]:
        """Look up a batch and hold the ids that are new under the ticket."""
        with self._lock:
            stored = self._find(fingerprints)
            if not stored and self._none_pending(fingerprints):
                self._pending.update(zip(fingerprints, digests, strict=True))
                self._holders.update(dict.fromkeys(fingerprints, ticket))
                return Reservation(np.zeros(len(fingerprints), np.int8), frozenset())
            return self._reserve_each(fingerprints, digests, ticket, stored)

    def _none_pending(self, fingerprints: Sequence[bytes]) -> bool:
        """Whether no id is held by another batch, nor comes twice in this one."""
        alone = len(set(fingerprints)) == len(fingerprints)
        return alone and self._pending.keys().isdisjoint(fingerprints)

    def _reserve_each(
        self,
        fingerprints: Sequence[bytes],
        digests: Sequence[int],
        ticket: T,
        stored: Mapping[int, int],
    ) -> Reservation[T]:
        outcomes = np.zeros(len(fingerprints), np.int8)
        waits: set[T] = set()
        for i, key in enumerate(fingerprints):
            before = stored.get(i)
            if before is None and key in self._pending:
                before = self._pending[key]
                if self._holders[key] != ticket:
                    waits.add(self._holders[key])
            if before is None:
                self._pending[key], self._holders[key] = digests[i], ticket
            else:
                same = same_content(before, digests[i])
                outcomes[i] = Seen.DUPLICATE if same else Seen.CONFLICT
        return Reservation(outcomes, frozenset(waits))

    def confirm(self, fingerprints: Sequence[bytes]) -> None:
        """The reserved ids are durable."""
        with self._lock:
            for key in fingerprints:
                self._recent[key] = self._pending.pop(key)
                del self._holders[key]

    def release(self, fingerprints: Iterable[bytes]) -> None:
        """The reserved ids were not stored; they are new again."""
        with self._lock:
            for key in fingerprints:
                del self._pending[key], self._holders[key]

    def load(self, run: Run) -> None:
        """Add ids that are stored already; a rebuild at start."""
        if len(run.upper):
            with self._lock:
                self._runs = (*self._runs, run)
                self._day.know((run.bucket + 1) * DAYS_PER_BUCKET - 1)

    def tidy(self, today: int) -> bool:
        """Seal the newest ids, merge runs and drop those that left the window.

        `today` is the number of days since 1970-01-01. False when it lies so far ahead that it
        must be confirmed: no id is dropped by it until then. One thread at a time may call this.
        """
        believed = self._day.read(today)
        self._seal(bucket_of(max(today, self._day.day)))
        oldest = bucket_of(self._day.day - self._window_days)
        runs = _merged([run for run in self._runs if run.bucket >= oldest])
        with self._lock:
            self._runs = runs
        return believed

    def _seal(self, bucket: int) -> None:
        with self._lock:
            if len(self._recent) < SEAL_AT:
                return
            self._sealing, self._recent = self._recent, {}
        digests = np.fromiter(self._sealing.values(), np.int64, len(self._sealing))
        run = make_run(b"".join(self._sealing), digests, bucket)
        with self._lock:
            self._runs = (*self._runs, run)
            self._sealing = {}

    def _find(self, fingerprints: Sequence[bytes]) -> dict[int, int]:
        """The stored digest of each item that is stored, by its place in the batch."""
        stored: dict[int, int] = {}
        for newest in (self._recent, self._sealing):
            if newest and not newest.keys().isdisjoint(fingerprints):
                hits = ((i, newest.get(key)) for i, key in enumerate(fingerprints))
                stored.update((i, digest) for i, digest in hits if digest is not None)
        if self._runs and fingerprints:
            halves = np.frombuffer(b"".join(fingerprints), dtype="<u8").reshape(-1, 2)
            # In order, because neighbours then stand in the same lines of the processor's cache.
            order = np.argsort(halves[:, 1])
            upper, lower = halves[order, 1], halves[order, 0]
            for run in self._runs:
                at = run.find(upper, lower)
                found = np.flatnonzero(at >= 0)
                if len(found):
                    digests = run.digests[at[found]].tolist()
                    stored.update(zip(order[found].tolist(), digests, strict=True))
        return stored


def _sorted(upper: Unsigned, lower: Unsigned, digests: Signed, bucket: int) -> Run:
    order = np.argsort(upper, kind="stable")
    return Run(upper[order], lower[order], digests[order], bucket)


def _merged(runs: list[Run]) -> tuple[Run, ...]:
    """Runs of one bucket until each is much larger than the next: few runs, few rewrites."""
    done: list[Run] = []
    for run in sorted(runs, key=lambda run: (run.bucket, -len(run.upper))):
        newest = run
        while done and _mergeable(done[-1], newest):
            older = done.pop()
            newest = _sorted(
                np.concatenate([older.upper, newest.upper]),
                np.concatenate([older.lower, newest.lower]),
                np.concatenate([older.digests, newest.digests]),
                older.bucket,
            )
        done.append(newest)
    return tuple(done)


def _mergeable(older: Run, newer: Run) -> bool:
    same = older.bucket == newer.bucket
    return same and len(older.upper) < MERGE_FACTOR * len(newer.upper)
