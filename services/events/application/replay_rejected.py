"""Send rejected events into the log again: as they were after a fix of ours, or corrected."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.events.application.log_events import Logged
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from services.events.ports import RejectedEvents
from shared.errors import DomainError

PORTION = 50
"""Events that are read and logged at once; with their payloads they are as large as a call."""


class Outcome(enum.Enum):
    """The values are the names of touchstone.events.v1.ReplayOutcome without their prefix."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"
    NOT_REPLAYABLE = "NOT_REPLAYABLE"
    NOT_FOUND = "NOT_FOUND"
    NOT_TRIED = "NOT_TRIED"


@dataclass(frozen=True, slots=True)
class Item:
    """A rejected event to replay; `corrected` is the encoded event to store instead of it."""

    number: int
    corrected: bytes | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """What is asked for. A trial stores nothing and leaves everything where it is."""

    project: str
    items: Sequence[Item]
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one."""

    number: int
    outcome: Outcome
    rejection: Rejection | None = None
    note: str = ""


@dataclass(slots=True)
class Replayed:
    """What became of each, in order, and the journal position that covers what is stored."""

    results: list[Result] = field(default_factory=list)
    position: int = 0

    def tried(self) -> list[Result]:
        """The ones that had their turn."""
        return [one for one in self.results if one.outcome is not Outcome.NOT_TRIED]


class Door(Protocol):
    """A way into the log for events that are kept as rejected already."""

    def readable(self, payload: bytes) -> bool:
        """Whether the payload is an encoded event."""
        ...

    def log(self, project: str, payloads: Sequence[bytes]) -> Logged:
        """Store encoded events, durably; what is rejected is told and not kept once more."""
        ...


def replay_rejected(command: Replay, store: RejectedEvents, door: Door) -> Replayed:
    """Replay portion by portion, each settled before the next one is read.

    An event that is stored when a crash keeps it from leaving the rejected ones is a duplicate in
    the next replay, and leaves then. A failure after the first portion ends the replay early: what
    was not tried is told; one in the first portion is raised.
    """
    replayed = Replayed()
    for portion in _portions(command.items):
        try:
            replayed.results += _replay(command, portion, store, door, replayed)
        except DomainError:
            if not replayed.results:
                raise
            rest = command.items[len(replayed.results) :]
            replayed.results += [Result(item.number, Outcome.NOT_TRIED) for item in rest]
            break
    return replayed


def _portions(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), PORTION):
        yield items[start : start + PORTION]


def _replay(
    command: Replay,
    portion: Sequence[Item],
    store: RejectedEvents,
    door: Door,
    replayed: Replayed,
) -> list[Result]:
    kept = store.get(command.project, [item.number for item in portion])
    sent = {
        item: payload
        for item in portion
        if (payload := _payload(item, kept.get(item.number), door)) is not None
    }
    found: dict[int, Result] = {}
    if sent:
        logged = door.log(command.project, list(sent.values()))
        found = _outcomes(list(sent), logged)
        if not command.trial:
            replayed.position = max(replayed.position, logged.position)
            _settle(command.project, list(sent), found, store)
    return [found.get(item.number) or _unsent(item, kept) for item in portion]


def _payload(item: Item, event: RejectedEvent | None, door: Door) -> bytes | None:
    """What to log; None when there is nothing that could be."""
    if event is None:
        return None
    if item.corrected is not None:
        return item.corrected
    whole = event.payload and not event.truncated and door.readable(event.payload)
    return event.payload if whole else None


def _unsent(item: Item, kept: Mapping[int, RejectedEvent]) -> Result:
    event = kept.get(item.number)
    if event is None:
        return Result(item.number, Outcome.NOT_FOUND)
    if event.rejection.reason is Reason.UNIT_ERASED:
        note = "nothing of the event is kept, because its unit was erased"
    elif event.truncated:
        note = f"only the first {len(event.payload)} bytes of the event are kept"
    else:
        note = f"the {len(event.payload)} bytes that are kept are no event"
    return Result(item.number, Outcome.NOT_REPLAYABLE, note=f"{note}: send a corrected one")


def _outcomes(sent: Sequence[Item], logged: Logged) -> dict[int, Result]:
    rejected, duplicates = dict(logged.rejected), set(logged.duplicates)
    found = {}
    for place, item in enumerate(sent):
        if place in rejected:
            found[item.number] = Result(item.number, Outcome.REJECTED, rejected[place])
        else:
            outcome = Outcome.DUPLICATE if place in duplicates else Outcome.ACCEPTED
            found[item.number] = Result(item.number, outcome)
    return found


def _settle(
    project: str, sent: Sequence[Item], found: Mapping[int, Result], store: RejectedEvents
) -> None:
    stored = [number for number, result in found.items() if result.rejection is None]
    # The reason of a corrected event is not one of the event that is kept.
    again = {
        item.number: rejection
        for item in sent
        if item.corrected is None and (rejection := found[item.number].rejection) is not None
    }
    store.settle(project, stored, again)
