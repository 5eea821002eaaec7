"""Log a batch of events: judge each, store the new ones, answer when they are on the disk."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from services.events.application.group_commit import Durable, GroupCommit
from services.events.application.pending import PendingBatches
from services.events.domain.dedupe import DedupeWindow, Seen
from services.events.domain.event import (
    Event,
    EventBatch,
    content_digest,
    fingerprint,
    fingerprint_prefix,
)
from services.events.domain.limits import MICROSECONDS, Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from services.events.ports import BatchCodec, RejectedEvents
from shared.clock import Clock
from shared.errors import unavailable

Window: TypeAlias = DedupeWindow[Durable]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class LogEvents:
    """A batch as it was received: each item parsed, or rejected while parsing."""

    project: str
    items: Sequence[Event | Rejection]
    payload_of: Callable[[int], bytes]
    """The item as the sender encoded it, for the ones that are kept as rejected."""
    heavy: bool = False
    """Whether work on the whole batch takes long enough to stand in the way of other calls."""


async def beside(heavy: bool, work: Callable[[], Result]) -> Result:
    """Do work on a batch: here, or in a thread when the event loop must go on meanwhile."""
    return await asyncio.to_thread(work) if heavy else work()


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
    codec: BatchCodec
    rejected: RejectedEvents
    clock: Clock
    limits: Limits
    pending: PendingBatches


@dataclass(frozen=True, slots=True)
class _Judged:
    """The items that may be stored, and those that may not."""

    places: list[int]
    events: list[Event]
    digests: list[int]
    fingerprints: list[bytes]
    rejected: dict[int, Rejection]


async def log_events(command: LogEvents, log: EventLog) -> Logged:
    """Store the events that are new and say what became of each.

    Returns when everything it reports is durable. On any error nothing may be assumed: the whole
    batch can be sent again, and what was stored is then a duplicate.
    """
    now_us = int(log.clock.now().timestamp() * MICROSECONDS)
    judged = await beside(command.heavy, lambda: _judge(command, now_us, log.limits))
    durable: Durable = asyncio.get_running_loop().create_future()
    reservation = log.window.reserve(judged.fingerprints, judged.digests, durable)
    new = [i for i, seen in enumerate(reservation.outcomes) if seen is Seen.NEW]
    if new:
        batch = EventBatch(
            command.project,
            now_us,
            tuple(judged.events[i] for i in new),
            tuple(judged.digests[i] for i in new),
        )
        await _store(command, batch, [judged.fingerprints[i] for i in new], durable, log)
    await _others(reservation.waits)
    duplicates = []
    for place, event, seen in zip(judged.places, judged.events, reservation.outcomes, strict=True):
        if seen is Seen.DUPLICATE:
            duplicates.append(place)
        elif seen is Seen.CONFLICT:
            judged.rejected[place] = _conflict(event)
    rejected = tuple(sorted(judged.rejected.items()))
    if rejected:
        await asyncio.to_thread(
            lambda: log.rejected.keep(_kept(command, rejected, now_us, log.limits))
        )
    # Where the first of a duplicate stands is not remembered, only that it is durable by now. Nor
    # may a call that stores nothing answer with less than the caller's call before it did.
    alone = new and not duplicates
    position = durable.result() if alone else log.commits.last
    return Logged(len(new), tuple(duplicates), rejected, position)


def _judge(command: LogEvents, now_us: int, limits: Limits) -> _Judged:
    judged = _Judged([], [], [], [], {})
    prefix = fingerprint_prefix(command.project)
    latest_us = now_us + limits.event_lead_s * MICROSECONDS
    for place, item in enumerate(command.items):
        if isinstance(item, Rejection):
            judged.rejected[place] = item
        elif not 0 <= item.time_us <= latest_us:
            judged.rejected[place] = _out_of_range(item, now_us, limits)
        else:
            judged.places.append(place)
            judged.events.append(item)
            judged.digests.append(content_digest(item))
            judged.fingerprints.append(fingerprint(prefix, item.event_id))
    return judged


async def _store(
    command: LogEvents, batch: EventBatch, held: Sequence[bytes], durable: Durable, log: EventLog
) -> None:
    """Store the new events. Their reservation ends with the write, whoever still waits for it."""

    def settle(done: Durable) -> None:
        if done.cancelled() or done.exception() is not None:
            log.window.release(held)
        else:
            log.window.confirm(held)
            log.pending.add(command.project, done.result())

    durable.add_done_callback(settle)
    try:
        encoded = await beside(command.heavy, lambda: log.codec.encode(batch))
        log.commits.submit(encoded, durable)
    except BaseException:
        durable.cancel()
        raise
    await asyncio.shield(durable)


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


def _kept(
    command: LogEvents, rejected: Sequence[tuple[int, Rejection]], now_us: int, limits: Limits
) -> list[RejectedEvent]:
    kept = []
    for place, why in rejected:
        item = command.items[place]
        source = item.source or "" if isinstance(item, Event) else ""
        payload = command.payload_of(place)[: limits.kept_payload_bytes]
        kept.append(RejectedEvent(command.project, why, now_us, source, payload))
    return kept


def _conflict(event: Event) -> Rejection:
    return Rejection(
        event.event_id,
        Reason.CONFLICTING_DUPLICATE,
        "event_id",
        "was used before for an event with other content, which stands; "
        "send a different event under an id of its own",
    )


def _out_of_range(event: Event, now_us: int, limits: Limits) -> Rejection:
    seconds = event.time_us / MICROSECONDS
    now = now_us / MICROSECONDS
    return Rejection(
        event.event_id,
        Reason.EVENT_TIME_OUT_OF_RANGE,
        "event_time",
        f"is {seconds:.0f} s after 1970; allowed: from 0 to {limits.event_lead_s} s after it is "
        f"received, now {now + limits.event_lead_s:.0f} s: send the time when it happened, in UTC",
    )
