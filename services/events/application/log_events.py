"""Log a batch of events: judge each, store the new ones, answer when they are on the disk."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from services.events.application.arrival_rules import NO_RULES, ArrivalRules
from services.events.application.group_commit import Durable, GroupCommit
from services.events.application.keep_rejected import Keeping
from services.events.application.pending import PendingBatches
from services.events.application.receive_time import ReceiveTime
from services.events.batch import Batch, Flags, Integers, Portion
from services.events.domain.dedupe import DedupeWindow, Seen
from services.events.domain.event import fingerprint_prefix
from services.events.domain.instant import rfc3339
from services.events.domain.limits import MICROSECONDS, Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from shared.errors import unavailable

Window: TypeAlias = DedupeWindow[Durable]
Result = TypeVar("Result")
FEW = 100
"""Rejected events that may be encoded without a thread, though nothing else goes on meanwhile."""


@dataclass(frozen=True, slots=True)
class LogEvents:
    """A batch as it was received: the events that keep the contract, and the others by place."""

    project: str
    portions: Sequence[Portion]
    rejected: dict[int, Rejection]
    sent: Callable[[int], tuple[str, bytes]]
    """The source and the encoded event at a place, for the ones that are kept as rejected."""
    heavy: bool = False
    """Whether work on the whole batch takes long enough to stand in the way of other calls."""


async def beside(
    heavy: bool, work: Callable[[], Result], threads: Executor | None = None
) -> Result:
    """Do work on a batch: here, or in a thread when the event loop must go on meanwhile.

    It is one of the `threads`; None: of those of the event loop.
    """
    if not heavy:
        return work()
    return await asyncio.get_running_loop().run_in_executor(threads, copy_context().run, work)


@dataclass(frozen=True, slots=True)
class Logged:
    """What became of a batch. Items are named by their place in it."""

    accepted: int
    duplicates: tuple[int, ...]
    rejected: tuple[tuple[int, Rejection], ...]
    position: int
    """The journal position that covers everything acknowledged here.

    It is not below that of a call which was answered before this one came.
    """


@dataclass(frozen=True, slots=True)
class EventLog:
    """What logging needs."""

    window: Window
    commits: GroupCommit
    rejected: Keeping
    received: ReceiveTime
    limits: Limits
    pending: PendingBatches
    rules: ArrivalRules = NO_RULES
    threads: Executor | None = None
    """For heavy batches alone, so that nothing else can take their threads."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """The events that may be stored, in the order of the request, and those that may not.

    Event `i` in that order is row `order[i]` of the portions, one portion after another.
    """

    portions: list[Portion]
    order: Integers
    fingerprints: list[bytes]
    digests: list[int]
    rejected: dict[int, Rejection]

    @property
    def places(self) -> Integers:
        """The place of each row in the request."""
        return np.concatenate([np.empty(0, np.int64), *(p.places for p in self.portions)])

    def rows(self, chosen: Flags) -> list[Flags]:
        """What is chosen in the order of the request, for each row of each portion."""
        by_row = np.empty(len(chosen), bool)
        by_row[self.order] = chosen
        ends = np.cumsum([len(portion) for portion in self.portions])
        return np.split(by_row, ends[:-1])


async def log_events(command: LogEvents, log: EventLog) -> Logged:
    """Store the events that are new and say what became of each.

    Returns when everything it reports is durable. On any error nothing may be assumed: the whole
    batch can be sent again, and what was stored is then a duplicate.
    """
    now_us = log.received.now_us()
    judged = await beside(command.heavy, lambda: _judge(command, now_us, log), log.threads)
    durable: Durable = asyncio.get_running_loop().create_future()
    reservation = log.window.reserve(judged.fingerprints, judged.digests, durable)
    new = reservation.outcomes == Seen.NEW
    accepted = int(np.count_nonzero(new))
    if accepted:
        await _store(command, judged, new, now_us, durable, log)
    await _others(reservation.waits)
    places = judged.places[judged.order]
    duplicates = tuple(places[reservation.outcomes == Seen.DUPLICATE].tolist())
    if accepted + len(duplicates) < len(new):
        judged.rejected.update(_conflicts(judged, reservation.outcomes == Seen.CONFLICT))
    rejected = tuple(sorted(judged.rejected.items()))
    if rejected:
        await _keep(command, rejected, now_us, log)
    # Where the first of a duplicate stands is not remembered, only that it is durable by now. Nor
    # may a call that stores nothing answer with less than the caller's call before it did.
    alone = accepted and not duplicates
    position = durable.result() if alone else log.commits.last
    return Logged(accepted, duplicates, rejected, position)


def _judge(command: LogEvents, now_us: int, log: EventLog) -> _Judged:
    portions, rejected = [], dict(command.rejected)
    for received in command.portions:
        portion = log.rules.apply(command.project, received, rejected)
        kept = _in_range(portion, now_us, log.limits)
        if not kept.all():
            rejected.update(_out_of_range(portion.where(~kept), now_us, log.limits))
        portions.append(portion.where(kept))
    portions = [portion for portion in portions if len(portion)]
    prefix = fingerprint_prefix(command.project)
    names = [name for portion in portions for name in portion.fingerprints(prefix)]
    digests = [digest for portion in portions for digest in portion.digests().tolist()]
    # The first of two events with one id is the first of the request, whatever their kinds.
    places = np.concatenate([np.empty(0, np.int64), *(portion.places for portion in portions)])
    order = np.argsort(places)
    in_order = order.tolist()
    return _Judged(
        portions, order, [names[i] for i in in_order], [digests[i] for i in in_order], rejected
    )


async def _store(
    command: LogEvents, judged: _Judged, new: Flags, now_us: int, durable: Durable, log: EventLog
) -> None:
    """Store the new events. Their reservation ends with the write, whoever still waits for it."""
    held = judged.fingerprints
    if not new.all():
        held = [judged.fingerprints[i] for i in np.flatnonzero(new)]

    def settle(done: Durable) -> None:
        if done.cancelled() or done.exception() is not None:
            log.window.release(held)
        else:
            log.window.confirm(held)
            log.pending.add(command.project, done.result())

    durable.add_done_callback(settle)
    try:
        batch = await beside(
            command.heavy, lambda: _batch(command.project, judged, new, now_us), log.threads
        )
        log.commits.submit(batch, durable)
    except BaseException:
        durable.cancel()
        raise
    await asyncio.shield(durable)


def _batch(project: str, judged: _Judged, new: Flags, now_us: int) -> Batch:
    digests = np.empty(len(new), np.int64)
    digests[judged.order] = judged.digests
    ends = np.cumsum([len(portion) for portion in judged.portions])[:-1]
    parts = [
        (portion.where(kept), of_portion[kept])
        for portion, kept, of_portion in zip(
            judged.portions, judged.rows(new), np.split(digests, ends), strict=True
        )
    ]
    return Batch(project, now_us, tuple((part, of) for part, of in parts if len(part)))


async def _others(waits: frozenset[Durable]) -> None:
    """Wait until the batches that hold ids of ours are durable; without them nothing is true."""
    if not waits:
        return
    await asyncio.wait(waits)
    if any(other.cancelled() or other.exception() is not None for other in waits):
        raise unavailable(
            "STORAGE_UNAVAILABLE",
            "another batch with some of these event ids could not be stored: send this one again",
        )


async def _keep(
    command: LogEvents, rejected: Sequence[tuple[int, Rejection]], now_us: int, log: EventLog
) -> None:
    kept = await beside(
        command.heavy or len(rejected) > FEW,
        lambda: _kept(command, rejected, now_us, log.rules),
        # Only heavy batches have waited for their turn at these.
        log.threads if command.heavy else None,
    )
    if kept:
        await log.rejected.keep(command.project, kept)


def _kept(
    command: LogEvents,
    rejected: Sequence[tuple[int, Rejection]],
    now_us: int,
    rules: ArrivalRules,
) -> list[RejectedEvent]:
    kept = []
    for place, why in rejected:
        source, payload = command.sent(place)
        kept.append(RejectedEvent(command.project, why, now_us, source, payload))
    return rules.keepable(command.project, kept)


def _conflicts(judged: _Judged, conflicting: Flags) -> dict[int, Rejection]:
    return {
        int(place): Rejection(
            event_id,
            Reason.CONFLICTING_DUPLICATE,
            "event_id",
            "was used before for an event with other content, which stands; "
            "send a different event under an id of its own",
        )
        for portion, kept in zip(judged.portions, judged.rows(conflicting), strict=True)
        for place, event_id in _named(portion.where(kept))
    }


def _in_range(portion: Portion, now_us: int, limits: Limits) -> Flags:
    times_us = portion.times_us
    return (times_us >= 0) & (times_us <= now_us + limits.event_lead_s * MICROSECONDS)


def _out_of_range(portion: Portion, now_us: int, limits: Limits) -> dict[int, Rejection]:
    latest = rfc3339(now_us + limits.event_lead_s * MICROSECONDS)
    return {
        place: Rejection(
            event_id,
            Reason.EVENT_TIME_OUT_OF_RANGE,
            "event_time",
            f"is {rfc3339(time_us)}; allowed: from {rfc3339(0)} to {limits.event_lead_s // 3600} "
            f"hours after it is received, for this batch {latest}: send the time when it happened, "
            "in UTC",
        )
        for (place, event_id), time_us in zip(_named(portion), portion.times_us, strict=True)
    }


def _named(portion: Portion) -> list[tuple[int, str]]:
    """The place and the id of each event."""
    return list(zip(portion.places.tolist(), portion.ids, strict=True))
